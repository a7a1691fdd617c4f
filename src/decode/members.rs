//! The members of one JSON object, their values as compact text.

use super::Malformed;
use super::strict::Violation;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A decoded name and the compact JSON text of its value.
pub(super) type Member = (String, Box<RawValue>);

/// The members in their order. Names are not compared here.
pub(super) fn read(text: &str) -> Result<Vec<Member>, Malformed> {
    struct Object;
    impl<'de> Visitor<'de> for Object {
        type Value = Vec<Member>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::with_capacity(16);
            while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                members.push((name, compact(value).map_err(A::Error::custom)?));
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

/// Takes the white space between tokens out; strings and the digits of numbers stay as they are.
fn compact(value: &RawValue) -> serde_json::Result<Box<RawValue>> {
    let text = value.get();
    let mut outside = OutsideStrings::default();
    if !text.chars().any(|character| outside.is_white_space(character)) {
        return Ok(value.to_owned());
    }
    let mut outside = OutsideStrings::default();
    RawValue::from_string(text.chars().filter(|character| !outside.is_white_space(*character)).collect())
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
        let members: Vec<_> = members.iter().map(|(name, value)| (name.as_str(), value.get())).collect();
        assert_eq!(members, [("a", r#"{"x y":[1,2.50,"\" \\",{}]}"#), ("b", "1E+2")]);
    }
}
