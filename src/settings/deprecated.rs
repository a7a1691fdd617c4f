//! Keys that have another name by now: the old one goes on to be taken for a version, with a warning, and then goes.

use super::problem::{KeyPath, Problem};
use super::provenance::Provenance;
use super::schema::{alternatives, twin};
use serde_json::{Map, Value, json};

/// A key that was renamed within its table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deprecated {
    /// The way to the old name, `*` for what users name: `sinks.*.old_name`.
    pub(super) old: &'static str,
    /// The new name.
    pub(super) new: &'static str,
    /// The first version that will not take the old one.
    pub(super) gone_in: &'static str,
}

/// What this version takes by an old name. A name goes one minor version after the one that began to warn.
pub(super) const DEPRECATED: &[Deprecated] = &[];

/// Gives each key its new name, as if it had been written so, and says so.
pub(super) fn rename(
    table: &[Deprecated],
    tree: &mut Value,
    provenance: &mut Provenance,
    warnings: &mut Vec<Problem>,
) -> Vec<Problem> {
    let mut faults = Vec::new();
    for deprecated in table {
        let steps: Vec<&str> = deprecated.old.split('.').collect();
        let mut found = Vec::new();
        tables(tree, &steps, KeyPath::root(), &mut |path, table| {
            let old = steps.last().copied().unwrap_or_default();
            // A secret may stand in a file.
            for (old, new) in [(old.to_owned(), deprecated.new.to_owned()), (twin(old), twin(deprecated.new))] {
                let (from, to) = (path.key(&old), path.key(&new));
                match table.remove(&old) {
                    Some(_) if table.contains_key(&new) => {
                        let problem = Problem::new(&from, format!("stands beside `{to}`, its name by now"));
                        faults.push(provenance.locate(problem.remedy(format!("take `{old}` out"))));
                    }
                    Some(value) => {
                        table.insert(new, value);
                        found.push((from, to));
                    }
                    None => {}
                }
            }
        });
        for (from, to) in found {
            let message = format!("is called `{to}` by now; version {} will not know the old name", deprecated.gone_in);
            warnings.push(provenance.locate(Problem::new(&from, message).remedy("rename it")));
            provenance.rename(&from, &to);
        }
    }
    faults
}

/// Calls `visit` with each table that the last of `steps` is a key of.
fn tables(value: &mut Value, steps: &[&str], path: KeyPath, visit: &mut dyn FnMut(&KeyPath, &mut Map<String, Value>)) {
    let (Value::Object(table), Some((step, rest))) = (value, steps.split_first()) else { return };
    if rest.is_empty() {
        visit(&path, table);
        return;
    }
    for (key, value) in table.iter_mut().filter(|(key, _)| *step == "*" || key == step) {
        tables(value, rest, path.key(key), visit);
    }
}

/// Adds the old names to the schema, marked as such.
pub(super) fn mark(table: &[Deprecated], schema: &mut Value) {
    for deprecated in table {
        mark_at(schema, &deprecated.old.split('.').collect::<Vec<_>>(), deprecated);
    }
}

