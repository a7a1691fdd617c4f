//! `tap`: events as they are stored, told to whoever listens and held up by nobody.

use super::{asking, deliver, event, receiving, run};
use crate::support::consume;
use crate::support::daemon::{Daemon, PATIENCE};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;

/// A tap that is open; the first, empty line has come.
async fn open(daemon: &Daemon, parameters: &str) -> reqwest::Response {
    let url = format!("http://{}/api/tap?{parameters}", daemon.admin);
    let mut reply = daemon.client().get(url).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "application/x-ndjson");
    assert_eq!(reply.chunk().await.unwrap().unwrap(), "\n");
    reply
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_is_told_as_a_sink_gets_it_until_the_daemon_ends() {
    let home = receiving();
    let daemon = home.start().await;
    assert_eq!(deliver(&daemon, &event("before", "sbx1", &json!({}))).await, 200);
    let all = open(&daemon, "").await;
    let one = open(&daemon, "sandbox_id=sbx2&type=sandbox.*.created&source=acme").await;
    let none = open(&daemon, "type=sandbox.metrics").await;
    for (id, sandbox) in [("a", "sbx1"), ("b", "sbx2"), ("c", "sbx1")] {
        assert_eq!(deliver(&daemon, &event(id, sandbox, &json!({"name": id}))).await, 200);
    }
    daemon.until_settled("audit", 4).await;
    // A listener does not hold up the end.
    assert!(daemon.terminate().await.success());
    let [all, one, none] = [all, one, none].map(async |reply| lines(&reply.text().await.unwrap()));
    let (all, one, none) = (all.await, one.await, none.await);
    let end = json!({"ended": "the daemon ends"});
    let written = std::fs::read_to_string(home.path().join("audit.ndjson")).unwrap();
    let mut expected: Vec<Value> = lines(&written).into_iter().skip(1).map(|record| json!({"event": record})).collect();
    expected.push(end.clone());
    assert_eq!(all, expected);
    assert_eq!(one, [expected[1].clone(), end.clone()]);
    assert_eq!(none, [end]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_listen_is_told_how_much_he_missed_and_where_and_nobody_waits_for_him() {
    const EVENTS: usize = 2_000;
    let home = receiving();
    let daemon = home.start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = socket.connect(daemon.admin.parse().unwrap()).await.unwrap();
    slow.write_all(b"GET /api/tap HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    // The first piece is its header: from here on it is open, and nobody reads.
    slow.readable().await.unwrap();
    let padding = json!({"text": "x".repeat(10_000)});
    let answers: Vec<u16> = stream::iter(0..EVENTS)
        .map(async |number| deliver(&daemon, &event(&format!("e{number}"), "sbx", &padding)).await)
        .buffer_unordered(16)
        .collect()
        .await;
    assert!(answers.iter().all(|status| *status == 200));
    daemon.until_settled("audit", EVENTS as u64).await;
    assert_eq!(consume::file::<Value>(&home.path().join("audit.ndjson")).len(), EVENTS, "the sink got all");

    let mut told = BufReader::new(slow).lines();
    let (mut next, mut skipped) = (1, 0);
    while next <= EVENTS as u64 {
        let line = tokio::time::timeout(PATIENCE, told.next_line()).await.expect("a line").unwrap().expect("more");
        // Beside the lines there are the header, empty ones and the lengths of the pieces.
        let Ok(Value::Object(line)) = serde_json::from_str(&line) else { continue };
        match (line.get("event"), line.get("skipped").and_then(Value::as_u64)) {
            (Some(event), None) => {
                assert_eq!(event["relay"]["sequence"], next, "each at its place");
                next += 1;
            }
            (None, Some(passed)) => {
                next += passed;
                skipped += passed;
            }
            _ => panic!("{line:?}"),
        }
    }
    println!("{} told, {skipped} passed over", next - 1 - skipped);
    assert!(skipped > 500 && next - 1 == EVENTS as u64, "{skipped} of {next}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_as_many_taps_as_may_be_and_a_place_becomes_free_again() {
    let home = receiving();
    let daemon = home.start().await;
    let mut taps = Vec::new();
    for _ in 0..8 {
        taps.push(open(&daemon, "").await);
    }
    let refused = run(asking(&home, &daemon, &["tap"])).await;
    assert!(refused.code == Some(69) && refused.err.contains("8 taps are open"), "{refused:?}");
    let wrong = run(asking(&home, &daemon, &["tap", "--type", "[", "--limit", "1"])).await;
    assert!(wrong.code == Some(64) && wrong.err.contains("type:"), "{wrong:?}");
    taps.pop();
    let freed = async {
        let url = format!("http://{}/api/tap", daemon.admin);
        while daemon.client().get(&url).send().await.unwrap().status() != 200 {
            // Whoever has gone away is noticed with the next line that is sent to him.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("a free place");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_shows_rows_as_they_come_or_records_and_ends_with_the_daemon() {
    let home = receiving();
    let daemon = home.start().await;
    let spawn = |arguments: &[&str]| {
        let mut command = asking(&home, &daemon, &[&["tap"], arguments].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut rows = spawn(&[]);
    let mut out = BufReader::new(rows.stdout.take().unwrap()).lines();
    let heading = out.next_line().await.unwrap().unwrap();
    assert!(heading.starts_with("TIME ") && heading.ends_with("  ID"), "{heading}");
    let some = spawn(&["--format", "json", "--limit", "2"]);
    let some = tokio::spawn(some.wait_with_output());
    let mut sent = 0;
    // Until the second one is open, too, and has had its two.
    while !some.is_finished() {
        let hostile = format!("sbx\u{202e}{sent}");
        assert_eq!(deliver(&daemon, &event(&format!("e{sent}"), &hostile, &json!({}))).await, 200);
        let row = out.next_line().await.unwrap().unwrap();
        assert!(row.contains("sandbox.lifecycle.created") && row.contains(&format!("e{sent}")), "{row}");
        assert!(row.contains("\\u{202e}") && !row.contains('\u{202e}'), "{row}");
        sent += 1;
    }
    let some = some.await.unwrap().unwrap();
    assert_eq!(some.status.code(), Some(0), "{some:?}");
    let records = lines(std::str::from_utf8(&some.stdout).unwrap());
    assert!(records.len() == 2 && records[0]["relay"]["source"] == "acme", "{records:?}");
    assert!(daemon.terminate().await.success());
    let ended = rows.wait_with_output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(0) && said.contains("the daemon ends"), "{said}");
}
