//! The set itself, and what it tells.

use super::{Scene, text};
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_set_is_what_the_provider_lists_through_silent_ends_lost_deliveries_and_kills() {
    let mut scene = Scene::start(Options { sandboxes: 230, ..Options::default() }, RECONCILED).await;
    scene.until_alike().await;
    let told = scene.until_records("sandbox.reconciled", 230).await;
    assert!(
        told.iter()
            .all(|record| record["relay"]["origin"] == "reconcile" && record["event_data"]["state"] == "running")
    );
    scene.provider.faults.set(Fault::DropDeliveries, 0.3).unwrap();
    scene.provider.faults.set(Fault::Crashes, 0.1).unwrap();
    let mut not_found = 0;
    for _ in 0..3 {
        scene.provider.happen(150, 0).await;
        scene.until_alike().await;
        not_found += scene.daemon().log().iter().filter(|line| line.contains("sandbox not found")).count();
        scene.kill().await;
        scene.provider.happen(50, 0).await;
        scene.begin().await;
        scene.until_alike().await;
    }
    let (view, shown) = scene.shown().await;
    let running = shown.values().filter(|state| *state == "running").count();
    assert_eq!(
        (view["active_count"].as_u64(), view["paused_count"].as_u64()),
        (Some(running as u64), Some((shown.len() - running) as u64))
    );
    let counted = |metrics: &crate::support::daemon::Metrics| {
        (metrics.sum("sandboxes", "running"), metrics.sum("sandboxes", "paused"))
            == (running as f64, (shown.len() - running) as f64)
    };
    scene.daemon().until("the gauges say so", counted).await;
    let records = scene.records("sandbox.reconciled");
    let ids: BTreeSet<String> = records.iter().map(|record| text(&record["id"])).collect();
    let gone = records.iter().filter(|record| record["event_data"]["state"] == "gone").count();
    println!("{} states told by the list alone, {gone} of them ends", ids.len());
    assert!(gone > 0 && not_found > 0);
    scene.terminate().await;
}

/// Told half a second after it is noticed.
const RECONCILED: &str = "    reconcile: {interval: 500ms, emit: true}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_being_asked_for_nothing_but_the_provider_s_events_reaches_a_sink() {
    let scene =
        Scene::start(Options { sandboxes: 5, ..Options::default() }, "    reconcile: {interval: 200ms}\n").await;
    scene.until_alike().await;
    scene.provider.happen(100, 0).await;
    scene.until_alike().await;
    let events = scene.provider.ledger.entries().len();
    let all = |metrics: &crate::support::daemon::Metrics| metrics.sum("sink_sent_total", "audit") >= events as f64;
    scene.daemon().until("all is sent", all).await;
    assert_eq!(scene.daemon().metrics().await.sum("events_total", ""), events as f64);
}
