//! Configurations: any text gives settings, or faults that say where they are.
//!
//! An input is a file; it is TOML where it begins with `#toml`. Lines `#env NAME=value` are the environment.

use super::{Outcome, Target, files};
use e2b_relay::settings::{self, Environment, Problem, Problems, to_yaml};
use fastrand::Rng;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use yaml_rust2::{Yaml, YamlLoader};

/// What no message may hold.
const CANARY: &str = "c4n4ry-0123456789abcdef-0123456789abcdef";
const VARIABLES: [&str; 3] = ["E2B_WEBHOOK_SECRET", "E2B_API_KEY", "NATS_TOKEN"];

#[test]
fn any_text_gives_settings_or_faults_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = files(&["config/e2b-relay.yaml", "config/minimal.yaml"]);
    Target { name: "settings", rounds: 200, minutes: 1, seeds }.fuzz(|input, _: &mut Rng| check(folder.path(), input));
}

fn check(folder: &Path, input: &[u8]) -> Outcome {
    let file = folder.join(if input.starts_with(b"#toml") { "config.toml" } else { "config.yaml" });
    let environment = environment(input);
    let read = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        settings::read(std::slice::from_ref(&file), &environment)
    };
    let (read_plain, lines) = (read(input), String::from_utf8_lossy(input).lines().count());
    if !input.starts_with("\u{feff}".as_bytes()) {
        let with_mark = read(&["\u{feff}".as_bytes(), input].concat());
        // The order of faults of one kind is that of a hash table.
        let told = |problems: &Problems| problems.0.iter().map(Problem::to_string).collect::<BTreeSet<_>>();
        let shown = |read: &Result<settings::Loaded, Problems>| match read {
            Ok(loaded) => Ok(loaded.shown.clone()),
            Err(problems) => Err(told(problems)),
        };
        assert_eq!(shown(&with_mark), shown(&read_plain), "with a byte order mark");
    }
    match read_plain {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| is_told_well(warning, lines));
            let shown = to_yaml(&loaded.shown).expect("it can be shown");
            let again = YamlLoader::load_from_str(&shown).unwrap_or_else(|error| panic!("{error}:\n{shown}"));
            assert_eq!(json_of(&again[0]), plain(&loaded.shown), "{shown}");
            let names = |of: &Value| of.as_object().map_or(0, Map::len);
            Ok(format!(
                "{} {} {}",
                names(&loaded.shown["sources"]),
                names(&loaded.shown["sinks"]),
                loaded.warnings.len()
            ))
        }
        Err(Problems(problems)) => {
            assert!(!problems.is_empty());
            problems.iter().for_each(|problem| is_told_well(problem, lines));
            // What is in quotes, and numbers, are the input's own.
            let first = problems.iter().map(|problem| &problem.message).min().expect("there is one");
            let first = first.split(['`', '"', '\'']).step_by(2).collect::<String>();
            Err(first.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == ' ').take(60).collect())
        }
    }
}

fn is_told_well(problem: &Problem, lines: usize) {
    let said = problem.to_string();
    assert!(!said.contains(CANARY), "{said}");
    assert!(!problem.message.is_empty() && !said.contains('\n'), "{problem:?}");
    assert!(problem.place.is_some() || !problem.key.is_root(), "nowhere: {problem:?}");
    let line = problem.place.as_ref().and_then(|place| place.line);
    assert!(line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{problem:?} of {lines} lines");
}

fn environment(input: &[u8]) -> Environment {
    let secrets = VARIABLES.map(|name| (OsString::from(name), OsString::from(CANARY)));
    let text = String::from_utf8_lossy(input);
    let own = text.lines().filter_map(|line| line.strip_prefix("#env ")?.split_once('='));
    secrets.into_iter().chain(own.map(|(name, value)| (name.into(), value.into()))).collect()
}

fn json_of(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Hash(table) => {
            let members = table.iter().map(|(key, value)| (key.as_str().expect("a text").to_owned(), json_of(value)));
            Value::Object(members.collect())
        }
        Yaml::Array(list) => list.iter().map(json_of).collect(),
        Yaml::Integer(number) => Value::from(number.to_string()),
        Yaml::Real(number) => Value::from(number.parse::<f64>().map_or(number.clone(), |number| number.to_string())),
        Yaml::Boolean(given) => (*given).into(),
        Yaml::String(text) => text.as_str().into(),
        Yaml::Null => Value::Null,
        other => panic!("{other:?}"),
    }
}

/// With numbers as texts, which is how far the two ways of writing them agree.
fn plain(shown: &Value) -> Value {
    match shown {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => number.to_string().into(),
            None => number.to_string().into(),
        },
        other => other.clone(),
    }
}
