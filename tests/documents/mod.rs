//! What the repository's Markdown says: its commands are run, its links lead somewhere, its configurations are right.

mod claims;
mod commands;
mod configurations;
mod links;
mod readme;
mod record;

use crate::sdk::{output_of, script_at};
use crate::support::load::SECRET;
use crate::tidy;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::process::Command;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a parser of CommonMark sees in one file.
#[derive(Debug, Deserialize)]
struct Document {
    /// Of its headings, as GitHub makes them.
    anchors: Vec<String>,
    links: Vec<Link>,
    /// Fenced code.
    blocks: Vec<Block>,
    /// Rows of cells, the first of which is the head.
    tables: Vec<Vec<Vec<String>>>,
}

#[derive(Debug, Deserialize)]
struct Link {
    line: usize,
    target: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Block {
    /// Of the opening fence.
    line: usize,
    language: String,
    text: String,
}

/// Every document of the repository, by its path within.
async fn documents() -> BTreeMap<String, Document> {
    let mut files = tidy::walk(repository(), &tidy::ignored());
    files.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    let named: Vec<PathBuf> = files.iter().map(|path| path.strip_prefix(repository()).unwrap().to_owned()).collect();
    let mut command = script_at("tests/documents/parse.py").await;
    let parsed = output_of(command.current_dir(repository()).args(named)).await;
    let documents: BTreeMap<String, Document> = serde_json::from_slice(&parsed).unwrap();
    assert!(documents.contains_key("README.md") && documents.len() > 8, "the documents were not found");
    documents
}

/// All blocks of one language, with their files.
fn blocks<'a>(
    documents: &'a BTreeMap<String, Document>,
    language: &'a str,
) -> impl Iterator<Item = (&'a String, &'a Block)> {
    let all = documents.iter().flat_map(|(path, document)| document.blocks.iter().map(move |block| (path, block)));
    all.filter(move |(_, block)| block.language == language)
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
        .env("E2B_API_KEY", crate::simulate::KEY)
        .kill_on_drop(true);
    for secret in ["E2B_WEBHOOK_SECRET", "KAFKA_PASSWORD", "NATS_TOKEN"] {
        command.env(secret, SECRET);
    }
    command
}

fn minimal() -> String {
    std::fs::read_to_string(repository().join("config/minimal.yaml")).unwrap()
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
