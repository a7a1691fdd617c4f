//! The effective configuration for people to read, with every credential masked.

use super::Settings;
use crate::secret::MASK;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlEmitter, yaml::Hash};

/// The settings as a tree. [`crate::secret::Secret`]s mask themselves; masked too are the user-info of URLs and what a
/// client library is given under a name that tells of a credential.
pub fn masked(settings: &Settings) -> Result<Value, serde_json::Error> {
    let mut tree = serde_json::to_value(settings)?;
    mask(&mut tree);
    Ok(tree)
}

/// The tree as YAML.
pub fn to_yaml(tree: &Value) -> Result<String, yaml_rust2::EmitError> {
    let mut text = String::new();
    YamlEmitter::new(&mut text).dump(&yaml_of(tree))?;
    text.push('\n');
    Ok(text.trim_start_matches("---\n").to_owned())
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                if names_credential(key) && !value.is_object() && !value.is_null() {
                    *value = Value::from(MASK);
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(mask),
        Value::String(text) => {
            if let Some(masked) = without_user_info(text) {
                *text = masked;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether librdkafka (or another client that options are passed through to) takes a credential under this name.
/// `sasl.jaas.config` is Java's, but people paste it.
fn names_credential(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let dotted = key.contains('.');
    key.contains("password")
        || key.contains("secret") && dotted
        || key.ends_with("key.pem")
        || key.starts_with("sasl.oauthbearer") && !key.ends_with(".url") && !key.ends_with(".method")
        || key == "sasl.jaas.config"
        || key == "sasl.username"
}

/// `scheme://user:password@host/…` with the user-info masked; `None` if there is none.
fn without_user_info(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://{MASK}@{host}{path}"))
}

fn yaml_of(value: &Value) -> Yaml {
    match value {
        Value::Null => Yaml::Null,
        Value::Bool(value) => Yaml::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Yaml::Integer(integer),
            None => Yaml::Real(number.to_string()),
        },
        Value::String(text) => Yaml::String(text.clone()),
        Value::Array(list) => Yaml::Array(list.iter().map(yaml_of).collect()),
        Value::Object(table) => {
            let table = table.iter().map(|(key, value)| (Yaml::String(key.clone()), yaml_of(value)));
            Yaml::Hash(table.collect::<Hash>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn user_info_and_names_of_credentials_are_masked() {
        let mut tree = json!({
            "url": "amqp://guest:hunter2@127.0.0.1:5672/%2f",
            "odd": ["nats://hunter2@h", "nats://u:p@hunter2@h", "kafka://h:9092"],
            "librdkafka": {
                "sasl.password": "hunter2", "ssl.key.pem": "hunter2", "ssl.key.password": "hunter2",
                "ssl.keystore.password": "hunter2", "sasl.oauthbearer.client.secret": "hunter2",
                "sasl.oauthbearer.config": "hunter2", "sasl.jaas.config": "hunter2", "linger.ms": 5,
                "security.protocol": "sasl_ssl",
            },
        });
        mask(&mut tree);
        assert!(!tree.to_string().contains("hunter2"), "{tree}");
        assert_eq!(tree["url"], "amqp://***@127.0.0.1:5672/%2f");
        assert_eq!(tree["odd"][2], "kafka://h:9092");
        assert_eq!(tree["librdkafka"]["linger.ms"], 5);
        assert_eq!(tree["librdkafka"]["security.protocol"], "sasl_ssl");
    }
}
