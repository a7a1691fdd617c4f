//! What a configuration says, to be compared with what the one before it said: so a reload touches only what changed.
//!
//! Compared is the merged tree, and not the structs made of it: no key can be forgotten, and what a secret or a
//! certificate's file holds counts like the rest. The price is that a default counts as a change once it is written out.

use serde_json::{Map, Value};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::Path;

/// The largest file whose content is looked at, in bytes; of a larger one its first part.
const MAX_FILE: u64 = 1024 * 1024;

/// A part of a configuration, with hashes in the place of texts: it tells no secret, and can only be compared.
#[derive(Clone, PartialEq, Eq)]
pub struct Said(Value);

impl Said {
    /// `tree` is the whole, with paths absolute and the secrets of files in it. Reads the other files that it names.
    pub(super) fn of(tree: &Value) -> Self {
        Self(hashed("", tree))
    }

    /// A name by itself, which may be all that something is told apart by.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self(Value::from(hash(name.as_bytes())))
    }

    /// What stands under these keys, from the outermost on.
    #[must_use]
    pub fn at(&self, keys: &[&str]) -> Self {
        let found = keys.iter().try_fold(&self.0, |here, key| here.get(*key));
        Self(found.cloned().unwrap_or_default())
    }

    /// The same table without some of its keys.
    #[must_use]
    pub fn without(mut self, keys: &[&str]) -> Self {
        if let Value::Object(table) = &mut self.0 {
            table.retain(|key, _| !keys.contains(&key.as_str()));
        }
        self
    }
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Said")
    }
}

fn hashed(key: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if names_file(key) => Value::from(vec![hash(text.as_bytes()), hash(&content(text))]),
        Value::String(text) => Value::from(hash(text.as_bytes())),
        Value::Array(list) => list.iter().map(|value| hashed(key, value)).collect(),
        Value::Object(table) => {
            Value::Object(table.iter().map(|(key, value)| (key.clone(), hashed(key, value))).collect::<Map<_, _>>())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Whether the file is one that is read: in the relay's own keys, and in librdkafka's.
fn names_file(key: &str) -> bool {
    key.ends_with("_file") || key.ends_with(".location")
}

/// Whoever uses the file says why it cannot be read.
fn content(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(Path::new(path)).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    bytes
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_named_file_holds_counts_and_a_file_that_is_written_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let said = |key: &str| Said::of(&json!({"sinks": {"lake": {key: path.to_str().unwrap()}}}));
        for (key, counts) in [("ca_file", true), ("ssl.ca.location", true), ("path", false)] {
            let missing = said(key);
            std::fs::write(&path, "one").unwrap();
            let one = said(key);
            std::fs::write(&path, "two").unwrap();
            assert_eq!((missing != one, one != said(key)), (counts, counts), "{key}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn parts_are_compared_by_themselves() {
        let one = Said::of(&json!({"a": {"b": ["x", "hunter2"], "c": 1}}));
        let other = Said::of(&json!({"a": {"b": ["x", "hunter3"], "c": 1}}));
        assert_ne!(one, other);
        assert_eq!(one.at(&["a", "c"]), other.at(&["a", "c"]));
        assert_ne!(one.at(&["a", "b"]), other.at(&["a", "b"]));
        assert_eq!(one.at(&["a"]).without(&["b"]), other.at(&["a"]).without(&["b"]));
        assert_eq!(one.at(&["z"]), one.at(&["a", "z"]));
        assert!(!format!("{one:?}{}", one.0).contains("hunter2"));
    }
}
