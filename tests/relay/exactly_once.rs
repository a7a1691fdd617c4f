//! `exactly_once`: a consumer that reads what is committed sees each record once, whenever the daemon is killed, and
//! whichever copy of its notes it finds.

use super::sinks::until_caught_up;
use crate::support::brokers::{Broker, Kind, kafka, unique};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home, Metrics};
use crate::support::load::{Ongoing, SECRET};
use crate::support::oracle::{self, Got, Ledger, Terms, Verdict};
use crate::support::{seed, verify};
use serde_json::{Value, json};
use std::path::Path;

const EVENTS_PER_ROUND: usize = 2_000;

/// One of 50 is of a kind that the sink's filter cannot judge, which makes it a dead letter.
fn kind(number: usize) -> Value {
    if number.is_multiple_of(50) { json!("neither true nor false") } else { json!(true) }
}

fn configuration(brokers: &str, topic: &str, keys: &str) -> String {
    format!(
        "store: {{max_size: 64MiB}}\nsources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks: {{lake: {{type: \
         kafka, brokers: ['{brokers}'], topic: {topic}, exactly_once: true{keys}}}}}\n"
    )
}

/// With many small transactions.
const KEYS: &str = ", filter: event_data.sandbox_metadata.kind, max_in_flight: 100";

async fn topic(brokers: &str, config: &[(&str, &str)]) -> String {
    let topic = unique("exactly-once");
    consume::create_positions(brokers).await;
    consume::create_topic_with(brokers, &topic, 4, config).await;
    topic
}

async fn judge(home: &Home, brokers: &str, topic: &str, ledger: &Ledger) -> Verdict {
    let proof = verify::sound(home).await;
    let committed = consume::kafka_committed(brokers, topic).await;
    let got: Vec<Got> = committed.iter().map(|(_, payload)| serde_json::from_slice(payload).unwrap()).collect();
    let remains = verify::remains(home, &proof, "lake");
    let verdict = oracle::judge("lake", &got, &remains, ledger, Terms { repeats: 0, unordered: false });
    verdict.assert_kept();
    assert_eq!(verdict.pending, 0);
    verdict
}

async fn until_sent(daemon: &Daemon, at_least: f64) {
    let sent = |metrics: &Metrics| metrics.sum("sink_sent_total", "") >= at_least;
    daemon.until("a part of the round is committed", sent).await;
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").args(["-a", "--"]).args([from, to]).status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_and_an_old_copy_of_the_notes_bring_no_record_twice() {
    let rounds = if seed::soak() { 20 } else { 3 };
    let mut random = seed::random("when to kill whoever sends exactly once");
    let topic = topic(&kafka(), &[]).await;
    let home = Home::new(&configuration(&kafka(), &topic, KEYS));
    let (meta, yesterdays) = (home.path().join("data/meta"), home.path().join("meta-of-yesterday"));
    let load = Ongoing::begin("exactly once", kind);

    let daemon = home.start().await;
    load.top_up(daemon.webhook(), EVENTS_PER_ROUND / 4);
    until_sent(&daemon, EVENTS_PER_ROUND as f64 / 8.0).await;
    assert!(daemon.terminate().await.success());
    copy(&meta, &yesterdays);
    for _ in 0..rounds {
        let daemon = home.start().await;
        load.top_up(daemon.webhook(), EVENTS_PER_ROUND);
        until_sent(&daemon, random.f64() * EVENTS_PER_ROUND as f64 / 2.0).await;
        // At any moment of a transaction.
        tokio::time::sleep(std::time::Duration::from_micros(random.u64(..50_000))).await;
        daemon.kill().await;
        verify::sound(&home).await;
    }
    let daemon = home.start().await;
    load.top_up(daemon.webhook(), EVENTS_PER_ROUND);
    until_sent(&daemon, EVENTS_PER_ROUND as f64 / 2.0).await;
    daemon.kill().await;

    std::fs::remove_dir_all(&meta).unwrap();
    copy(&yesterdays, &meta);
    let daemon = home.start().await;
    load.top_up(daemon.webhook(), EVENTS_PER_ROUND);
    let ledger = load.end().await;
    until_caught_up(&daemon, "lake").await;
    assert!(daemon.terminate().await.success());
    let verdict = judge(&home, &kafka(), &topic, &ledger).await;
    assert!(verdict.dead_lettered > 0, "{verdict:?}");
    println!("row: exactly once, SIGKILL | {} | {verdict:?}", rounds + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_the_broker_refuses_is_parked_and_its_batch_sent_without_it() {
    let topic = topic(&kafka(), &[("max.message.bytes", "6000")]).await;
    let home = Home::new(&configuration(&kafka(), &topic, ", compression: none, max_in_flight: 100"));
    let load = Ongoing::begin("too large", |number| match number % 100 {
        0 => json!("x".repeat(8_000)),
        _ => json!("usual"),
    });
    let daemon = home.start().await;
    load.top_up(daemon.webhook(), 500);
    let ledger = load.end().await;
    until_caught_up(&daemon, "lake").await;
    assert!(daemon.terminate().await.success());
    let verdict = judge(&home, &kafka(), &topic, &ledger).await;
    assert!((1..=20).contains(&verdict.dead_lettered), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_with_a_sink_of_one_name_do_not_shut_each_other_out() {
    let topics = [topic(&kafka(), &[]).await, topic(&kafka(), &[]).await];
    let homes = topics.each_ref().map(|topic| Home::new(&configuration(&kafka(), topic, KEYS)));
    let daemons = [homes[0].start().await, homes[1].start().await];
    let loads = ["one of two", "the other of two"].map(|purpose| Ongoing::begin(purpose, kind));
    for (load, daemon) in loads.iter().zip(&daemons) {
        load.top_up(daemon.webhook(), EVENTS_PER_ROUND / 2);
    }
    for (((home, topic), daemon), load) in homes.iter().zip(&topics).zip(daemons).zip(loads) {
        let ledger = load.end().await;
        until_caught_up(&daemon, "lake").await;
        let metrics = daemon.metrics().await;
        let errors =
            metrics.sum("sink_errors_total", "sink=\"lake\"") - metrics.sum("sink_errors_total", "reason=\"filter\"");
        assert_eq!(errors, 0.0, "{}", metrics.of("e2b_relay_sink_errors_total"));
        assert!(daemon.terminate().await.success());
        judge(home, &kafka(), topic, &ledger).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_amid_transactions_and_comes_back_has_no_record_twice() {
    let rounds = if seed::soak() { 10 } else { 2 };
    let mut random = seed::random("when to kill the broker of transactions");
    let broker = Broker::start(Kind::Kafka).await;
    let brokers = broker.address();
    let topic = topic(&brokers, &[]).await;
    let home = Home::new(&configuration(&brokers, &topic, KEYS));
    let load = Ongoing::begin("transactions", kind);
    let daemon = home.start().await;
    for round in 1..=rounds {
        load.top_up(daemon.webhook(), EVENTS_PER_ROUND);
        until_sent(&daemon, (round - 1) as f64 * EVENTS_PER_ROUND as f64 / 4.0 + random.f64() * 300.0).await;
        broker.kill().await;
        broker.restart().await;
    }
    let ledger = load.end().await;
    until_caught_up(&daemon, "lake").await;
    assert!(daemon.terminate().await.success());
    let verdict = judge(&home, &brokers, &topic, &ledger).await;
    println!("row: exactly once, Kafka killed | {rounds} | {verdict:?}");
}