fn mark_at(schema: &mut Value, steps: &[&str], deprecated: &Deprecated) {
    let Some((step, rest)) = steps.split_first() else { return };
    if alternatives(schema).is_some() {
        for word in ["anyOf", "oneOf"] {
            let list = schema.get_mut(word).and_then(Value::as_array_mut);
            list.into_iter().flatten().for_each(|schema| mark_at(schema, steps, deprecated));
        }
    }
    if let (true, Some(others)) = (*step == "*", schema.get_mut("additionalProperties")) {
        mark_at(others, rest, deprecated);
    }
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    if !rest.is_empty() {
        if let Some(inner) = properties.get_mut(*step) {
            mark_at(inner, rest, deprecated);
        }
        return;
    }
    for (old, new) in [((*step).to_owned(), deprecated.new.to_owned()), (twin(step), twin(deprecated.new))] {
        if let Some(mut known) = properties.get(&new).cloned()
            && let Value::Object(known) = &mut known
        {
            let description = format!("Called `{new}` by now; version {} will not know this name.", deprecated.gone_in);
            known.insert("description".to_owned(), json!(description));
            known.insert("deprecated".to_owned(), json!(true));
            properties.insert(old, Value::Object(known.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Environment, Loaded, Problems, load_with};
    use std::ffi::OsString;

    const TABLE: &[Deprecated] = &[
        Deprecated { old: "server.body_limit", new: "max_body", gone_in: "0.3.0" },
        Deprecated { old: "sources.*.webhook.keys", new: "secrets", gone_in: "0.3.0" },
        Deprecated { old: "sinks.*.file", new: "path", gone_in: "0.4.0" },
    ];
    const TEXT: &str = "server:\n  body_limit: 2MiB\nsources:\n  acme:\n    webhook:\n      keys_file: secrets\nsinks:\n  audit:\n    type: file\n    file: ./a.ndjson\n";

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secrets"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let file = folder.path().join("relay.yaml");
        std::fs::write(&file, text).unwrap();
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        load_with(&[file], &variables.collect::<Environment>(), TABLE, true)
    }

    #[test]
    fn an_old_name_is_taken_with_a_warning_that_says_where_and_until_when() {
        let loaded = load(TEXT, &[]).unwrap();
        let warnings: Vec<String> = loaded.warnings.iter().map(|warning| warning.to_string()).collect();
        let expected = [
            ["relay.yaml", "line 2", "server.body_limit", "`server.max_body`", "0.3.0"],
            ["relay.yaml", "line 6", "acme.webhook.keys_file", "`sources.acme.webhook.secrets_file`", "0.3.0"],
            ["relay.yaml", "line 10", "sinks.audit.file", "`sinks.audit.path`", "0.4.0"],
        ];
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, words) in warnings.iter().zip(expected) {
            let told = |word: &&str| warning.contains(word) || warning.contains(&word.replace("line ", ":"));
            assert!(words.iter().all(told) && warning.contains("rename it"), "{warning}");
        }
        assert_eq!(loaded.settings.server.max_body.as_u64(), 2 << 20);
        let webhook = loaded.settings.sources["acme"].webhook.as_ref().unwrap();
        assert_eq!(webhook.secrets[0].expose(), "0123456789abcdef0123456789abcdef");
        let shown = loaded.shown.to_string();
        assert!(loaded.shown["server"]["max_body"] == "2MiB" && !shown.contains("body_limit"), "{shown}");
        // Nothing has changed for whoever renames it.
        let renamed = TEXT.replace("body_limit", "max_body");
        assert!(load(&renamed, &[]).unwrap().said.at(&["server"]) == loaded.said.at(&["server"]));
    }

    #[test]
    fn a_fault_in_it_is_told_where_it_stands_and_both_names_at_once_are_one() {
        let problems = load(&TEXT.replace("2MiB", "2 apples"), &[]).unwrap_err().to_string();
        assert!(problems.contains("server.max_body") && problems.contains("relay.yaml:2"), "{problems}");
        let problems = load(TEXT, &[("E2B_RELAY__SERVER__MAX_BODY", "1MiB")]).unwrap_err().to_string();
        assert!(
            problems.contains("relay.yaml:2") && problems.contains("stands beside `server.max_body`"),
            "{problems}"
        );
        let by_variable = load(&TEXT.replace("body_limit", "max_body"), &[("E2B_RELAY__SINKS__AUDIT__FILE", "b")]);
        let warnings = by_variable.unwrap().warnings;
        assert!(warnings.iter().any(|told| told.to_string().contains("E2B_RELAY__SINKS__AUDIT__FILE")), "{warnings:?}");
    }

    #[test]
    fn the_schema_marks_old_names() {
        let mut schema = crate::settings::schema();
        let before = schema.clone();
        mark(TABLE, &mut schema);
        let old = &schema["properties"]["server"]["properties"]["body_limit"];
        assert_eq!((&old["deprecated"], &old["format"]), (&json!(true), &json!("size")));
        let texts = schema.to_string();
        for (name, times) in [("\"keys\":{", 1), ("\"keys_file\":{", 1), ("\"file\":{", 1)] {
            assert_eq!(texts.matches(name).count(), times + before.to_string().matches(name).count(), "{name}");
        }
    }

    #[test]
    fn whatever_goes_goes_one_minor_version_later_at_the_earliest() {
        let number = |version: &str| -> Vec<u64> { version.split('.').map(|part| part.parse().unwrap()).collect() };
        let this = number(env!("CARGO_PKG_VERSION"));
        for deprecated in DEPRECATED {
            assert!(number(deprecated.gone_in)[..2] > this[..2], "{deprecated:?} is gone by now: take the entry out");
            assert!(deprecated.old.contains('.'), "{deprecated:?}");
        }
    }
}
