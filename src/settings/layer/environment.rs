//! The environment as a layer: `E2B_RELAY__SERVER__LISTEN` overrides `server.listen`.

use super::Layer;
use crate::settings::problem::{KeyPath, Place, Problem, Problems};
use config::{Map, Value, ValueKind};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What the names of the variables that override keys begin with.
pub const PREFIX: &str = "E2B_RELAY__";

/// How messages name the layer; no file is named so, since a file's name has an ending.
pub(super) const NAME: &str = "the environment";

/// The process's environment, as a value: tests give their own, nothing reads the global one behind the caller's back.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// What this process was started with.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of a variable.
    ///
    /// # Errors
    /// `Err` if it is set but not UTF-8.
    pub fn get(&self, name: &str) -> Result<Option<&str>, NotUnicode> {
        self.0.get(OsStr::new(name)).map(|value| value.to_str().ok_or(NotUnicode)).transpose()
    }

    /// The variables that override keys, as a layer. Relative paths in them count from `folder`.
    ///
    /// # Errors
    /// Names or values that are not UTF-8, and names with an empty part.
    pub fn layer(&self, folder: PathBuf) -> Result<Layer, Problems> {
        let mut layer = Layer { name: NAME.into(), folder, places: BTreeMap::new(), values: Map::new() };
        let mut problems = Vec::new();
        for (name, value) in &self.0 {
            let shown = name.to_string_lossy();
            let Some(rest) = shown.strip_prefix(PREFIX) else { continue };
            let place = Place { origin: format!("environment variable {shown}").into(), line: None };
            let keys: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
            let key = KeyPath::of(keys.clone());
            let fault = |message| Problem::new(&KeyPath::root(), message).at(Some(place.clone()));
            if name.to_str().is_none() || keys.iter().any(String::is_empty) {
                problems.push(fault("does not name a key").remedy(format!("write {PREFIX}SECTION__KEY")));
                continue;
            }
            let Some(text) = value.to_str() else {
                problems.push(fault("is not UTF-8"));
                continue;
            };
            let origin = layer.name.to_string();
            if insert(&mut layer.values, &keys, Value::new(Some(&origin), text)) {
                layer.places.insert(key, place);
            } else {
                problems
                    .push(fault("sets a part of what another variable sets as a whole").remedy("unset one of them"));
            }
        }
        if problems.is_empty() { Ok(layer) } else { Err(Problems(problems)) }
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<T: IntoIterator<Item = (OsString, OsString)>>(variables: T) -> Self {
        Self(variables.into_iter().collect())
    }
}

/// A variable's value is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not UTF-8")]
pub struct NotUnicode;

/// Puts `value` under `keys`; false if a value is in the way. Names come in order, so a whole (`…__TLS`) is there before
/// its parts (`…__TLS__CERT_FILE`).
fn insert(table: &mut Map<String, Value>, keys: &[String], value: Value) -> bool {
    let Some((first, rest)) = keys.split_first() else { return false };
    if rest.is_empty() {
        return table.insert(first.clone(), value).is_none();
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::from(Map::<String, Value>::new()));
    match &mut inner.kind {
        ValueKind::Table(inner) => insert(inner, rest, value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Source;
    use std::os::unix::ffi::OsStringExt;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    #[test]
    fn two_underscores_part_the_keys_and_one_belongs_to_a_key() {
        let layer =
            environment(&[("E2B_RELAY__SERVER__MAX_BODY", "2MiB"), ("E2B_RELAY_ADMIN_URL", "x"), ("PATH", "y")])
                .layer(PathBuf::new())
                .unwrap();
        let values = layer.collect().unwrap();
        assert_eq!(values.keys().collect::<Vec<_>>(), ["server"]);
        let place = &layer.places[&KeyPath::of(["server", "max_body"])];
        assert_eq!(place.to_string(), "environment variable E2B_RELAY__SERVER__MAX_BODY");
    }

    #[test]
    fn a_whole_and_its_part_and_two_spellings_of_one_key_are_faults() {
        for pair in [["E2B_RELAY__SERVER__TLS", "E2B_RELAY__SERVER__TLS__KEY_FILE"], ["E2B_RELAY__A", "E2B_RELAY__a"]] {
            let problems = environment(&pair.map(|name| (name, "x"))).layer(PathBuf::new()).unwrap_err();
            assert!(problems.to_string().contains("unset one"), "{problems}");
        }
    }

    #[test]
    fn a_name_without_key_and_a_value_that_is_not_utf8_are_faults() {
        let mut environment = environment(&[("E2B_RELAY__", "x"), ("E2B_RELAY__A____B", "x")]);
        environment.0.insert("E2B_RELAY__A".into(), OsString::from_vec(vec![0xff]));
        assert_eq!(environment.layer(PathBuf::new()).unwrap_err().0.len(), 3);
    }
}
