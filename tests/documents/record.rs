//! The consumers' guide explains the record's schema: all of it, and nothing that is not in it.

use super::{documents, repository};
use serde_json::Value;
use std::collections::BTreeSet;

/// `relay.origin` and the like, of each property at any depth.
fn properties(object: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    let Some(members) = object["properties"].as_object() else { return };
    for (name, member) in members {
        let path = format!("{prefix}{name}");
        properties(member, &format!("{path}."), found);
        found.insert(path);
    }
}

#[tokio::test]
async fn the_guide_explains_each_field_of_the_schema() {
    let schema = std::fs::read_to_string(repository().join("config/record.schema.json")).unwrap();
    let mut fields = BTreeSet::new();
    properties(&serde_json::from_str(&schema).unwrap(), "", &mut fields);
    assert!(fields.len() > 25 && fields.contains("relay.sequence"), "{fields:?}");
    let documents = documents().await;
    let tables = &documents["docs/CONSUMERS.md"].tables;
    let rows = &tables.iter().find(|rows| rows[0] == ["field", "type", "says"]).expect("the table of fields")[1..];
    let explained: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(explained, fields, "docs/CONSUMERS.md against config/record.schema.json");
    assert_eq!(rows.len(), explained.len(), "one is explained twice");
    assert!(rows.iter().all(|row| row[2].len() > 15), "an explanation is missing");
}
