//! Values that are taken out before anybody keeps or sees them.
//!
//! A body is JSON text, and stays what it was around the values: order, spelling and digits of everything else are the
//! provider's.

use super::{members, strict, v1, v2};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::ops::Range;

/// What stands in a value's place.
const REDACTED: &[u8] = br#""[redacted]""#;

/// What the relay itself lives by; ids, types and times, of which none is a person's.
const NEEDED: [&str; 12] = [
    "id",
    "type",
    "version",
    "timestamp",
    "event_category",
    "event_label",
    "sandbox_id",
    "sandbox_execution_id",
    "sandbox_template_id",
    "sandbox_build_id",
    "sandbox_team_id",
    "relay",
];

/// Where an event has the sandbox's metadata, as a JSON pointer.
const METADATA: &str = "/event_data/sandbox_metadata";

/// Under which name the record has what came in under the relay's own.
const RECEIVED: [&str; 2] = ["relay", "received"];

/// Paths into the record, such as `event_data.sandbox_metadata.email`.
///
/// A step is a member's name, or `*` for every member; lists are looked through. A name with dots in it is found by as
/// many steps. What is not there is no fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Redaction {
    paths: Vec<Vec<String>>,
}

/// A path that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedactionError {
    /// Nothing before, between or behind dots.
    #[error("{0:?} has an empty step; write it like event_data.sandbox_metadata.email")]
    EmptyStep(String),
    /// The whole of a field that is needed.
    #[error(
        "{0:?} is a field that the relay itself needs; name something in event_data, or a field that it does not know"
    )]
    Needed(String),
}

impl TryFrom<Vec<String>> for Redaction {
    type Error = RedactionError;

    fn try_from(paths: Vec<String>) -> Result<Self, RedactionError> {
        let parsed = paths.into_iter().map(|path| {
            let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
            let is_needed = |first: &String| first == "*" || NEEDED.contains(&first.as_str());
            if steps.iter().any(String::is_empty) {
                Err(RedactionError::EmptyStep(path))
            } else if !steps.starts_with(&RECEIVED.map(str::to_owned)) && steps.first().is_some_and(is_needed) {
                Err(RedactionError::Needed(path))
            } else {
                Ok(steps)
            }
        });
        Ok(Self { paths: parsed.collect::<Result<_, _>>()? })
    }
}

impl From<Redaction> for Vec<String> {
    fn from(redaction: Redaction) -> Self {
        redaction.paths.iter().map(|path| path.join(".")).collect()
    }
}

impl Redaction {
    /// Whether nothing is taken out.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// A body without the values. One that is not read as an object, which no event's body is, comes back as it is.
    pub fn body(&self, body: Bytes) -> Bytes {
        let Ok(text) = std::str::from_utf8(&body) else { return body };
        let mut found = Vec::new();
        if !self.is_empty()
            && let Ok(members) = members::read(text)
        {
            for (name, value) in members {
                let field = v2::field(&name).or_else(|| v1::field(&name));
                let name = field.map_or(&*name, |field| field.name());
                for path in &self.paths {
                    match path.strip_prefix(&RECEIVED.map(str::to_owned)) {
                        Some(received) if name == "relay" => below(value, received, &mut found),
                        Some(_) => {}
                        None => member(name, value, path, &mut found),
                    }
                }
            }
        }
        if found.is_empty() { body } else { without(text, found).into() }
    }

    /// The copy of a body that is no event, as far as it can be read as one object, of which alone it is known where the
    /// values are.
    pub fn copy(&self, body: Bytes) -> Option<Bytes> {
        let is_object = |text: &str| strict::check(text).is_ok();
        let is_readable = self.is_empty() || std::str::from_utf8(&body).is_ok_and(is_object);
        is_readable.then(|| self.body(body))
    }

    /// A sandbox's metadata as its events would have it.
    pub fn metadata(&self, metadata: Map<String, Value>) -> Option<Map<String, Value>> {
        if self.is_empty() {
            return Some(metadata);
        }
        let event = json!({"event_data": {"sandbox_metadata": metadata}});
        match serde_json::from_slice::<Value>(&self.body(event.to_string().into())).ok()?.pointer_mut(METADATA)? {
            Value::Object(metadata) => Some(std::mem::take(metadata)),
            _ => None,
        }
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
        String::from_utf8(redaction(paths).expect("paths").body(Bytes::from(body.to_owned())).to_vec()).expect("text")
    }

    fn redaction(paths: &[&str]) -> Result<Redaction, RedactionError> {
        Redaction::try_from(paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>())
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
        for path in
            ["id", "type", "timestamp", "sandbox_id", "sandbox_team_id", "event_label", "*", "*.x", "id.x", "relay"]
        {
            assert_eq!(redaction(&[path]).expect_err(path), RedactionError::Needed(path.to_owned()));
        }
        for path in ["", ".", "a..b", "a.", ".a"] {
            assert_eq!(redaction(&[path]).expect_err(path), RedactionError::EmptyStep(path.to_owned()));
        }
    }

    #[test]
    fn what_came_in_under_the_relays_own_name_is_found_where_the_record_has_it() {
        assert_eq!(
            redacted(&["relay.received.a"], r#"{"relay":{"a":1,"b":2}}"#),
            r#"{"relay":{"a":"[redacted]","b":2}}"#
        );
        assert_eq!(redacted(&["relay.received"], r#"{"relay":{"a":1}}"#), r#"{"relay":"[redacted]"}"#);
    }

    #[test]
    fn metadata_that_was_listed_is_as_the_events_have_it() {
        let metadata = || Map::from_iter([("email".to_owned(), json!("a@b")), ("env".to_owned(), json!("prod"))]);
        let of = |paths: &[&str]| redaction(paths).expect("paths").metadata(metadata());
        let email = Map::from_iter([("email".to_owned(), json!("[redacted]")), ("env".to_owned(), json!("prod"))]);
        assert_eq!(of(&["event_data.sandbox_metadata.email"]), Some(email));
        assert_eq!(of(&["event_data.set_timeout"]), Some(metadata()));
        assert_eq!((of(&["event_data.sandbox_metadata"]), of(&["event_data"])), (None, None));
    }

    #[test]
    fn a_copy_of_what_cannot_be_read_is_not_made() {
        let copy = |paths: &[&str], body: &'static str| {
            redaction(paths).expect("paths").copy(Bytes::from_static(body.as_bytes()))
        };
        assert_eq!(copy(&["a"], r#"{"a":1}"#).as_deref(), Some(&br#"{"a":"[redacted]"}"#[..]));
        assert_eq!(copy(&["a"], r#"{"a":1}{"a":2}"#), None);
        assert_eq!(copy(&[], "[1]").as_deref(), Some(&b"[1]"[..]));
    }
}
