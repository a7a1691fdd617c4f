//! What the daemon asks of the kernel, seen by strace: one `fdatasync` per commit, and no 200 before it returned.

use crate::support::daemon::{Home, reqwest_client};
use crate::support::{load, verify};
use std::collections::HashMap;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const DELIVERIES: usize = 200;

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// `fdatasync` of a segment of the journal returned.
    Synced,
    /// An acknowledgement was begun to be written.
    Answered,
}

/// In the order in which the kernel was asked. `pid call(…) = 0`, or in two lines that others come between.
fn seen(trace: &str) -> Vec<Seen> {
    let mut unfinished = HashMap::new();
    let mut seen = Vec::new();
    for line in trace.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let (begun, ended) = match call.strip_prefix("<... fdatasync resumed>") {
            Some(rest) => (unfinished.remove(pid).unwrap_or_default(), rest),
            None => (call, call),
        };
        if call.ends_with("<unfinished ...>") && call.starts_with("fdatasync(") {
            unfinished.insert(pid, call);
        } else if begun.starts_with("fdatasync(") && begun.contains("/journal/") && begun.contains(".seg>") {
            assert!(ended.ends_with("= 0"), "{line}");
            seen.push(Seen::Synced);
        }
        // As strace writes the body's first bytes; the word alone stands in the page of metrics, too.
        if call.contains("HTTP/1.1 200") && call.contains(r#"{\"success\""#) {
            seen.push(Seen::Answered);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_is_one_fdatasync_and_no_200_comes_before_it_returned() {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
        load::SECRET
    ));
    let daemon = home.start().await;
    let trace = home.path().join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-y", "-s", "400", "-e", "trace=fdatasync,write,writev,sendto,sendmsg", "-o"])
        .arg(&trace)
        .args(["-p", &daemon.pid().to_string()])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the strace command; tests/run installs it");
    let mut said = BufReader::new(strace.stderr.take().unwrap()).lines();
    let first = said.next_line().await.unwrap().unwrap_or_default();
    assert!(first.contains("attached"), "tracing is forbidden here, so that this cannot be shown: {first}");
    let commits = |metrics: &crate::support::daemon::Metrics| metrics.sum("store_commit_duration_seconds_count", "");
    let before = commits(&daemon.metrics().await);
    // One at a time, so that each has a commit of its own, and it is decided which sync covers which answer.
    let client = reqwest_client();
    for number in 0..DELIVERIES {
        let body = load::body(&format!("traced-{number}"), "sbx", number, true);
        let (status, _) = load::post(&client, &daemon.webhook(), load::SECRET, &body).await.unwrap();
        assert_eq!(status, 200);
    }
    let committed = commits(&daemon.metrics().await) - before;
    let pid = rustix::process::Pid::from_raw(strace.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    while said.next_line().await.unwrap().is_some() {}
    strace.wait().await.unwrap();
    assert!(daemon.terminate().await.success());
    let seen = seen(&std::fs::read_to_string(&trace).unwrap());
    let synced = seen.iter().filter(|seen| **seen == Seen::Synced).count();
    assert_eq!((committed, synced), (DELIVERIES as f64, DELIVERIES));
    for (number, pair) in seen.chunks(2).enumerate() {
        assert_eq!(pair, [Seen::Synced, Seen::Answered], "delivery {number}");
    }
    assert_eq!(seen.len(), 2 * DELIVERIES);
    println!("{DELIVERIES} commits, {synced} fdatasync, each before its 200");
    verify::sound(&home).await;
}

#[test]
fn an_answer_before_the_sync_returned_is_told_from_one_after() {
    let early = "7 fdatasync(9</s/journal/000000000001.seg> <unfinished ...>\n8 writev(5<s>, [{\"HTTP/1.1 200 OK\\r\\n\\r\\n{\\\"success\\\":true\"}], 1) = 9\n7 <... fdatasync resumed>) = 0";
    assert_eq!(seen(early), [Seen::Answered, Seen::Synced]);
    let other = "7 fdatasync(9</s/dead-letters/letters.log>) = 0";
    assert_eq!(seen(other), []);
}
