//! `deploy/systemd`, judged by systemd's own tools.

use std::path::PathBuf;
use std::process::Command;

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd").join(name)
}

fn analyze(arguments: &[&str], units: &[PathBuf]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).args(units).output().expect("systemd-analyze");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn the_service_is_hardened_and_what_is_left_open_is_explained() {
    let (_, said) = analyze(&["security", "--offline=true", "--no-pager"], &[shipped("e2b-relay.service")]);
    let level = said.lines().find_map(|line| line.split_once("Overall exposure level")).expect("a level").1;
    let level: f64 = level.split_whitespace().find_map(|word| word.parse().ok()).expect("a number");
    assert!(level <= 1.8, "{said}");
    let unit = std::fs::read_to_string(shipped("e2b-relay.service")).unwrap();
    let (_, explained) = unit.split_once("still names, and why it stays:").expect("the explanations");
    let mut open = 0;
    for line in said.lines().filter_map(|line| line.strip_prefix('✗')) {
        let name = line.split_whitespace().next().unwrap().split(['=', '/']).next().unwrap();
        assert!(explained.contains(name), "not explained in the unit: {line}");
        open += 1;
    }
    assert!((1..10).contains(&open), "{said}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let units = ["e2b-relay.service", "e2b-relay.socket"].map(|name| {
        let unit = std::fs::read_to_string(shipped(name)).unwrap();
        let path = folder.path().join(name);
        // It looks whether the binary is there.
        std::fs::write(&path, unit.replace("/usr/bin/e2b-relay", env!("CARGO_BIN_EXE_e2b-relay"))).unwrap();
        path
    });
    // Manuals that this machine does not have are no fault of the units.
    assert_eq!(analyze(&["verify", "--man=no"], &units), (true, String::new()));
}
