//! `e2b-relay dev`, as a newcomer starts it.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};

#[test]
fn dev_shows_all_six_types_and_says_where_it_listens_first() {
    let temporary = tempfile::tempdir().unwrap();
    let command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"))
        .args(["dev", "--duration", "4s"])
        .env("TMPDIR", temporary.path())
        .output();
    let Output { status, stdout, stderr } = command.unwrap();
    let (records, said) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(0), "{said}");

    let types: BTreeSet<String> = records
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    let expected = ["checkpointed", "created", "killed", "paused", "resumed", "updated"];
    assert_eq!(types, expected.map(|kind| format!("sandbox.lifecycle.{kind}")).into());

    let lines: Vec<&str> = said.lines().collect();
    for (line, name) in lines.iter().zip(["metrics: ", "health: ", "deliveries: "]) {
        assert!(line.starts_with(name) && line.contains(" http://127.0.0.1:"), "{said}");
    }
    let made = records.lines().count();
    assert!(said.contains(&format!("{made} events made, {made} delivered\n")), "{said}");
    assert!(lines.last().unwrap().contains("e2b-relay init"), "{said}");
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "its folder is left behind");
}
