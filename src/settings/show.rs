//! The effective configuration for people to read, with every credential masked.

use super::Settings;
use crate::secret::MASK;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlEmitter, yaml::Hash};

/// The settings as a tree. [`crate::secret::Secret`]s mask themselves; masked too are the user-info of URLs and what a
/// client library is given under a name that tells of a credential. `written` is the tree that the settings were read
/// from.
pub(super) fn masked(settings: &Settings, written: &Value) -> Result<Value, serde_json::Error> {
    let mut tree = serde_json::to_value(settings)?;
    keep_spelling(&mut tree, Some(written));
    mask(&mut tree);
    Ok(tree)
}

/// Shows sizes and times as they were written, or as the manual writes them: serialised they are rounded (`1.2 MiB`) or
/// spelled out (`8days`).
fn keep_spelling(shown: &mut Value, written: Option<&Value>) {
    match shown {
        Value::Object(table) => {
            for (key, value) in table {
                keep_spelling(value, written.and_then(|written| written.get(key)));
            }
        }
        Value::Array(list) => {
            for (place, value) in list.iter_mut().enumerate() {
                keep_spelling(value, written.and_then(|written| written.get(place)));
            }
        }
        Value::String(text) => {
            if let Some(short) = spelling(text, written.and_then(Value::as_str)) {
                *text = short;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// How a size or time is to be shown; `None` of anything else.
pub(super) fn spelling(shown: &str, written: Option<&str>) -> Option<String> {
    let (number, unit) = shown.split_at_checked(shown.find(|first: char| !first.is_ascii_digit() && first != '.')?)?;
    let short = match unit {
        " B" | " KiB" | " MiB" | " GiB" | " TiB" => {
            format!("{}{}", number.strip_suffix(".0").unwrap_or(number), unit.trim_start())
        }
        "day" | "days" => format!("{number}d"),
        "ms" | "s" | "m" | "h" => shown.to_owned(),
        _ if humantime::parse_duration(shown).is_ok() => shown.to_owned(),
        _ => return None,
    };
    Some(written.map_or(short, str::to_owned))
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
    fn sizes_and_times_are_shown_as_written_or_as_the_manual_writes_them() {
        let mut shown = json!({"a": "1.0 MiB", "b": "1.2 MiB", "c": "8days", "d": "10s", "e": "1day 12h", "f": "512 B",
            "g": "e2b.events", "h": "127.0.0.1:80", "i": "***", "j": "2m"});
        keep_spelling(&mut shown, Some(&json!({"b": "1234567", "i": "hunter2", "h": "x", "j": "120s"})));
        let expected = json!({"a": "1MiB", "b": "1234567", "c": "8d", "d": "10s", "e": "1day 12h", "f": "512B",
            "g": "e2b.events", "h": "127.0.0.1:80", "i": "***", "j": "120s"});
        assert_eq!(shown, expected);
    }

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
