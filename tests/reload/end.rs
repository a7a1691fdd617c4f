//! A reload that takes its time, and what comes meanwhile.

use super::{IN_FORCE, SECRET, deliver};
use crate::support::daemon::{Daemon, Home};
use tokio::net::TcpListener;

/// Connects, and never says a word: a sink there waits for whatever it has asked.
async fn black_hole() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    address.to_string()
}

fn with(hole: &str, max_in_flight: usize) -> String {
    format!(
        "store: {{path: ./data}}\nsources: {{acme: {{webhook: {{secrets: [{SECRET}]}}}}}}\nsinks:\n  \
         lake: {{type: kafka, brokers: ['{hole}'], topic: t, max_in_flight: {max_in_flight}}}\n"
    )
}

/// A daemon whose sink has something under way that is never confirmed, and where that is.
async fn stuck() -> (Home, Daemon, String) {
    let hole = black_hole().await;
    let home = Home::new(&with(&hole, 10));
    let daemon = home.start().await;
    assert_eq!(deliver(&daemon, "/webhooks/e2b", SECRET, "a").await, 200);
    daemon.until("it waits for the sink", |metrics| metrics.sum("sink_lag_events", "") == 1.0).await;
    (home, daemon, hole)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_during_a_reload_it_ends_in_good_order() {
    let (home, daemon, hole) = stuck().await;
    home.configure(&with(&hole, 11));
    let seen = daemon.log().len();
    daemon.hang_up();
    daemon.says(seen, "the configuration is being read again").await;
    assert_eq!(deliver(&daemon, "/webhooks/e2b", SECRET, "b").await, 200);
    assert!(daemon.terminate().await.success());
    let proof = crate::support::verify::sound(&home).await;
    assert_eq!(proof["sinks"][0]["pending"], 2, "{proof}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_during_a_reload_is_done_once_after_it() {
    let (home, daemon, hole) = stuck().await;
    let before = daemon.log().len();
    home.configure(&with(&hole, 11));
    daemon.hang_up();
    // It is under way once it has read what it found, which is until the sink has given up.
    daemon.says(before, "what is not confirmed").await;
    home.configure(&with(&hole, 12));
    for _ in 0..5 {
        daemon.hang_up();
    }
    daemon.says(before, IN_FORCE).await;
    let first = daemon.log().iter().position(|line| line.contains(IN_FORCE)).unwrap();
    let second = daemon.says(first + 1, IN_FORCE).await;
    assert!(second.contains("lake"), "the last configuration is in force: {second}");
    let count = daemon.log().iter().filter(|line| line.contains(IN_FORCE)).count();
    assert!(count <= 3, "five signals made {count} reloads");
    daemon.kill().await;
}
