//! The alert rules, by Prometheus' own tool, and what operators are told to do about each.

use super::{promtool, read};
use crate::support::daemon::Home;
use crate::support::load::SECRET;
use std::collections::BTreeSet;

/// One rule, as it stands in the file.
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) text: String,
}

/// What stands before the first rule, and the rules.
pub(super) fn rules() -> (String, Vec<Rule>) {
    let text = read("prometheus/rules.yml");
    let mut parts = text.split("      - alert: ");
    let head = parts.next().unwrap().to_owned();
    let name = |part: &str| part.lines().next().unwrap().to_owned();
    let rules: Vec<Rule> = parts.map(|part| Rule { name: name(part), text: part.to_owned() }).collect();
    assert!(rules.len() > 20, "the rules were not found");
    (head, rules)
}

#[tokio::test]
async fn the_rules_and_their_tests_satisfy_promtool() {
    let rules = promtool(&["check", "rules", "rules.yml"], None).await.unwrap();
    assert!(rules.contains("rules found"), "{rules}");
    promtool(&["check", "config", "prometheus.yml"], None).await.unwrap();
    promtool(&["test", "rules", "rules.test.yml"], None).await.unwrap();
}

#[test]
fn each_rule_is_tested_explained_and_has_its_runbook() {
    let (tests, operations) = (read("prometheus/rules.test.yml"), read("OPERATIONS.md"));
    let (_, rules) = rules();
    let mut severities = BTreeSet::new();
    for Rule { name, text } in &rules {
        for (key, least) in [("summary: ", 20), ("description: ", 40), ("expr: ", 1)] {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
            assert!(line.is_some_and(|line| line.len() >= least), "{name}: {key}");
        }
        let severity = text.lines().find_map(|line| line.trim().strip_prefix("labels: {severity: ")).unwrap();
        severities.insert(severity);
        let anchor = format!("runbook: deploy/OPERATIONS.md#{}", name.to_lowercase());
        assert!(text.contains(&anchor), "{name}: its runbook is not {anchor}");
        assert!(
            operations.contains(&format!("\n### {name}\n\n")),
            "OPERATIONS.md does not say what to do about {name}"
        );
        let (fires, rests) = (format!("alertname=\"{name}\""), format!("  # {name}\n"));
        assert!(tests.contains(&fires) && tests.contains(&rests), "no test of {name}");
    }
    assert_eq!(severities, BTreeSet::from(["critical}", "info}", "warning}"]));
    let sections = operations.lines().filter(|line| line.starts_with("### E2bRelay")).count();
    assert_eq!(sections, rules.len(), "OPERATIONS.md explains alerts that are not there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_daemon_shows_satisfies_promtool() {
    let home = Home::new(&format!(
        "sources:\n  acme:\n    webhook: {{secrets: ['{SECRET}']}}\n    api: {{url: 'http://127.0.0.1:1', api_key: key}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let daemon = home.start().await;
    let metrics = daemon.metrics().await;
    let said = promtool(&["check", "metrics"], Some(&metrics.0)).await.unwrap();
    assert_eq!(said, "");
    // It would say so.
    let bad = promtool(&["check", "metrics"], Some("# TYPE bad_total gauge\nbad_total 1\n")).await;
    assert!(bad.is_err(), "{bad:?}");
}
