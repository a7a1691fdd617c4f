//! What can be said of the chart's files without Helm.

use crate::support::yaml;
use serde_json::Value;
use std::collections::BTreeSet;

fn values() -> Value {
    yaml::file("deploy/helm/e2b-relay/values.yaml")
}

/// The paths of all values that are no object with something in it.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, found);
            }
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

fn schema() -> Value {
    serde_json::from_str(&std::fs::read_to_string(super::chart().join("values.schema.json")).unwrap()).unwrap()
}

#[test]
fn every_default_is_of_its_type_and_nothing_else_is_taken() {
    let (schema, values) = (jsonschema::validator_for(&schema()).unwrap(), values());
    let faults: Vec<String> = schema.iter_errors(&values).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    for (place, wrong) in [
        ("/replicaCount", Value::from("1")),
        ("/image/pullpolicy", "Always".into()),
        ("/podDisruptionBudget/maxUnavailable", 2.into()),
        ("/terminationGracePeriodSeconds", 10.into()),
        ("/persistence/accessModes", serde_json::json!(["ReadWriteMany"])),
        ("/config/sink", serde_json::json!({})),
        ("/listenAddress", "0.0.0.0:80".into()),
    ] {
        let mut values = values.clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        values.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), wrong);
        assert!(!schema.is_valid(&values), "{place}");
    }
}

/// What stands in them is the daemon's own affair; a misspelled section is told by Helm already.
#[tokio::test]
async fn config_has_the_sections_of_the_daemon() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    let output = command.args(["config", "schema"]).kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success());
    let daemons: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sections = |schema: &Value| schema["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(sections(&schema()["properties"]["config"]), sections(&daemons));
}

/// And no other, each with its default where that is short.
#[test]
fn the_readme_lists_every_value() {
    let readme = std::fs::read_to_string(super::chart().join("README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: Vec<(&str, &str)> = rows.map(|(name, rest)| (name, rest.split(" | ").next().unwrap())).collect();
    let mut found = BTreeSet::new();
    leaves(&values(), "", &mut found);
    let listed: BTreeSet<String> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
    // One row for each group whose parts say nothing by themselves.
    let grouped: BTreeSet<String> = found
        .iter()
        .map(|path| {
            let group = [
                "podSecurityContext",
                "securityContext",
                "resources",
                "startupProbe",
                "livenessProbe",
                "readinessProbe",
            ];
            group
                .iter()
                .find(|group| path.split('.').next() == Some(group))
                .map_or(path.clone(), |group| (*group).to_owned())
        })
        .collect();
    assert_eq!(listed, grouped);
    for (name, default) in rows {
        let value = values().pointer(&format!("/{}", name.replace('.', "/"))).unwrap().clone();
        let shown = match &value {
            Value::String(text) => format!("`{}`", if text.is_empty() { "\"\"" } else { text }),
            Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
            Value::Object(map) if map.is_empty() => "`{}`".to_owned(),
            Value::Array(list) if list.is_empty() => "`[]`".to_owned(),
            _ => continue,
        };
        assert_eq!(default, shown, "{name}");
    }
}

#[test]
fn the_version_is_the_daemons() {
    let chart = yaml::file("deploy/helm/e2b-relay/Chart.yaml");
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let oldest = format!(">={}.0-0", super::VERSIONS[0]);
    assert_eq!(chart["kubeVersion"], oldest.as_str(), "the schemas of another one are asked");
}
