//! The members of one JSON object, borrowed from its text.

use super::Malformed;
use super::strict::Violation;
use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A decoded name and the JSON text of its value as it came.
pub(super) type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// The members in their order. Names are not compared here.
pub(super) fn read(text: &str) -> Result<Vec<Member<'_>>, Malformed> {
    struct Object;
    impl<'de> Visitor<'de> for Object {
        type Value = Vec<Member<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::with_capacity(16);
            while let Some((Name(name), value)) = map.next_entry()? {
                members.push((name, value));
            }
            Ok(members)
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_map(Object).and_then(|members| json.end().map(|()| members));
    members.map_err(|error| Malformed::NotStrictJson {
        violation: Violation::Syntax,
        // serde_json counts in lines and columns; nothing past the strict reading gets here in practice.
        offset: error.column(),
    })
}

/// Borrowed unless it has an escape.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Takes the white space between tokens out; strings and the digits of numbers stay as they are.
pub(super) fn compact(value: &RawValue) -> Cow<'_, str> {
    let text = value.get();
    // In a text without any there is none to take out; most are such.
    if !text.bytes().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        return Cow::Borrowed(text);
    }
    let mut outside = OutsideStrings::default();
    Cow::Owned(text.chars().filter(|character| !outside.is_white_space(*character)).collect())
}

/// Follows JSON text to tell white space between tokens from that in strings.
#[derive(Default)]
struct OutsideStrings {
    in_string: bool,
    escaped: bool,
}

impl OutsideStrings {
    fn is_white_space(&mut self, character: char) -> bool {
        match character {
            _ if self.escaped => self.escaped = false,
            '\\' if self.in_string => self.escaped = true,
            '"' => self.in_string = !self.in_string,
            ' ' | '\t' | '\n' | '\r' => return !self.in_string,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_between_tokens_goes() {
        let text = "\t{ \"a\" : { \"x y\" : [ 1 , 2.50 , \"\\\" \\\\\" , { } ] } ,\r\n \"b\":1E+2 }\n";
        let members = read(text).expect("valid");
        let members: Vec<_> = members.iter().map(|(name, value)| (&**name, compact(value))).collect();
        let members: Vec<_> = members.iter().map(|(name, value)| (*name, &**value)).collect();
        assert_eq!(members, [("a", r#"{"x y":[1,2.50,"\" \\",{}]}"#), ("b", "1E+2")]);
    }
}
