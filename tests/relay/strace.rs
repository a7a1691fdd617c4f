//! What the daemon asks of the kernel, seen by strace: one `fdatasync` per commit, and no 200 before it returned.

use crate::support::daemon::{Home, PATIENCE, reqwest_client};
use crate::support::strace::Strace;
use crate::support::{load, verify};
use std::collections::HashMap;

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

fn home() -> Home {
    Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
        load::SECRET
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_commit_is_one_fdatasync_and_no_200_comes_before_it_returned() {
    let home = home();
    let daemon = home.start().await;
    let trace = home.path().join("trace");
    let strace = Strace::of(&daemon, &["trace=fdatasync,write,writev,sendto,sendmsg"], &trace).await;
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
    let traced = strace.detach().await;
    assert!(daemon.terminate().await.success());
    let seen = seen(&traced);
    let synced = seen.iter().filter(|seen| **seen == Seen::Synced).count();
    assert_eq!((committed, synced), (DELIVERIES as f64, DELIVERIES));
    for (number, pair) in seen.chunks(2).enumerate() {
        assert_eq!(pair, [Seen::Synced, Seen::Answered], "delivery {number}");
    }
    assert_eq!(seen.len(), 2 * DELIVERIES);
    println!("{DELIVERIES} commits, {synced} fdatasync, each before its 200");
    verify::sound(&home).await;
}

/// What the janitor asks each second whether there is room for the reserve.
fn looks(trace: &str) -> usize {
    trace.lines().filter(|line| line.contains("statfs(")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_happens_the_store_syncs_nothing() {
    let home = home();
    let daemon = home.start().await;
    // The reserve and the positions are on disk once the first delivery is settled and the store was looked after.
    let body = load::body("first", "sbx", 1, true);
    let (status, _) = load::post(&reqwest_client(), &daemon.webhook(), load::SECRET, &body).await.unwrap();
    assert_eq!(status, 200);
    daemon.until_settled("audit", 1).await;
    let trace = home.path().join("trace");
    // sled's own threads ask for `fsync` twice a second, whatever happens.
    let strace = Strace::of(&daemon, &["trace=fdatasync,statfs"], &trace).await;
    let looked = async |times: usize| {
        while looks(&strace.seen()) < times {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked(2)).await.expect("the store is looked after");
    let settled = strace.seen().len();
    tokio::time::timeout(PATIENCE, looked(8)).await.expect("the store is looked after");
    let traced = strace.detach().await;
    let synced: Vec<&str> = traced[settled..].lines().filter(|line| line.contains("fdatasync(")).collect();
    assert_eq!(synced, [] as [&str; 0], "an idle daemon syncs");
    assert!(daemon.terminate().await.success());
}

#[test]
fn an_answer_before_the_sync_returned_is_told_from_one_after() {
    let early = "7 fdatasync(9</s/journal/000000000001.seg> <unfinished ...>\n8 writev(5<s>, [{\"HTTP/1.1 200 OK\\r\\n\\r\\n{\\\"success\\\":true\"}], 1) = 9\n7 <... fdatasync resumed>) = 0";
    assert_eq!(seen(early), [Seen::Answered, Seen::Synced]);
    let other = "7 fdatasync(9</s/dead-letters/letters.log>) = 0";
    assert_eq!(seen(other), []);
}
