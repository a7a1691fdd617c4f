//! The files in `config/`: they are right, complete, and what they say of defaults is true.

use super::{SECRET, relay, repository, run};
use e2b_relay::settings::{self, Environment, Loaded};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

fn environment() -> Environment {
    let names = [
        "E2B_API_KEY",
        "E2B_WEBHOOK_SECRET",
        "KAFKA_CLIENT_SECRET",
        "KAFKA_KEY_PASSWORD",
        "KAFKA_PASSWORD",
        "REGISTRY_PASSWORD",
        "NATS_TOKEN",
        "NATS_NKEY",
        "NATS_CREDENTIALS",
    ];
    names.iter().map(|name| (OsString::from(name), OsString::from(SECRET))).collect()
}

fn config(name: &str) -> PathBuf {
    repository().join("config").join(name)
}

fn load(file: &Path) -> Loaded {
    settings::load(&[file.to_owned()], &environment()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_shipped_file_passes_its_check_without_a_warning() {
    for name in ["e2b-relay.yaml", "e2b-relay.toml", "minimal.yaml"] {
        let mut command = relay(&repository().join("config"));
        let run = run(command.args(["check", "--config", name]).env("E2B_WEBHOOK_SECRET", SECRET));
        assert_eq!(run.code, Some(0), "{name}: {}", run.said());
        assert!(run.stdout.starts_with("valid: ") && run.stderr.is_empty(), "{name}: {}", run.said());
    }
}

#[test]
fn yaml_and_toml_say_the_same() {
    assert_eq!(load(&config("e2b-relay.yaml")).shown, load(&config("e2b-relay.toml")).shown);
}

#[test]
fn what_is_left_out_is_what_the_full_file_shows() {
    let (full, least) = (load(&config("e2b-relay.yaml")).shown, load(&config("minimal.yaml")).shown);
    for section in ["server", "admin", "store"] {
        assert_eq!(full[section], least[section], "{section}");
    }
    assert_eq!(full["sources"]["acme"], least["sources"]["e2b"]);
}

/// The text with the examples that are commented out put in: `# key: value` or `# key = value`, at their own depth.
fn with_examples(text: &str) -> String {
    let example = |line: &str| {
        let (indent, rest) = line.split_at(line.find("# ")?);
        let rest = rest.strip_prefix("# ")?;
        let end = rest.find([':', ' '])?;
        let (key, after) = rest.split_at(end);
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let is_value = after == ":" || after.starts_with(": ") || after.starts_with(" = ");
        (indent.trim().is_empty() && is_key && is_value).then(|| format!("{indent}{rest}"))
    };
    text.lines().map(|line| example(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// Every key of the schema, as `sinks.*<kafka>.topic`.
fn keys_of(schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        // A file instead of a secret is described once, at the head of the file.
        if inner.get("x-file-of").is_none() {
            keys.insert(format!("{path}.{key}"));
            keys_of(inner, &format!("{path}.{key}"), keys);
        }
    }
    for choice in schema["oneOf"].as_array().into_iter().chain(schema["anyOf"].as_array()).flatten() {
        let kind = choice.pointer("/properties/type/const").and_then(Value::as_str);
        keys_of(choice, &kind.map_or(path.to_owned(), |kind| format!("{path}<{kind}>")), keys);
    }
    if schema["additionalProperties"].is_object() {
        keys_of(&schema["additionalProperties"], &format!("{path}.*"), keys);
    }
}

/// Every key of a tree in the same form.
fn keys_in(tree: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for (key, inner) in tree.as_object().into_iter().flatten() {
        let named = path == ".sources" || path == ".sinks";
        let here = match inner["type"].as_str() {
            Some(kind) if named => format!("{path}.*<{kind}>"),
            _ if named => format!("{path}.*"),
            _ => format!("{path}.{key}"),
        };
        keys.insert(here.clone());
        keys_in(inner, &here, keys);
    }
}

/// Keys that every sink has; the file shows them at the first.
const COMMON: [&str; 10] = [
    "types",
    "sources",
    "filter",
    "format",
    "redact",
    "schema_registry",
    "dead_letter_to",
    "start",
    "renamed_from",
    "max_in_flight",
];

#[test]
fn every_key_of_the_schema_is_in_the_full_files() {
    let mut wanted = BTreeSet::new();
    keys_of(&settings::schema(), "", &mut wanted);
    assert!(wanted.len() > 100, "the schema has only {} keys", wanted.len());
    wanted.retain(|key| {
        let is_repetition = ["nats", "amqp", "file", "stdout"].iter().any(|kind| {
            COMMON.iter().any(|common| format!("{key}.").starts_with(&format!(".sinks.*<{kind}>.{common}.")))
        });
        !is_repetition
    });
    for name in ["e2b-relay.yaml", "e2b-relay.toml"] {
        let text = with_examples(&std::fs::read_to_string(config(name)).unwrap());
        let tree: Value = if name.ends_with("toml") { toml::from_str(&text).unwrap() } else { yaml(&text) };
        let mut shown = BTreeSet::new();
        keys_in(&tree, "", &mut shown);
        let missing: Vec<&String> = wanted.difference(&shown).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:#?}");
    }
}

fn yaml(text: &str) -> Value {
    let documents = yaml_rust2::YamlLoader::load_from_str(text).unwrap();
    json(&documents[0])
}

fn json(yaml: &yaml_rust2::Yaml) -> Value {
    use yaml_rust2::Yaml;
    match yaml {
        Yaml::Hash(table) => {
            table.iter().map(|(key, value)| (key.as_str().expect("a key").to_owned(), json(value))).collect()
        }
        Yaml::Array(list) => list.iter().map(json).collect(),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Boolean(flag) => Value::from(*flag),
        Yaml::Real(_) | Yaml::Alias(_) | Yaml::Null | Yaml::BadValue => Value::Null,
    }
}

/// Lines that say "default" are taken out: nothing must change by that. Others stay: something would.
#[test]
fn what_is_marked_as_a_default_is_one() {
    for name in ["e2b-relay.yaml", "e2b-relay.toml"] {
        let text = std::fs::read_to_string(config(name)).unwrap();
        let is_default = |line: &&str| line.contains("# default") && !line.trim_start().starts_with('#');
        let marked = text.lines().filter(is_default).count();
        assert!(marked > 40, "{name}: only {marked} lines are marked");
        let rest: String = text.lines().filter(|line| !is_default(line)).map(|line| format!("{line}\n")).collect();
        // In the same folder, for the relative paths.
        let folder = tempfile::tempdir().unwrap();
        let (whole, rest_file) = (folder.path().join(name), folder.path().join(format!("rest-{name}")));
        std::fs::write(&whole, &text).unwrap();
        std::fs::write(&rest_file, rest).unwrap();
        assert_eq!(load(&whole).shown, load(&rest_file).shown, "{name}");
    }
}

#[test]
fn what_is_commented_out_is_a_right_example() {
    let text = std::fs::read_to_string(config("e2b-relay.yaml")).unwrap();
    let text = with_examples(&text);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("e2b-relay.yaml");
    std::fs::write(&file, &text).unwrap();
    let problems = settings::read(&[file], &environment()).expect_err("some examples exclude one another").to_string();
    // The token is not there, and of the ways to log in to Kafka and to NATS one each is to be chosen.
    for line in problems.lines() {
        let expected = [
            "faults in the",
            "admin.token_file",
            "sinks.bus.servers: more than one of",
            "sinks.lake.sasl.token_url: is not for this sasl.mechanism",
            "sinks.lake.fallback_topic: is only for",
        ];
        assert!(expected.iter().any(|part| line.contains(part)), "{line}");
    }
}

#[test]
fn the_schema_is_a_sound_one_and_takes_the_shipped_files() {
    let schema = settings::schema();
    assert!(!schema.to_string().contains("$ref"), "the loader follows no references");
    let validator = jsonschema::validator_for(&schema).unwrap();
    let text = std::fs::read_to_string(config("e2b-relay.yaml")).unwrap();
    let errors: Vec<String> = validator.iter_errors(&yaml(&text)).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let wrong = yaml("sources: {acme: {webhook: {secrets: [x], secrets_file: y}}}\nsinks: {}\n");
    assert!(!validator.is_valid(&wrong), "both a secret and its file are taken");
}

#[test]
fn paths_in_the_schema_are_marked_so_that_relative_ones_count_from_the_file() {
    fn visit(schema: &Value, key: &str) {
        if (key.ends_with("_file") || key == "path") && schema["type"] != "object" {
            let is_url_path = schema["description"].as_str().is_some_and(|text| text.contains("of the URL"));
            assert!(schema["format"] == "path" || is_url_path, "{key}: {schema}");
        }
        match schema {
            Value::Object(table) => {
                let is_properties = key == "properties";
                table.iter().for_each(|(name, inner)| {
                    visit(inner, if is_properties || name == "properties" { name } else { "" })
                });
            }
            Value::Array(list) => list.iter().for_each(|inner| visit(inner, "")),
            _ => {}
        }
    }
    visit(&settings::schema(), "");
}
