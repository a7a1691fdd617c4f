//! The JSON Schema of the configuration, from the doc comments and types of the settings structs.
//!
//! It is what `config schema` prints, and what the loader walks beside the merged tree: one description for editors and
//! for messages.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Marks the twin of a secret in the schema; its value is the secret's key.
pub(super) const TWIN_OF: &str = "x-file-of";

/// The schema of `T` (JSON Schema 2020-12), with a `<key>_file` beside each key that is a secret or a list of them.
pub(super) fn schema_of<T: JsonSchema>() -> Value {
    // Inlined, since the walk follows no references; no struct of the settings contains itself.
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    add_twins(&mut schema);
    schema
}

/// Whether values under this schema are credentials.
pub(super) fn is_secret(schema: &Value) -> bool {
    let marked = |schema: &Value| schema.get("writeOnly") == Some(&Value::Bool(true));
    marked(schema)
        || schema.get("items").is_some_and(marked)
        || alternatives(schema).is_some_and(|list| list.iter().any(is_secret))
}

/// The schemas one of which a value must fit, if there is a choice.
pub(super) fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    ["anyOf", "oneOf"].iter().find_map(|word| schema.get(*word)).and_then(Value::as_array)
}

/// The key beside `key` that names a file with its value.
pub(super) fn twin(key: &str) -> String {
    format!("{key}_file")
}

fn add_twins(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            tidy_default(object);
            let secrets = object.get("properties").and_then(Value::as_object).map(secrets_of).unwrap_or_default();
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                for (key, is_list) in &secrets {
                    properties.insert(twin(key), twin_schema(key, *is_list));
                }
            }
            // With a file instead of it the key itself is no longer required; the walk asks for one of the two.
            if let Some(Value::Array(required)) = object.get_mut("required") {
                let mut either = Vec::new();
                required.retain(|key| match key.as_str() {
                    Some(key) if secrets.iter().any(|(secret, _)| secret == key) => {
                        either.push(json!({"oneOf": [{"required": [key]}, {"required": [twin(key)]}]}));
                        false
                    }
                    _ => true,
                });
                if !either.is_empty() {
                    object.insert("allOf".to_owned(), Value::Array(either));
                }
            }
            object.values_mut().for_each(add_twins);
        }
        Value::Array(list) => list.iter_mut().for_each(add_twins),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A secret has no default that could be shown; sizes and times are spelled as in the manual.
fn tidy_default(schema: &mut Map<String, Value>) {
    if schema.get("writeOnly") == Some(&Value::Bool(true)) {
        schema.remove("default");
    }
    let has_unit = schema.get("format").is_some_and(|format| format == "size" || format == "duration");
    if let (true, Some(Value::String(default))) = (has_unit, schema.get_mut("default"))
        && let Some(short) = super::show::spelling(default, None)
    {
        *default = short;
    }
}

/// The secrets among `properties`, and whether each is a list.
fn secrets_of(properties: &Map<String, Value>) -> Vec<(String, bool)> {
    let secrets = properties.iter().filter(|(_, schema)| is_secret(schema) && schema.get(TWIN_OF).is_none());
    secrets.map(|(key, schema)| (key.clone(), schema.get("items").is_some())).collect()
}

fn twin_schema(key: &str, is_list: bool) -> Value {
    let description = if is_list {
        format!("A file with the values of `{key}`, one to a line; instead of `{key}`.")
    } else {
        format!("A file that holds `{key}`, with at most one newline at its end; instead of `{key}`.")
    };
    json!({"type": "string", "format": "path", "description": description, TWIN_OF: key})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Sample {
        one: Secret,
        many: Vec<Secret>,
        maybe: Option<Secret>,
        open: String,
    }

    #[test]
    fn every_secret_has_a_twin_and_is_required_as_either() {
        let schema = schema_of::<Sample>();
        let mut keys: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["many", "many_file", "maybe", "maybe_file", "one", "one_file", "open"]);
        assert_eq!(schema["required"], json!(["open"]));
        assert_eq!(schema["allOf"].as_array().unwrap().len(), 2);
        assert_eq!(schema["properties"]["many_file"][TWIN_OF], "many");
    }
}
