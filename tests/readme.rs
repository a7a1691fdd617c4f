//! What README.md tells a newcomer to do, done as it stands there.

use crate::support::daemon::Home;
use crate::support::load::SECRET;
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use tokio::process::Command;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(repository().join("README.md")).unwrap()
}

/// The texts of the code blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let (readme, opening) = (readme(), format!("```{language}\n"));
    let blocks: Vec<String> = readme
        .split(&opening)
        .skip(1)
        .map(|rest| rest.split_once("```").expect("the block ends").0.to_owned())
        .collect();
    assert!(!blocks.is_empty(), "README.md has no block of {language}");
    blocks
}

/// A shell where `e2b-relay` is the program under test.
fn shell(folder: &Path, script: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_e2b-relay")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .current_dir(folder)
        .env("PATH", path)
        .env("no_proxy", "*")
        .env("E2B_API_KEY", crate::simulate::KEY);
    for secret in ["E2B_WEBHOOK_SECRET", "KAFKA_PASSWORD", "NATS_TOKEN"] {
        command.env(secret, SECRET);
    }
    command
}

/// The configuration that the README begins with, as a daemon's of the test's own.
fn home() -> Home {
    Home::new(&minimal().replace("${E2B_WEBHOOK_SECRET}", SECRET))
}

fn minimal() -> String {
    std::fs::read_to_string(repository().join("config/minimal.yaml")).unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_delivery_by_curl_and_openssl_is_taken() {
    let script = blocks("sh").into_iter().find(|block| block.contains("openssl dgst")).expect("the block with openssl");
    let home = home();
    let daemon = home.start().await;
    let script = script.replace("127.0.0.1:8080", &daemon.public);
    let output = shell(home.path(), &script).output().await.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["success"], true, "{answer}");
    daemon.until_settled("audit", 1).await;
    let record = std::fs::read_to_string(home.path().join("events.ndjson")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&record["id"], &record["type"]), (&answer["id"], &"sandbox.lifecycle.killed".into()));
    assert!(daemon.terminate().await.success());
}

#[tokio::test]
async fn every_other_command_ends_well() {
    let home = home();
    let daemon = home.start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("e2b-relay.yaml"), minimal()).unwrap();
    let mut ran = 0;
    for line in blocks("sh").iter().flat_map(|block| block.lines()) {
        // These two do not end by themselves; tests/dev.rs and every test with a daemon are theirs.
        let ends = !line.starts_with("e2b-relay run") && !line.starts_with("e2b-relay dev");
        let is_ours = line.starts_with("e2b-relay ") || line.starts_with("curl http://127.0.0.1:9464");
        if !(is_ours && ends) {
            continue;
        }
        let line = line.replace("127.0.0.1:8080", &daemon.public).replace("127.0.0.1:9464", &daemon.admin);
        let output = shell(folder.path(), &line).output().await.unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
        ran += 1;
    }
    assert!(ran >= 6, "only {ran} commands were found");
    assert!(daemon.terminate().await.success());
}

#[tokio::test]
async fn every_configuration_passes_its_check() {
    let source = "sources: {acme: {webhook: {secrets: [\"${E2B_WEBHOOK_SECRET}\"]}}}\n";
    let sink = "sinks: {audit: {type: file, path: ./events.ndjson}}\n";
    for block in blocks("yaml") {
        let folder = tempfile::tempdir().unwrap();
        let source = if block.contains("sources:") { "" } else { source };
        let sink = if block.contains("sinks:") { "" } else { sink };
        let whole = format!("{source}{block}{sink}");
        std::fs::write(folder.path().join("e2b-relay.yaml"), &whole).unwrap();
        let output = shell(folder.path(), "e2b-relay check").output().await.unwrap();
        assert!(output.status.success(), "{whole}\n{}", said(&output));
    }
    let minimal = minimal();
    let (_comment, minimal) = minimal.split_once('\n').unwrap();
    assert!(blocks("yaml").iter().any(|block| block == minimal), "README.md shows another minimal.yaml");
}
