//! Values that are taken out before anybody keeps or sees them.
//!
//! A body is JSON text, and stays what it was around the values: order, spelling and digits of everything else are the
//! provider's.

use super::{members, v1, v2};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::ops::Range;

/// What stands in a value's place.
const REDACTED: &[u8] = br#""[redacted]""#;

/// What the relay itself lives by.
const NEEDED: [&str; 8] =
    ["id", "type", "version", "timestamp", "event_category", "event_label", "sandbox_id", "sandbox_team_id"];

/// Paths into the record, such as `event_data.sandbox_metadata.email`.
///
/// A step is a member's name, or `*` for every member; lists are looked through. A name with dots in it is found by as
/// many steps. What is not there is no fault.
#[derive(Debug, Clone, Default)]
pub struct Redaction {
    paths: Vec<Vec<String>>,
}

/// A path that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedactionError {
    /// Nothing before, between or behind dots.
    #[error("has an empty step")]
    EmptyStep,
    /// The whole of a field that is needed.
    #[error("is a field that the relay itself needs")]
    Needed,
}

impl Redaction {
    /// Understands one path.
    pub fn parse_path(path: &str) -> Result<Vec<String>, RedactionError> {
        let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
        match steps.as_slice() {
            _ if steps.iter().any(String::is_empty) => Err(RedactionError::EmptyStep),
            [first, ..] if first == "*" || NEEDED.contains(&first.as_str()) => Err(RedactionError::Needed),
            _ => Ok(steps),
        }
    }

    /// Understands all of them.
    pub fn new<S: AsRef<str>>(paths: &[S]) -> Result<Self, RedactionError> {
        let paths = paths.iter().map(|path| Self::parse_path(path.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { paths })
    }

    /// A body without the values. One that is not read as an object, which no event's body is, comes back as it is.
    pub fn body(&self, body: Bytes) -> Bytes {
        let Ok(text) = std::str::from_utf8(&body) else { return body };
        let mut found = Vec::new();
        if !self.paths.is_empty()
            && let Ok(members) = members::read(text)
        {
            for (name, value) in members {
                let field = v2::field(&name).or_else(|| v1::field(&name));
                let name = field.map_or(&*name, |field| field.name());
                self.paths.iter().for_each(|path| member(name, value, path, &mut found));
            }
        }
        if found.is_empty() { body } else { without(text, found).into() }
    }
}

/// Notes where below a member the path leads to.
fn member<'a>(name: &str, value: &'a RawValue, path: &[String], found: &mut Vec<&'a str>) {
    for steps in 1..=path.len() {
        let Some((own, rest)) = path.split_at_checked(steps) else { return };
        if (steps == 1 && own == ["*"]) || own.join(".") == name {
            below(value, rest, found);
        }
    }
}

fn below<'a>(value: &'a RawValue, path: &[String], found: &mut Vec<&'a str>) {
    let text = value.get();
    match text.as_bytes().first() {
        _ if path.is_empty() => found.push(text),
        Some(b'{') => {
            for (name, value) in members::read(text).unwrap_or_default() {
                member(&name, value, path, found);
            }
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            elements.into_iter().for_each(|element| below(element, path, found));
        }
        _ => {}
    }
}

/// `text` without its parts `found`.
fn without(text: &str, found: Vec<&str>) -> Vec<u8> {
    let start = text.as_ptr() as usize;
    let range = |part: &str| -> Range<usize> {
        let at = (part.as_ptr() as usize).saturating_sub(start);
        at..at + part.len()
    };
    let mut ranges: Vec<Range<usize>> = found.into_iter().map(range).collect();
    // One path may lead to what lies within another's; the outer one comes first, and takes the inner along.
    ranges.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    let (mut redacted, mut copied) = (Vec::with_capacity(text.len()), 0);
    for range in ranges {
        if range.start >= copied {
            redacted.extend_from_slice(text.as_bytes().get(copied..range.start).unwrap_or_default());
            redacted.extend_from_slice(REDACTED);
            copied = range.end;
        }
    }
    redacted.extend_from_slice(text.as_bytes().get(copied..).unwrap_or_default());
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(paths: &[&str], body: &str) -> String {
        let redaction = Redaction::new(paths).expect("paths");
        String::from_utf8(redaction.body(Bytes::from(body.to_owned())).to_vec()).expect("text")
    }

    #[test]
    fn only_the_values_go_and_everything_else_stays_as_it_came() {
        let body = r#"{ "id":"1",  "event_data" : {"sandbox_metadata": {"email": "a@b", "n": 1.50}, "b": null} }"#;
        assert_eq!(
            redacted(&["event_data.sandbox_metadata.email"], body),
            r#"{ "id":"1",  "event_data" : {"sandbox_metadata": {"email": "[redacted]", "n": 1.50}, "b": null} }"#
        );
        assert_eq!(redacted(&["event_data.nothing", "further.x"], body), body);
        assert_eq!(redacted(&[], body), body);
    }

    #[test]
    fn paths_are_the_records_whatever_the_body_spells() {
        assert_eq!(
            redacted(&["event_data.sandbox_metadata.email"], r#"{"eventData":{"sandbox_metadata":{"email":1}}}"#),
            r#"{"eventData":{"sandbox_metadata":{"email":"[redacted]"}}}"#
        );
        assert_eq!(redacted(&["event_data"], r#"{"event\u005fdata":{}}"#), r#"{"event\u005fdata":"[redacted]"}"#);
    }

    #[test]
    fn names_may_hold_dots_escapes_and_anything_below_may_be_meant() {
        assert_eq!(
            redacted(&["a.b.c"], r#"{"a.b":{"c":1},"a":{"b.c":2,"b":{"c":3}}}"#).matches("[redacted]").count(),
            3
        );
        assert_eq!(
            redacted(&["a.*"], r#"{"a":{"x":1,"y":[2]},"b":3}"#),
            r#"{"a":{"x":"[redacted]","y":"[redacted]"},"b":3}"#
        );
        assert_eq!(
            redacted(&["a.x"], r#"{"a":[{"x":1},[{"x":2}],3]}"#),
            r#"{"a":[{"x":"[redacted]"},[{"x":"[redacted]"}],3]}"#
        );
        assert_eq!(redacted(&["a.é"], r#"{"a":{"\u00e9":1}}"#), r#"{"a":{"\u00e9":"[redacted]"}}"#);
    }

    #[test]
    fn paths_within_each_other_take_the_outer_value() {
        for paths in [["a", "a.b"], ["a.b", "a"], ["a", "a"]] {
            assert_eq!(redacted(&paths, r#"{"a":{"b":1},"c":2}"#), r#"{"a":"[redacted]","c":2}"#);
        }
    }

    #[test]
    fn what_the_relay_needs_and_what_is_no_path_is_refused() {
        for path in ["id", "type", "timestamp", "sandbox_id", "sandbox_team_id", "event_label", "*", "*.x", "id.x"] {
            assert_eq!(Redaction::new(&[path]).expect_err(path), RedactionError::Needed);
        }
        for path in ["", ".", "a..b", "a.", ".a"] {
            assert_eq!(Redaction::new(&[path]).expect_err(path), RedactionError::EmptyStep);
        }
    }
}
