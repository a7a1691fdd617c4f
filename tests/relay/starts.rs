//! Starts without room, without file descriptors, or with what is broken: the positions are not lost by it, nor what was set
//! aside before.

use super::again::set_aside;
use super::full::{SmallDisk, assert_refused};
use crate::admin::{asking, run};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home, Metrics};
use crate::support::load::{self, Plan, SECRET};
use crate::support::oracle::{self, Got, Ledger, Remains, Terms};
use crate::support::{seed, verify};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::process::Command;

const EVENTS: usize = 500;
/// Nobody listens there.
const DOWN: &str = "{type: nats, servers: ['nats://127.0.0.1:1'], jetstream: false}";

fn configuration(late: &str) -> String {
    format!(
        "store: {{path: ./data, min_free: 4MiB, max_size: 64MiB}}\nsources: {{acme: {{webhook: {{secrets: \
         ['{SECRET}']}}}}}}\nsinks:\n  audit: {{type: file, path: ./audit.ndjson}}\n  late: {late}\n"
    )
}

async fn send(daemon: &Daemon, purpose: &str, ledger: &mut Ledger) {
    let webhook = daemon.webhook();
    let seed = seed::random(purpose).u64(..);
    let plan = Plan { seed, events: EVENTS, insist: true, ..Plan::default() };
    ledger.extend(load::send(plan, move || webhook.clone()).await.ledger);
}

