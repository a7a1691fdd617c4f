//! Each folder of `tests/data/settings/bad` is one fault: the configuration, and in `expect` what must be said of it.
//!
//! `expect` holds lines; each must be within one line of what the program says. `VAR=value` lines at its head set the
//! environment.

use super::{files_in, relay, repository, run};
use std::path::Path;

#[test]
fn every_fault_is_told_with_file_line_key_and_remedy() {
    let folder = repository().join("tests/data/settings/bad");
    let cases: Vec<_> = files_in(&folder).into_iter().filter(|path| path.is_dir()).collect();
    assert!(cases.len() >= 30, "only {} cases were found", cases.len());
    let failures: Vec<String> = cases.iter().filter_map(|case| complaint(case)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// What is not as expected in one case.
fn complaint(case: &Path) -> Option<String> {
    let name = case.file_name()?.to_string_lossy().into_owned();
    let expected = std::fs::read_to_string(case.join("expect")).unwrap_or_else(|error| panic!("{name}: {error}"));
    let is_setting = |line: &&str| line.split_once('=').is_some_and(|(name, _)| is_variable(name));
    let (settings, expected): (Vec<&str>, Vec<&str>) = expected.lines().partition(is_setting);
    assert!(!expected.is_empty(), "{name} expects nothing");
    let mut command = relay(case);
    for (name, value) in settings.iter().filter_map(|line| line.split_once('=')) {
        command.env(name, value);
    }
    command.arg("check");
    for file in files_in(case).iter().filter_map(|file| file.file_name()?.to_str()) {
        if file.starts_with("config") {
            command.args(["--config", file]);
        }
    }
    let run = run(&mut command);
    let missing: Vec<&&str> =
        expected.iter().filter(|wanted| !run.stderr.lines().any(|line| has_all(line, wanted))).collect();
    (run.code != Some(78) || !missing.is_empty())
        .then(|| format!("{name}: exit {:?}, nobody said {missing:#?}\nbut:\n{}", run.code, run.said()))
}

/// Whether the line holds every part of `wanted`; parts are set apart by ` … `, in this order.
fn has_all(line: &str, wanted: &str) -> bool {
    let mut rest = Some(line);
    for part in wanted.split(" … ") {
        rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
    }
    rest.is_some()
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}
