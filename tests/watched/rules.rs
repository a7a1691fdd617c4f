//! The alert rules, by Prometheus' own tool, and what operators are told to do about each.

use super::{deploy, read};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::process::Command;

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

/// All that a rule times, brought down such that its longest span is [`LONGEST`]: each `for`, each range, each threshold in
/// seconds, which is written as a product for that. No range is shorter than [`LEAST_RANGE`]. Nothing else changes.
pub(super) fn hastened() -> String {
    let (head, rules) = rules();
    let rules = rules.iter().map(|rule| format!("      - alert: {}", hasten(&rule.text)));
    head + &rules.collect::<String>()
}

const LONGEST: Duration = Duration::from_secs(12);
const LEAST_RANGE: Duration = Duration::from_secs(4);

fn hasten(rule: &str) -> String {
    let longest = spans(rule, &mut |_, seconds, _| seconds.to_string()).1;
    let factor = (LONGEST.as_secs_f64() / longest).min(1.0);
    let replace = &mut |kind: Kind, seconds: f64, _: &str| match kind {
        Kind::Threshold => format!("{:.3}", seconds * factor),
        Kind::For => format!("{}ms", (seconds * factor * 1e3).ceil()),
        Kind::Range => format!("{}ms", ((seconds * factor).max(LEAST_RANGE.as_secs_f64()) * 1e3).ceil()),
    };
    spans(rule, replace).0
}

#[derive(Clone, Copy)]
enum Kind {
    For,
    Range,
    Threshold,
}

/// The rule with each span replaced, and the longest in seconds.
fn spans(rule: &str, replace: &mut dyn FnMut(Kind, f64, &str) -> String) -> (String, f64) {
    let (mut text, mut longest) = (String::new(), 0.0_f64);
    let mut span = |kind, seconds: f64, was: &str| {
        longest = longest.max(seconds);
        replace(kind, seconds, was)
    };
    for line in rule.lines() {
        let mut line = line.to_owned();
        if let Some(at) = line.find("for: ").filter(|_| line.trim_start().starts_with("for: ")) {
            let was = line.split_off(at + 5);
            line += &span(Kind::For, duration(&was), &was);
        }
        let mut done = String::new();
        while let Some((before, after)) = line.split_once('[') {
            let (was, after) = after.split_once(']').unwrap();
            done += &format!("{before}[{}]", span(Kind::Range, duration(was), was));
            line = after.to_owned();
        }
        line = done + &line;
        for unit in [60, 3600, 86400] {
            while let Some((before, after)) = line.split_once(&format!(" * {unit}")) {
                assert!(!after.starts_with(|letter: char| letter.is_ascii_digit()), "{line}");
                let (before, number) = before.rsplit_once(' ').unwrap();
                let seconds = number.parse::<f64>().unwrap() * f64::from(unit);
                line = format!("{before} {}{after}", span(Kind::Threshold, seconds, number));
            }
        }
        text += &line;
        text.push('\n');
    }
    (text, longest)
}

/// One number and one unit, in seconds.
fn duration(text: &str) -> f64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => panic!("{text}"),
    };
    number.parse::<f64>().unwrap() * unit
}

async fn promtool(arguments: &[&str]) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(deploy("prometheus")).kill_on_drop(true);
    let output = command.output().await.expect("promtool; tests/run installs it");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[tokio::test]
async fn the_rules_and_their_tests_satisfy_promtool() {
    let said = promtool(&["check", "rules", "rules.yml"]).await;
    assert!(said.contains(&format!("{} rules found", rules().1.len())), "{said}");
    promtool(&["check", "config", "prometheus.yml"]).await;
    promtool(&["test", "rules", "rules.test.yml"]).await;
    let folder = tempfile::tempdir().unwrap();
    let hastened_file = folder.path().join("rules.yml");
    std::fs::write(&hastened_file, hastened()).unwrap();
    promtool(&["check", "rules", hastened_file.to_str().unwrap()]).await;
}

#[test]
fn a_rule_is_hastened_as_a_whole() {
    let rule = "X\n  expr: time() - a > 20 * 60 and increase(b[10m]) > 0.1 or c[1m]\n  for: 5m\n";
    let expected = "X\n  expr: time() - a > 12.000 and increase(b[6000ms]) > 0.1 or c[4000ms]\n  for: 3000ms\n";
    assert_eq!(hasten(rule), expected);
    assert_eq!(hasten("X\n  expr: a == 1\n"), "X\n  expr: a == 1\n");
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
    let worst = ["E2bRelayGap", "E2bRelayStoreDamaged", "E2bRelaySinkUnaccounted", "E2bRelaySwallowed"];
    for lost in worst {
        let rule = rules.iter().find(|rule| rule.name == lost).unwrap_or_else(|| panic!("no rule {lost}"));
        assert!(rule.text.contains("labels: {severity: critical}"), "{lost} is of what is lost");
    }
    assert_eq!(severities, BTreeSet::from(["critical}", "info}", "warning}"]));
    let sections = operations.lines().filter(|line| line.starts_with("### E2bRelay")).count();
    assert_eq!(sections, rules.len(), "OPERATIONS.md explains alerts that are not there");
}
