//! Every command of every document: run here, or claimed by what runs it.

use super::claims::{CLAIMS, WHOLE};
use super::{Block, Document, assert_none, blocks, documents, minimal, repository, said, shell};
use crate::support::daemon::Home;
use crate::support::load::SECRET;
use crate::tidy;
use std::collections::{BTreeMap, BTreeSet};

/// What fenced code may be; the rest of this folder knows what to do with all but the last three: units of systemd
/// (`systemd/` looks at those that are shipped), pictures, text.
const LANGUAGES: [&str; 9] = ["sh", "yaml", "json", "python", "typescript", "sql", "ini", "mermaid", "text"];

/// One command and where it stands.
struct Told {
    file: String,
    line: usize,
    command: String,
}

/// The commands of a block: lines that go on are joined, comments left out.
fn commands(file: &str, block: &Block) -> Vec<Told> {
    let mut told = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (offset, text) in block.text.lines().enumerate() {
        let text = text.split("  # ").next().unwrap_or_default().trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (line, mut command) = begun.take().unwrap_or((block.line + 1 + offset, String::new()));
        command += text.strip_suffix('\\').unwrap_or(text).trim_end();
        if text.ends_with('\\') {
            begun = Some((line, command + " "));
        } else {
            told.push(Told { file: file.to_owned(), line, command });
        }
    }
    assert!(begun.is_none(), "{file}:{}: the block's last line goes on", block.line);
    told
}

/// Whether `every_other_command_ends_well` runs it: the documents of the daemon, beside one that runs.
fn is_run_here(told: &Told) -> bool {
    let ends = !told.command.ends_with('&')
        && !["run", "dev", "simulate"].map(|verb| format!("e2b-relay {verb}")).contains(&told.command);
    let is_ours = told.command.starts_with("e2b-relay ") || told.command.starts_with("curl http://127.0.0.1:9464");
    ends && is_ours && !claimed(told)
}

fn claim_fits(claim: &(&str, &str, &str, &str), told: &Told) -> bool {
    let (file, command, ..) = claim;
    *file == told.file
        && command.strip_suffix('…').map_or(told.command == *command, |begin| told.command.starts_with(begin))
}

fn claimed(told: &Told) -> bool {
    CLAIMS.iter().any(|claim| claim_fits(claim, told))
}

/// Every command that is not in a block that is run as a whole.
fn all(documents: &BTreeMap<String, Document>) -> Vec<Told> {
    let is_whole =
        |file: &str, block: &Block| WHOLE.iter().any(|(of, piece, _)| *of == file && block.text.contains(piece));
    blocks(documents, "sh")
        .flat_map(|(file, block)| {
            let commands = commands(file, block).into_iter();
            // Of such a block only what has a claim of its own.
            commands.filter(|told| !is_whole(file, block) || claimed(told)).collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn every_command_is_run_by_something() {
    let documents = documents().await;
    let commands = all(&documents);
    assert!(commands.len() > 15, "the commands were not found");
    let unclaimed = commands.iter().filter(|told| !is_run_here(told) && !claimed(told));
    let mut faults: Vec<String> = unclaimed
        .map(|told| {
            format!("{}:{}: `{}` is run by nothing: see tests/documents/claims.rs", told.file, told.line, told.command)
        })
        .collect();
    for claim in CLAIMS.iter().filter(|claim| !commands.iter().any(|told| claim_fits(claim, told))) {
        faults.push(format!("tests/documents/claims.rs: {} has no command `{}`", claim.0, claim.1));
    }
    for (file, piece, _) in WHOLE {
        let found = blocks(&documents, "sh").filter(|(of, block)| of == file && block.text.contains(piece)).count();
        if found != 1 {
            faults.push(format!("tests/documents/claims.rs: {found} blocks of {file} hold `{piece}`"));
        }
    }
    for (file, block) in
        documents.iter().flat_map(|(file, document)| document.blocks.iter().map(move |block| (file, block)))
    {
        if !LANGUAGES.contains(&block.language.as_str()) {
            faults.push(format!(
                "{file}:{}: a block of `{}`, of which the tests know nothing",
                block.line, block.language
            ));
        }
    }
    let tests = tests();
    let runners = CLAIMS.iter().map(|claim| claim.2).chain(WHOLE.iter().map(|whole| whole.2));
    for runner in runners.collect::<BTreeSet<_>>() {
        let is_test = tests.iter().any(|test| test.starts_with(runner));
        if !is_test && !repository().join(runner).is_file() {
            faults.push(format!("tests/documents/claims.rs: neither a test nor a file: {runner}"));
        }
    }
    assert_none(&faults);
}

/// The paths of all functions of this test binary that may be tests: module by folder and file.
fn tests() -> Vec<String> {
    let folder = repository().join("tests");
    let mut found = Vec::new();
    for path in tidy::walk(&folder, &BTreeSet::new()) {
        let Some(module) = path.strip_prefix(&folder).unwrap().to_str().unwrap().strip_suffix(".rs") else { continue };
        let module = module.trim_end_matches("/mod").replace('/', "::");
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.lines().filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
        found.extend(names.map(|name| format!("{module}::{}", name.split('(').next().unwrap())));
    }
    assert!(found.len() > 300, "the tests were not found");
    found
}

#[tokio::test]
async fn every_other_command_ends_well() {
    let home = Home::new(&minimal().replace("${E2B_WEBHOOK_SECRET}", SECRET));
    let daemon = home.start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("e2b-relay.yaml"), minimal()).unwrap();
    let token = std::fs::read_to_string(home.path().join("data/admin-token")).unwrap();
    let documents = documents().await;
    let mut ran = 0;
    for told in all(&documents).iter().filter(|told| is_run_here(told)) {
        let line = told.command.replace("127.0.0.1:8080", &daemon.public).replace("127.0.0.1:9464", &daemon.admin);
        let mut shell = shell(folder.path(), &line);
        shell.env("E2B_RELAY_ADMIN_URL", format!("http://{}", daemon.admin)).env("E2B_RELAY_ADMIN_TOKEN", token.trim());
        let output = shell.output().await.unwrap();
        assert!(output.status.success(), "{}:{}: {line}: {}", told.file, told.line, said(&output));
        ran += 1;
    }
    assert!(ran >= 6, "only {ran} commands were found");
    assert!(daemon.terminate().await.success());
}

#[test]
fn what_is_a_command_is_seen() {
    let text = "# why\nfirst \\\n  --and\\\n  --more\n\nsecond 'a # b'  # and why\n";
    let block = Block { line: 10, language: "sh".to_owned(), text: text.to_owned() };
    let found = commands("x.md", &block);
    let found: Vec<(usize, &str)> = found.iter().map(|told| (told.line, told.command.as_str())).collect();
    assert_eq!(found, [(12, "first --and --more"), (16, "second 'a # b'")]);
    let told = |file: &str, command: &str| Told { file: file.to_owned(), line: 1, command: command.to_owned() };
    assert!(claimed(&told("README.md", "tests/run")) && claimed(&told("CONTRIBUTING.md", "tests/brokers/nats fetch")));
    assert!(!claimed(&told("README.md", "tests/run --now")) && !claimed(&told("CONTRIBUTING.md", "tests/run")));
    assert!(is_run_here(&told("x.md", "e2b-relay check")) && !is_run_here(&told("x.md", "e2b-relay run")));
}
