//! The repository's own files of YAML, as JSON.
#![cfg(test)]

use serde_json::{Map, Value};
use std::path::Path;
use yaml_rust2::{Yaml, YamlLoader};

/// A file of one document, by its path in the repository.
pub(crate) fn file(path: &str) -> Value {
    let mut documents = documents(path);
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

/// Every document of a file, by its path in the repository.
pub(crate) fn documents(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    YamlLoader::load_from_str(&text).unwrap().iter().map(json_of).collect()
}

fn json_of(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Hash(map) => {
            let mut object = Map::new();
            for (key, value) in map {
                let value = json_of(value);
                match (key.as_str().expect("a key that is text"), value) {
                    // What stands beside it goes before it.
                    ("<<", Value::Object(merged)) => {
                        for (key, value) in merged {
                            object.entry(key).or_insert(value);
                        }
                    }
                    (key, value) => drop(object.insert(key.to_owned(), value)),
                }
            }
            Value::Object(object)
        }
        Yaml::Array(list) => list.iter().map(json_of).collect(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(given) => (*given).into(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Null => Value::Null,
        other => panic!("{other:?} is none of the things that our files hold"),
    }
}
