//! Strings, numbers and booleans: types, units, and strings that stand for something else.

use super::{Walk, allows, is_secret};
use crate::settings::problem::KeyPath;
use serde_json::{Number, Value};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Longer than anybody waits or keeps; times from now on by it, and ten times that, are within what clocks can tell.
const LONGEST_DURATION: Duration = Duration::from_secs(36_500 * 86_400);
/// A shorter one would be as good as none, and what rests for it would never rest.
const SHORTEST_DURATION: Duration = Duration::from_millis(1);

impl Walk<'_> {
    /// A string where a number, boolean, list or table is wanted is read as that: the environment and variables know
    /// nothing but strings.
    pub(super) fn parse_text(&mut self, schema: &Value, value: &mut Value) {
        let Value::String(text) = &*value else { return };
        if allows(schema, "string") {
            return;
        }
        let parsed = match serde_json::from_str::<Value>(text.trim()) {
            Ok(parsed) if type_names(&parsed).iter().any(|kind| allows(schema, kind)) => parsed,
            // `+1`, `.5` and the like are no JSON; nor need they be numbers.
            _ => return,
        };
        collect_texts(&parsed, &mut self.secrets);
        *value = parsed;
    }

    pub(super) fn scalar(&mut self, schema: &Value, value: &mut Value, path: &KeyPath) {
        let format = schema.get("format").and_then(Value::as_str);
        if let (Some("size"), Value::Number(bytes)) = (format, &*value) {
            // A number of bytes without a unit.
            *value = Value::from(bytes.to_string());
        }
        if !type_names(value).iter().any(|kind| allows(schema, kind)) {
            let remedy = if value.is_string() || value.is_null() { None } else { remedy_for(schema) };
            self.fault(path, format!("wants {}, not {}", wanted(schema), kind_of(value)), remedy);
            return;
        }
        match value {
            Value::String(text) if is_secret(schema) => self.secrets.push(text.clone()),
            Value::String(text) => {
                let words = words(schema);
                if !words.is_empty() && !words.contains(&text.as_str()) {
                    self.not_a_word(&words, &Value::from(text.as_str()), path);
                    return;
                }
                self.text(format, text, path);
            }
            Value::Number(number) => self.number(schema, number, path),
            _ => {}
        }
    }

    fn text(&mut self, format: Option<&str>, text: &mut String, path: &KeyPath) {
        match format {
            Some("path") if text.is_empty() => self.fault(path, "wants a path, not an empty string", None),
            Some("path") => *text = beside(self.provenance.folder(path), text),
            Some("duration") => self.duration(text, path),
            Some("size") if bytesize::ByteSize::from_str(text).is_err() => {
                let remedy = Some("write it like `512KiB`, `64MiB` or `10GiB`".to_owned());
                self.fault(path, format!("{} is not a size", self.quote(text, path)), remedy);
            }
            _ => {}
        }
    }

    /// Whether a duration may be 0 depends on the key, and is checked with what it means.
    fn duration(&mut self, text: &str, path: &KeyPath) {
        let (fault, remedy) = match humantime::parse_duration(text) {
            Err(_) => ("is not a duration", "write it like `500ms`, `10s`, `5m` or `7d`"),
            Ok(length) if length > LONGEST_DURATION => ("is longer than 100 years", "give it `36500d` or less"),
            Ok(length) if length < SHORTEST_DURATION && !length.is_zero() => {
                ("is shorter than a millisecond", "give it `1ms` or more")
            }
            Ok(_) => return,
        };
        self.fault(path, format!("{} {fault}", self.quote(text, path)), Some(remedy.to_owned()));
    }

    fn number(&mut self, schema: &Value, number: &Number, path: &KeyPath) {
        let limit = |word: &str| schema.get(word).and_then(Value::as_f64);
        let shown = number.as_f64().unwrap_or_default();
        if let Some(least) = limit("minimum").filter(|least| shown < *least) {
            self.fault(path, format!("{number} is less than {least}"), None);
        } else if let Some(most) = limit("maximum").filter(|most| shown > *most) {
            self.fault(path, format!("{number} is more than {most}"), None);
        }
    }
}

/// The strings in a value that a variable may have brought: messages must not show them.
fn collect_texts(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|inner| collect_texts(inner, texts)),
        Value::Object(table) => table.values().for_each(|inner| collect_texts(inner, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The path as it counts from `folder`, without `.` in it.
pub(super) fn beside(folder: &Path, path: &str) -> String {
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined).to_string_lossy().into_owned()
}

/// The names that JSON Schema has for the value's type.
pub(super) fn type_names(value: &Value) -> &'static [&'static str] {
    match value {
        Value::Null => &["null"],
        Value::Bool(_) => &["boolean"],
        Value::Number(number) if number.is_f64() => &["number"],
        Value::Number(_) => &["integer", "number"],
        Value::String(_) => &["string"],
        Value::Array(_) => &["array"],
        Value::Object(_) => &["object"],
    }
}

/// What a value is, for people; never the value.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// What the schema wants, for people.
pub(super) fn wanted(schema: &Value) -> String {
    match schema.get("format").and_then(Value::as_str) {
        Some("duration") => return "a duration".to_owned(),
        Some("size") => return "a size".to_owned(),
        Some("path") => return "a path".to_owned(),
        _ => {}
    }
    let words = words(schema);
    if !words.is_empty() {
        return format!("one of {}", words.join(", "));
    }
    let names = [
        ("boolean", "true or false"),
        ("integer", "a whole number"),
        ("number", "a number"),
        ("string", "a string"),
        ("array", "a list"),
        ("object", "a table"),
    ];
    let mut wanted: Vec<&str> = names.iter().filter(|(kind, _)| allows(schema, kind)).map(|(_, name)| *name).collect();
    if wanted.contains(&"a whole number") {
        wanted.retain(|name| *name != "a number");
    }
    wanted.join(" or ")
}

fn remedy_for(schema: &Value) -> Option<String> {
    let example = match schema.get("format").and_then(Value::as_str) {
        Some("duration") => "write it with its unit, like `10s`",
        Some("size") => "write it with its unit, like `64MiB`",
        _ if allows(schema, "string") => "put it in quotes",
        _ => return None,
    };
    Some(example.to_owned())
}

/// The strings that the schema allows, if it names them.
pub(super) fn words(schema: &Value) -> Vec<&str> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    listed.chain(schema.get("const")).filter_map(Value::as_str).collect()
}

/// Whether the schema is of a path.
pub(super) fn is_path(schema: &Value) -> bool {
    schema.get("format").is_some_and(|format| format == "path")
}
