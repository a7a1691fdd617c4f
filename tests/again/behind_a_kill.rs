//! A process ended between two notes: a record's dead letter is on disk, and the position is not past it yet.

use super::ask;
use crate::relay::sinks::until_caught_up;
use crate::support::daemon::Home;
use crate::support::load::SECRET;
use crate::support::stored::Store;
use crate::support::{consume, stored, verify};
use e2b_relay::event::Event;
use e2b_relay::store::{Cause, Resolution, Settings};
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_a_dead_letter_already_is_not_sent_besides() {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    assert!(home.start().await.terminate().await.success());
    let settings = Settings { path: home.path().join("data"), ..Settings::default() };
    let store = Store::open(settings, stored::parts()).unwrap();
    for number in 0..6 {
        let now = jiff::Timestamp::now();
        let (id, kind, sandbox_id) =
            (format!("event-{number}"), "sandbox.lifecycle.updated".to_owned(), "sandbox".to_owned());
        let body = json!({"id": id, "type": kind, "timestamp": now, "sandbox_id": sandbox_id}).to_string();
        let event = Event { id, kind, timestamp: now.into(), sandbox_id, body: body.into() };
        store.accept(event, stored::arrival(now)).await.unwrap();
    }
    let records = stored::records_after(&store, 0, 6);
    let cause = Cause { reason: "rejected".to_owned(), message: "no".to_owned() };
    let letters: Vec<_> = [1, 3].map(|at: usize| (Arc::clone(&records[at].stored), cause.clone())).into();
    assert_eq!(store.park("audit", &letters).unwrap(), 2);
    // An operator was quicker than the position.
    assert_eq!(store.resolve("audit", &[letters[1].0.sequence], Resolution::Dropped).unwrap(), 1);
    drop(store);

    let daemon = home.start().await;
    until_caught_up(&daemon, "audit").await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("sink_unaccounted_events", ""), 0.0);
    let (_, listed, _) = ask(&home, &daemon, &["dead-letters", "list", "--format", "json"]).await;
    assert!(listed.contains("event-1") && !listed.contains("event-3"), "{listed}");
    assert!(daemon.terminate().await.success());
    let sent: Vec<Value> = consume::file(&home.path().join("audit.ndjson"));
    let sent: Vec<&str> = sent.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!(sent, ["event-0", "event-2", "event-4", "event-5"]);
    verify::sound(&home).await;
}
