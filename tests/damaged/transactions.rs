//! The same beside a sink that writes its position together with the records.

use super::flipped::{backfill, damage};
use super::{Site, api, ids, sorted};
use crate::relay::sinks::until_caught_up;
use crate::simulate::Running;
use crate::support::brokers::{kafka, unique};
use crate::support::consume;
use crate::support::daemon::Daemon;
use e2b_relay::simulator::provider::Options;
use serde_json::Value;
use std::path::Path;

const EVENTS: usize = 100;

async fn site(provider: &Running) -> (Site, String) {
    let topic = unique("damaged");
    consume::create_positions(&kafka()).await;
    consume::create_topic(&kafka(), &topic, 4).await;
    let lake = format!("  lake: {{type: kafka, brokers: ['{}'], topic: {topic}, exactly_once: true}}\n", kafka());
    (Site::new(&api(provider, false), &lake), topic)
}

/// What whoever reads what is committed has: each once, and none is missing.
async fn assert_once(topic: &str, told: &[String]) {
    let committed = consume::kafka_committed(&kafka(), topic).await;
    let records: Vec<Value> = committed.iter().map(|(_, bytes)| serde_json::from_slice(bytes).unwrap()).collect();
    assert_eq!(sorted(ids(&records)), sorted(told.to_vec()), "what is committed");
}

/// The rest of both tests, once the damage is done.
async fn judge(site: &Site, topic: &str, told: &[String], lost: u64) {
    let daemon: Daemon = site.home.start().await;
    assert_eq!(backfill(&site.home, &daemon).await, (lost, told.len() as u64 - lost), "new and known");
    let bus = site.bus(&daemon).await;
    assert_eq!(sorted(ids(&bus)), sorted(told.to_vec()), "the sink that was away");
    until_caught_up(&daemon, "lake").await;
    let filtered = daemon.metrics().await.sum("sink_filtered_total", "reason=\"already_sent\",sink=\"lake\"");
    assert!(daemon.terminate().await.success());
    assert_once(topic, told).await;
    assert_eq!(filtered, lost as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_once_is_not_committed_again() {
    let provider = Running::start(Options::default()).await;
    provider.happen(EVENTS, 1_800).await;
    let (site, topic) = site(&provider).await;
    let daemon = site.home.start().await;
    backfill(&site.home, &daemon).await;
    until_caught_up(&daemon, "lake").await;
    assert!(daemon.terminate().await.success());
    let lost = damage(&site.home, &provider.told()).len() as u64;
    judge(&site, &topic, &provider.told(), lost).await;
}

/// The store's own note of the sink's position says that it lacks what is gone; the broker's, which counts, says that it
/// had it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_is_it_where_only_the_broker_knows_that_it_was_committed() {
    let provider = Running::start(Options::default()).await;
    let (site, topic) = site(&provider).await;
    provider.happen(EVENTS / 2, 1_800).await;
    let daemon = site.home.start().await;
    backfill(&site.home, &daemon).await;
    until_caught_up(&daemon, "lake").await;
    assert!(daemon.terminate().await.success());
    let (meta, yesterdays) = (site.home.path().join("data/meta"), site.home.path().join("meta-of-yesterday"));
    copy(&meta, &yesterdays);

    let before = provider.told();
    provider.happen(EVENTS, 600).await;
    let told = provider.told();
    let daemon = site.home.start().await;
    assert_eq!(backfill(&site.home, &daemon).await, (EVENTS as u64, before.len() as u64));
    for sink in ["lake", "audit", "copy"] {
        until_caught_up(&daemon, sink).await;
    }
    assert!(daemon.terminate().await.success());
    std::fs::remove_dir_all(&meta).unwrap();
    copy(&yesterdays, &meta);

    let newer: Vec<String> = told.iter().filter(|id| !before.contains(id)).cloned().collect();
    let lost = damage(&site.home, &newer).len() as u64;
    judge(&site, &topic, &told, lost).await;
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").args(["-a", "--"]).args([from, to]).status().unwrap();
    assert!(status.success());
}
