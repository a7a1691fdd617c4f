//! Configurations and other code that documents show.

use super::{assert_none, blocks, documents, minimal, repository, said, shell};
use crate::tidy;

const SECTIONS: [&str; 5] = ["server:", "admin:", "store:", "sources:", "sinks:"];
const MOUNTED: &str = "/run/secrets/e2b-relay/";

/// What `config:` of the chart's values holds, else the block itself.
fn configuration(block: &str) -> String {
    let Some(at) = block.find("config:\n").filter(|at| *at == 0 || block[..*at].ends_with('\n')) else {
        return block.to_owned();
    };
    let lines = block[at..].lines().skip(1).take_while(|line| line.starts_with("  "));
    lines.map(|line| format!("{}\n", &line[2..])).collect()
}

#[tokio::test]
async fn every_configuration_passes_its_check() {
    let source = "sources: {acme: {webhook: {secrets: [\"${E2B_WEBHOOK_SECRET}\"]}}}\n";
    let sink = "sinks: {audit: {type: file, path: ./events.ndjson}}\n";
    let documents = documents().await;
    let mut faults = Vec::new();
    let mut checked = 0;
    for (file, block) in blocks(&documents, "yaml") {
        let text = configuration(&block.text);
        if !SECTIONS.iter().any(|section| text.lines().any(|line| line.starts_with(section))) {
            faults.push(format!(
                "{file}:{}: no configuration: say `text`, or teach tests/documents what it is",
                block.line
            ));
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        // What a cluster would mount.
        for name in text.split(MOUNTED).skip(1).filter_map(|rest| rest.split(['}', ',', '\n', '"']).next()) {
            std::fs::write(folder.path().join(name), "0123456789abcdef0123456789abcdef").unwrap();
        }
        let text = text.replace(MOUNTED, "./").replace("/var/lib/e2b-relay/", "./");
        let source = if text.contains("sources:") { "" } else { source };
        let sink = if text.contains("sinks:") { "" } else { sink };
        std::fs::write(folder.path().join("e2b-relay.yaml"), format!("{source}{text}{sink}")).unwrap();
        let output = shell(folder.path(), "e2b-relay check").output().await.unwrap();
        if !output.status.success() {
            faults.push(format!("{file}:{}: {}", block.line, said(&output)));
        }
        checked += 1;
    }
    assert_none(&faults);
    assert!(checked >= 4, "only {checked} were found");
    let minimal = minimal();
    let (_comment, minimal) = minimal.split_once('\n').unwrap();
    let shown = documents["README.md"].blocks.iter().any(|block| block.language == "yaml" && block.text == minimal);
    assert!(shown, "README.md shows another minimal.yaml");
}

/// Code in documents is a piece of a file that is tested; JSON is JSON.
#[tokio::test]
async fn code_is_quoted_from_the_examples() {
    let documents = documents().await;
    let files = tidy::walk(&repository().join("examples"), &tidy::ignored());
    let texts: Vec<String> = files.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let mut faults = Vec::new();
    for (file, block) in ["python", "typescript", "sql"].into_iter().flat_map(|language| blocks(&documents, language)) {
        if !texts.iter().any(|text| text.contains(&block.text)) {
            faults.push(format!("{file}:{}: in no file of examples/", block.line));
        }
    }
    for (file, block) in blocks(&documents, "json") {
        if let Err(error) = serde_json::from_str::<serde_json::Value>(&block.text) {
            faults.push(format!("{file}:{}: {error}", block.line));
        }
    }
    assert_none(&faults);
}
