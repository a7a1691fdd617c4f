//! The examples' types: right by their own tools, and the record's those of the schema.

use super::examples::{Examples, Language};
use crate::sdk::output_of;
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test]
async fn typescript_is_content_with_all_strictness() {
    let examples = Examples::new().await;
    output_of(examples.node().arg("node_modules/typescript/bin/tsc")).await;
    // It can fail: a member that is not in the type, and one that may be missing.
    let wrong = "import { parse } from './record.ts'\nconst record = parse(new Uint8Array())\nconsole.log(record.idd, record.event_data.execution)\n";
    std::fs::write(examples.of(Language::TypeScript).join("wrong.ts"), wrong).unwrap();
    let output = examples.node().arg("node_modules/typescript/bin/tsc").output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.matches("wrong.ts(3,").count() >= 2, "{said}");
}

#[tokio::test]
async fn python_is_content_with_all_strictness() {
    let examples = Examples::new().await;
    let mypy = || {
        let mut command = examples.python();
        command.args(["-m", "mypy", "--cache-dir", "/dev/null", "."]);
        command
    };
    output_of(&mut mypy()).await;
    let wrong = "from record import parse\n\nlength: int = parse(b'').id\n";
    std::fs::write(examples.of(Language::Python).join("wrong.py"), wrong).unwrap();
    let output = mypy().output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("wrong.py:3: error"), "{said}");
}

#[test]
fn the_types_of_the_record_have_the_members_of_its_schema() {
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(repository.join(path)).unwrap();
    let schema: Value = serde_json::from_str(&read("config/record.schema.json")).unwrap();
    let typescript = read("examples/consumers/typescript/record.ts");
    for (interface, pointer) in [
        ("E2bRecord", ""),
        ("EventData", "/properties/event_data"),
        ("Execution", "/properties/event_data/properties/execution"),
        ("Relay", "/properties/relay"),
    ] {
        let object = schema.pointer(pointer).unwrap();
        let required: Vec<&Value> =
            object.get("required").map(|names| names.as_array().unwrap().iter().collect()).unwrap_or_default();
        let names = object["properties"].as_object().unwrap().keys();
        let names: BTreeSet<String> = names
            .map(|name| {
                let may_be_missing = !required.iter().any(|one| *one == name);
                format!("{name}{}", if may_be_missing { "?" } else { "" })
            })
            .collect();
        let body = typescript.split_once(&format!("export interface {interface} {{\n")).unwrap().1;
        let body = body.split_once("\n}").unwrap().0;
        let members = body.lines().map(str::trim).filter(|line| !line.starts_with("/**") && !line.starts_with('['));
        let members: BTreeSet<String> = members.map(|line| line.split_once(':').unwrap().0.to_owned()).collect();
        assert_eq!(members, names, "{interface}");
    }
}
