//! Whether a text is one JSON object (RFC 8259) that every parser reads alike.
//!
//! Parsers differ on what a key means that comes twice, on half a surrogate pair, on numbers past a double, on depth and
//! on what follows the value. What they differ on does not get in, so that every consumer sees what was verified here.

use super::Malformed;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// How deep objects and arrays may stand in each other, the outermost object included.
pub const MAX_DEPTH: usize = 64;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// U+FEFF before the object.
    ByteOrderMark,
    /// Not JSON.
    Syntax,
    /// Another value than an object.
    NotAnObject,
    /// Something after the object.
    Trailing,
    /// A key that the same object has already, escapes decoded.
    DuplicateKey,
    /// `\ud800` to `\udfff` without its other half.
    LoneSurrogate,
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
    /// A number that no double can hold.
    NumberRange,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::TooDeep {
            return write!(f, "more than {MAX_DEPTH} levels");
        }
        f.write_str(match self {
            Self::ByteOrderMark => "a byte order mark",
            Self::Syntax => "not JSON",
            Self::NotAnObject => "not a JSON object",
            Self::Trailing => "something after the JSON object",
            Self::DuplicateKey => "a key twice in one object",
            Self::LoneSurrogate => "a lone surrogate",
            Self::TooDeep => "too deep",
            Self::NumberRange => "a number outside a double",
        })
    }
}

/// `Ok` for one object with nothing but white space around it.
pub(super) fn check(text: &str) -> Result<(), Malformed> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.document().map_err(|violation| Malformed::NotStrictJson { violation, offset: scanner.at })
}

/// So many keys are compared one by one; most objects have fewer.
const FEW_KEYS: usize = 16;

/// The keys that an object has had.
#[derive(Default)]
struct Keys<'a> {
    few: Vec<Cow<'a, str>>,
    many: BTreeSet<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    /// `false` where it was there.
    fn insert(&mut self, key: Cow<'a, str>) -> bool {
        if self.many.is_empty() {
            if self.few.contains(&key) {
                return false;
            }
            if self.few.len() < FEW_KEYS {
                self.few.push(key);
                return true;
            }
            self.many.extend(self.few.drain(..));
        }
        self.many.insert(key)
    }
}

/// `at` is always a character's first byte, or the text's end.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn document(&mut self) -> Result<(), Violation> {
        if self.text.starts_with('\u{feff}') {
            return Err(Violation::ByteOrderMark);
        }
        self.white_space();
        if self.peek() != Some(b'{') {
            // Another JSON value deserves the better message.
            return Err(if self.value(1).is_ok() { Violation::NotAnObject } else { Violation::Syntax });
        }
        self.value(1)?;
        self.white_space();
        if self.peek().is_some() { Err(Violation::Trailing) } else { Ok(()) }
    }

    fn value(&mut self, depth: usize) -> Result<(), Violation> {
        match self.peek() {
            Some(b'{' | b'[') if depth > MAX_DEPTH => Err(Violation::TooDeep),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => ["true", "false", "null"].into_iter().any(|word| self.take_word(word)).or_syntax(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Violation> {
        let mut keys = Keys::default();
        self.at += 1;
        self.white_space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.white_space();
            let start = self.at;
            if !keys.insert(self.string()?) {
                self.at = start;
                return Err(Violation::DuplicateKey);
            }
            self.white_space();
            self.take(b':').or_syntax()?;
            self.white_space();
            self.value(depth + 1)?;
            self.white_space();
            if !self.take(b',') {
                return self.take(b'}').or_syntax();
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Violation> {
        self.at += 1;
        self.white_space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.white_space();
            self.value(depth + 1)?;
            self.white_space();
            if !self.take(b',') {
                return self.take(b']').or_syntax();
            }
        }
    }

    /// A string, its escapes decoded.
    fn string(&mut self) -> Result<Cow<'a, str>, Violation> {
        self.take(b'"').or_syntax()?;
        let mut decoded = Cow::Borrowed("");
        loop {
            let plain = self.rest();
            let length = plain.bytes().take_while(|byte| *byte >= 0x20 && !matches!(byte, b'"' | b'\\')).count();
            let plain = plain.get(..length).ok_or(Violation::Syntax)?;
            if decoded.is_empty() {
                decoded = Cow::Borrowed(plain);
            } else {
                decoded.to_mut().push_str(plain);
            }
            self.at += length;
            if self.take(b'"') {
                return Ok(decoded);
            }
            self.take(b'\\').or_syntax()?;
            let character = self.escape()?;
            decoded.to_mut().push(character);
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Violation> {
        let escape = self.peek().ok_or(Violation::Syntax)?;
        let character = match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(Violation::Syntax),
        };
        self.at += 1;
        Ok(character)
    }

    /// `uXXXX`, or a surrogate pair of two.
    fn unicode_escape(&mut self) -> Result<char, Violation> {
        let first = self.code_unit()?;
        let units = if (0xd800..0xdc00).contains(&first) {
            self.take(b'\\').then_some(()).ok_or(Violation::LoneSurrogate)?;
            if self.peek() != Some(b'u') {
                return Err(Violation::LoneSurrogate);
            }
            [first, self.code_unit()?]
        } else {
            [first, 0]
        };
        // A pair makes one character; what is no surrogate is followed by the 0, which is not looked at.
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(Violation::LoneSurrogate),
        }
    }

    fn code_unit(&mut self) -> Result<u16, Violation> {
        self.take(b'u').or_syntax()?;
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).ok_or(Violation::Syntax)?;
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Violation> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let number = self.text.get(start..self.at).and_then(|digits| digits.parse::<f64>().ok());
        if number.is_some_and(f64::is_finite) {
            Ok(())
        } else {
            self.at = start;
            Err(Violation::NumberRange)
        }
    }

    /// One or more.
    fn digits(&mut self) -> Result<(), Violation> {
        let length = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += length;
        (length > 0).or_syntax()
    }

    fn white_space(&mut self) {
        self.at += self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// `byte` is ASCII.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }
}

trait OrSyntax {
    fn or_syntax(self) -> Result<(), Violation>;
}

impl OrSyntax for bool {
    fn or_syntax(self) -> Result<(), Violation> {
        if self { Ok(()) } else { Err(Violation::Syntax) }
    }
}

#[cfg(test)]
mod tests;