/// Each of these files has each event once.
fn assert_once(home: &Home, sinks: &[&str], ledger: &Ledger) {
    for sink in sinks {
        let got: Vec<Got> = consume::file(&home.path().join(format!("{sink}.ndjson")));
        let verdict = oracle::judge(sink, &got, &Remains::default(), ledger, Terms::default());
        verdict.assert_kept();
        assert_eq!(verdict.delivered, verdict.acknowledged, "{sink}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_the_daemon_comes_up_answers_503_and_drains_its_sinks_until_there_is_room() {
    let home = Home::new(&configuration(DOWN));
    let disk = SmallDisk::mount(&home.path().join("data"));
    let mut ledger = Ledger::default();
    let daemon = home.start().await;
    send(&daemon, "full at the start: before", &mut ledger).await;
    daemon.until_settled("audit", EVENTS as u64).await;
    assert!(daemon.terminate().await.success());
    let ballast = disk.fill(0);
    // The sink has a file now, on another disk.
    home.configure(&configuration("{type: file, path: ./late.ndjson}"));
    let daemon = home.start().await;
    assert_refused(&daemon, &json!("usual")).await;
    daemon.until_settled("late", EVENTS as u64).await;
    assert_refused(&daemon, &json!("usual")).await;
    assert_eq!(set_aside(&home.path().join("data")), [] as [PathBuf; 0], "set aside, although nothing was broken");
    // A kill now, and the positions are where they were.
    daemon.kill().await;
    let daemon = home.start().await;
    assert_refused(&daemon, &json!("usual")).await;
    std::fs::remove_file(ballast).unwrap();
    send(&daemon, "full at the start: after", &mut ledger).await;
    for sink in ["audit", "late"] {
        daemon.until_settled(sink, EVENTS as u64).await;
    }
    assert!(daemon.terminate().await.success());
    assert_eq!(set_aside(&home.path().join("data")), [] as [PathBuf; 0], "set aside, although nothing was broken");
    assert_once(&home, &["audit", "late"], &ledger);
    verify::sound(&home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_file_descriptors_a_start_fails_and_sets_nothing_aside() {
    let home = Home::new(&configuration("{type: file, path: ./late.ndjson}"));
    let mut ledger = Ledger::default();
    let daemon = home.start().await;
    send(&daemon, "few descriptors: before", &mut ledger).await;
    for sink in ["audit", "late"] {
        daemon.until_settled(sink, EVENTS as u64).await;
    }
    assert!(daemon.terminate().await.success());
    let mut ended = 0;
    // From too few to load the program, to more than it takes.
    for limit in 8..32 {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(env!("CARGO_BIN_EXE_e2b-relay"));
        match home.spawn_by(command, None).outcome().await {
            Ok(daemon) => drop(daemon.kill().await),
            Err((status, said)) => {
                ended += 1;
                assert!(!status.success(), "{limit}: {said:?}");
            }
        }
        let aside = set_aside(&home.path().join("data"));
        assert_eq!(aside, [] as [PathBuf; 0], "set aside with {limit} descriptors, although nothing was broken");
    }
    println!("{ended} of 24 starts failed");
    assert!(ended > 5, "there were enough descriptors all the time");
    let daemon = home.start().await;
    send(&daemon, "few descriptors: after", &mut ledger).await;
    for sink in ["audit", "late"] {
        daemon.until_settled(sink, EVENTS as u64).await;
    }
    assert!(daemon.terminate().await.success());
    assert_once(&home, &["audit", "late"], &ledger);
    verify::sound(&home).await;
}

/// One of three is of a kind that the filter of `b` cannot judge.
fn kind(number: usize) -> Value {
    if number.is_multiple_of(3) { json!("neither true nor false") } else { json!(true) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_that_cannot_be_written_anew_for_want_of_room_do_not_hold_up_the_start() {
    const LETTERS: usize = 3_000;
    let filter = |field: &str| format!("filter: event_data.sandbox_metadata.{field}");
    let home = Home::new(&format!(
        "{}  a: {{type: file, path: ./a.ndjson, {}}}\n  b: {{type: file, path: ./b.ndjson, {}}}\n",
        configuration("{type: file, path: ./late.ndjson}"),
        filter("note"),
        filter("kind")
    ));
    let disk = SmallDisk::mount(&home.path().join("data"));
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    let plan = Plan { events: LETTERS, kind, insist: true, ..Plan::default() };
    load::send(plan, move || webhook.clone()).await;
    for sink in ["audit", "late", "a", "b"] {
        daemon.until_settled(sink, LETTERS as u64).await;
    }
    // Those of one sink are dropped, and stay in the file: the new one cannot be made.
    let obstacle = home.path().join("data/dead-letters/letters.log.new");
    std::fs::create_dir(&obstacle).unwrap();
    run(asking(&home, &daemon, &["dead-letters", "drop", "--sink", "a", "--all"])).await;
    let waiting =
        |metrics: &Metrics, sink: &str| metrics.sum("sink_dead_letters", &format!("sink=\"{sink}\"")) as usize;
    assert!(daemon.terminate().await.success());
    std::fs::remove_dir(obstacle).unwrap();
    let letters = std::fs::metadata(home.path().join("data/dead-letters/letters.log")).unwrap().len();
    assert!(letters > 2 << 20, "they are written anew already");
    let ballast = disk.fill(0);
    // The reserve may make room for the new file, which gives back more than it takes: but not so much.
    let daemon = home.start_with(&[("E2B_RELAY__STORE__MIN_FREE", "8MiB".into())]).await;
    assert_refused(&daemon, &json!("usual")).await;
    let metrics = daemon.metrics().await;
    assert_eq!((waiting(&metrics, "a"), waiting(&metrics, "b")), (0, LETTERS / 3));
    std::fs::remove_file(ballast).unwrap();
    // Accepted again by itself; `a` cannot judge this one either.
    let (webhook, seed) = (daemon.webhook(), seed::random("letters and no room").u64(..));
    let plan = Plan { seed, events: 1, kind: |_| json!(true), insist: true, ..Plan::default() };
    load::send(plan, move || webhook.clone()).await;
    daemon.until_settled("a", 1).await;
    assert!(daemon.terminate().await.success());
    let daemon = home.start().await;
    let metrics = daemon.metrics().await;
    assert_eq!((waiting(&metrics, "a"), waiting(&metrics, "b")), (1, LETTERS / 3));
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}

/// Every file below `folder` with just this in it.
fn with_text(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(with_text(&path, text));
        } else if std::fs::read(&path).unwrap() == text.as_bytes() {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_aside_stays_when_something_is_set_aside_again() {
    let home = Home::new(&configuration("{type: file, path: ./late.ndjson}"));
    let mut ledger = Ledger::default();
    let daemon = home.start().await;
    send(&daemon, "broken twice", &mut ledger).await;
    assert!(daemon.terminate().await.success());
    let data = home.path().join("data");
    let damages = ["this is no database", "nor is this one"];
    for damage in damages {
        // Its checksum does not fit: corrupt beyond doubt.
        std::fs::write(data.join("meta/conf"), damage).unwrap();
        let daemon = home.start().await;
        assert!(daemon.terminate().await.success());
    }
    for damage in damages {
        assert_eq!(with_text(&data, damage).len(), 1, "{damage:?} is not kept: {:?}", set_aside(&data));
    }
}
