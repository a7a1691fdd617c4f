//! `deploy/backup`: a copy of the store of a daemon that runs under load, put in the place of a store that is lost.

use crate::support::daemon::{Daemon, Home, reqwest_client};
use crate::support::load::{self, Ongoing, SECRET, body};
use crate::support::verify;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Acknowledged before the copy is begun; enough for several segments of 1 MiB.
const BEFORE: usize = 6_000;

fn configuration() -> String {
    // Segments of 1 MiB. Of two sinks one has everything, and one never anything.
    format!(
        "store: {{path: ./data, max_size: 64MiB}}\nsources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks:\n  \
         audit: {{type: file, path: ./audit.ndjson}}\n  \
         down: {{type: nats, servers: ['nats://127.0.0.1:1'], jetstream: false}}\n"
    )
}

/// A `cp` that notes, before it copies, whether the daemon stands still.
fn watched_path(home: &Home) -> std::ffi::OsString {
    let folder = home.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let watched = folder.join("cp");
    if !watched.exists() {
        let state = r#"$(sed 's/.*) //' "/proc/$RELAY/stat" | cut -c1)"#;
        std::fs::write(&watched, format!("#!/bin/sh\necho \"{state} $*\" >>\"$CALLS\"\nexec /bin/cp \"$@\"\n"))
            .unwrap();
        std::fs::set_permissions(&watched, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap();
    std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

fn calls(home: &Home) -> std::path::PathBuf {
    home.path().join("calls")
}

/// What is written to was copied while nobody wrote, and what is large was not.
fn assert_stood_still_for_what_is_written_to(home: &Home) {
    let calls = std::fs::read_to_string(calls(home)).unwrap();
    std::fs::remove_file(self::calls(home)).unwrap();
    let of = |what: &str| calls.lines().filter(|call| call.contains(what)).collect::<Vec<_>>();
    let stood = |call: &&str| call.starts_with("T ");
    for what in [" meta ", " dead-letters ", " sandboxes "] {
        assert!(!of(what).is_empty() && of(what).iter().all(stood), "{what}: {calls}");
    }
    let segments = of(".seg ");
    let newest = segments.iter().filter(|call| call.contains(" journal/")).take_while(|call| stood(call)).count();
    assert!(newest == 2 && segments.len() > 4 && !segments.last().is_some_and(stood), "{calls}");
}

async fn backup(home: &Home, copy: &Path, daemon: Option<&Daemon>) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/backup");
    let mut command = tokio::process::Command::new(script);
    command.arg(home.path().join("data")).arg(copy);
    if let Some(daemon) = daemon {
        let pid = daemon.pid().to_string();
        command.arg(&pid).env("PATH", watched_path(home)).env("RELAY", pid).env("CALLS", calls(home));
    }
    let output = command.output().await.unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Deliveries of events that a test has made itself: whether each was known.
async fn deliver(daemon: &Daemon, name: &str, numbers: std::ops::Range<usize>) -> Vec<bool> {
    let (client, webhook) = (reqwest_client(), daemon.webhook());
    let mut known = Vec::new();
    for number in numbers {
        let event = body(&format!("{name}-{number}"), &format!("sbx-{}", number % 7), number, true);
        let (status, answer) = load::post(&client, &webhook, SECRET, &event).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        known.push(answer["duplicate"] == true);
    }
    known
}

/// How often each event is in the file.
fn counts(file: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        *counts.entry(record["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_taken_under_load_has_all_that_was_acknowledged_before_it() {
    let home = Home::new(&configuration());
    let daemon = home.start().await;
    let load = Ongoing::begin("backup", |_| serde_json::json!("usual"));
    load.go_on(daemon.webhook(), BEFORE);
    assert!(deliver(&daemon, "before", 0..50).await.iter().all(|known| !known));
    daemon.until_settled("audit", BEFORE as u64).await;
    // While it is loaded, and several times, so that a copy meets the end of a segment, too.
    load.go_on(daemon.webhook(), usize::MAX >> 4);
    let mut copies = Vec::new();
    for number in 0..8 {
        let name = format!("marked-{number}");
        assert_eq!(deliver(&daemon, &name, 0..5).await, [false; 5]);
        let (copy, began) = (home.path().join(format!("copy-{number}")), Instant::now());
        let (done, said) = backup(&home, &copy, Some(&daemon)).await;
        assert!(done, "{said}");
        println!("copied in {:?}", began.elapsed());
        assert_stood_still_for_what_is_written_to(&home);
        copies.push((copy, name));
        assert_eq!(deliver(&daemon, &format!("after-{number}"), 0..5).await, [false; 5]);
    }
    let metrics = daemon.metrics().await;
    for outcome in ["store_full", "overloaded", "timeout"] {
        assert_eq!(metrics.sum("deliveries_total", outcome), 0.0, "{outcome}");
    }
    daemon.kill().await;
    drop(load);

    let data = home.path().join("data");
    for (number, (copy, marked)) in copies.iter().enumerate() {
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(copy, &data).unwrap();
        let proof = verify::sound(&home).await;
        assert!(proof["segments"].as_u64().unwrap() > 4, "{proof}");
        let down = proof["sinks"].as_array().unwrap().iter().find(|sum| sum["sink"] == "down").unwrap();
        assert_eq!(down["pending"], proof["accepted"], "{down}");
        let records = home.path().join("audit.ndjson");
        let had = counts(&records);
        let daemon = home.start().await;
        assert!(deliver(&daemon, "before", 0..50).await.iter().all(|known| *known), "copy {number}");
        assert_eq!(deliver(&daemon, marked, 0..5).await, [true; 5]);
        // What came after the copy is not known to it, and comes a second time, with the same id.
        let after = format!("after-{number}");
        assert_eq!(deliver(&daemon, &after, 0..5).await, [false; 5]);
        let again = |id: &str| counts(&records).get(id).copied().unwrap_or(0) > had.get(id).copied().unwrap_or(0);
        let began = Instant::now();
        while !(0..5).all(|number| again(&format!("{after}-{number}"))) {
            assert!(began.elapsed() < Duration::from_secs(60), "they do not come again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(had.len() > BEFORE && (0..50).all(|number| had.contains_key(&format!("before-{number}"))));
        assert!(daemon.terminate().await.success());
        verify::sound(&home).await;
    }
}

#[tokio::test]
async fn a_stopped_daemons_store_is_copied_and_one_that_is_open_is_not_without_its_process() {
    let home = Home::new(&configuration());
    let daemon = home.start().await;
    deliver(&daemon, "a", 0..20).await;
    let copy = home.path().join("copy");
    let (done, said) = backup(&home, &copy, None).await;
    assert!(!done && said.contains("give its process id"), "{said}");
    assert!(!copy.exists());
    daemon.until_settled("audit", 20).await;
    assert!(daemon.terminate().await.success());
    let (done, said) = backup(&home, &copy, None).await;
    assert!(done, "{said}");
    let (done, said) = backup(&home, &copy, None).await;
    assert!(!done && said.contains("is there already"), "{said}");
    assert!(!copy.join("admin-token").exists() && !copy.join("seen").exists());
    std::fs::remove_dir_all(home.path().join("data")).unwrap();
    std::fs::rename(&copy, home.path().join("data")).unwrap();
    let proof = verify::sound(&home).await;
    assert_eq!(proof["accepted"], 20);
    let daemon = home.start().await;
    assert_eq!(deliver(&daemon, "a", 0..20).await, [true; 20]);
    assert!(daemon.terminate().await.success());
    assert_eq!(counts(&home.path().join("audit.ndjson")).values().copied().collect::<Vec<_>>(), [1; 20]);
}
