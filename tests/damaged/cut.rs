//! A part of the journal is not there any more, and a sink's position proves that it was.

use super::{Site, accounted, alarm, api, gaps, ids, sorted};
use crate::relay::sinks::until_caught_up;
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home, Metrics};
use crate::support::journal;
use crate::support::load::{self, Plan, SECRET};
use e2b_relay::simulator::provider::Options;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Accepted by now, that the list of events brought.
fn fetched(metrics: &Metrics) -> f64 {
    metrics.sum("events_total", "origin=\"backfill\"")
}

async fn until_swept(daemon: &Daemon) {
    let swept = |metrics: &Metrics| metrics.sum("backfill_polls_total", "outcome=\"ok\"") >= 1.0;
    daemon.until("the list is read", swept).await;
}

/// The place in the log of a record that a sink has.
fn sequence(record: &Value) -> u64 {
    record["relay"]["sequence"].as_u64().unwrap()
}

/// What is gone: its ids, the last sequence before it, and the last of it.
struct Lost {
    ids: BTreeSet<String>,
    before: u64,
    last: u64,
}

impl Lost {
    fn of(records: &[Value], ids: BTreeSet<String>) -> Self {
        let gone = |record: &&Value| ids.contains(record["id"].as_str().unwrap());
        let first = records.iter().filter(gone).map(sequence).min().expect("something is gone");
        let last = records.iter().filter(gone).map(sequence).max().unwrap();
        let before = records.iter().map(sequence).filter(|sequence| *sequence < first).max().unwrap_or(0);
        Self { ids, before, last }
    }

    /// The daemon's alarm at its start.
    async fn assert_told(&self, daemon: &Daemon) {
        println!("{} events are gone, between {} and {}", self.ids.len(), self.before + 1, self.last);
        alarm(daemon, &[self.before + 1, self.last]);
        assert!(daemon.metrics().await.sum("store_damaged_total", "") >= 1.0, "it is not counted");
    }
}

/// Cuts the newest segment in its middle.
fn cut(home: &Home, told: &[String]) -> BTreeSet<String> {
    let segment = journal::segments(home).pop().unwrap();
    let mut groups = journal::groups(home);
    groups.retain(|group| group.is_in(&segment));
    let gone = groups.split_off(groups.len() / 2);
    gone[0].cut();
    gone.iter().flat_map(|group| group.holds(told)).collect()
}

fn remove(home: &Home, told: &[String], segment: &Path) -> BTreeSet<String> {
    let mut groups = journal::groups(home);
    groups.retain(|group| group.is_in(&segment.to_owned()));
    std::fs::remove_file(segment).unwrap();
    groups.iter().flat_map(|group| group.holds(told)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_off_is_told_and_fetched_again_by_itself() {
    let provider = Running::start(Options::default()).await;
    provider.happen(200, 300).await;
    let told = provider.told();
    let site = Site::new(&api(&provider, true), "");
    let daemon = site.home.start().await;
    until_swept(&daemon).await;
    until_caught_up(&daemon, "audit").await;
    until_caught_up(&daemon, "copy").await;
    assert!(daemon.terminate().await.success());

    let lost = Lost::of(&site.file("audit"), cut(&site.home, &told));
    let daemon = site.home.start().await;
    lost.assert_told(&daemon).await;
    until_swept(&daemon).await;
    let metrics = daemon.metrics().await;
    assert_eq!(fetched(&metrics), lost.ids.len() as f64, "what is gone is fetched");
    let bus = site.bus(&daemon).await;
    assert_eq!(sorted(ids(&bus)), sorted(told.clone()), "the sink that was away");
    assert_eq!(gaps(&bus), Vec::<Value>::new());
    assert_eq!(daemon.metrics().await.sum("gaps_total", ""), 0.0, "all of it came again");
    assert!(daemon.terminate().await.success());
    accounted(&site.home).await;
    site.assert_once(&told);
    // It is told once.
    let daemon = site.home.start().await;
    assert_eq!(daemon.metrics().await.sum("store_damaged_total", ""), 0.0);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_a_segment_that_is_not_there_whichever_it_was() {
    // By the newest, its neighbour, and the oldest.
    for from_the_end in [0, 1, usize::MAX] {
        let provider = Running::start(Options::default()).await;
        provider.happen(5_000, 400).await;
        let told = provider.told();
        let site = Site::new(&api(&provider, true), "");
        let daemon = site.home.start().await;
        until_swept(&daemon).await;
        until_caught_up(&daemon, "audit").await;
        until_caught_up(&daemon, "copy").await;
        assert!(daemon.terminate().await.success());

        let segments = journal::segments(&site.home);
        assert!(segments.len() > 2, "{segments:?}");
        let segment = segments.iter().rev().nth(from_the_end).unwrap_or(&segments[0]);
        let lost = Lost::of(&site.file("audit"), remove(&site.home, &told, segment));
        let daemon = site.home.start().await;
        lost.assert_told(&daemon).await;
        until_swept(&daemon).await;
        assert_eq!(fetched(&daemon.metrics().await), lost.ids.len() as f64, "{segment:?}");
        let bus = site.bus(&daemon).await;
        assert_eq!(sorted(ids(&bus)), sorted(told.clone()), "{segment:?}: the sink that was away");
        assert_eq!(daemon.metrics().await.sum("gaps_total", ""), 0.0, "{segment:?}");
        assert!(daemon.terminate().await.success());
        accounted(&site.home).await;
        site.assert_once(&told);
    }
}

/// Of a gap whose reason is damage: it begins where the last sound record was received, and ends by now.
fn assert_gap(gap: &Value, records: &[Value], lost: &Lost) {
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let data = &gap["event_data"];
    assert_eq!(data["reason"], "store_damaged", "{gap}");
    let before = records.iter().find(|record| sequence(record) == lost.before).expect("the last sound record");
    let (from, to) = (time(&data["from"]), time(&data["to"]));
    // A record says it in milliseconds.
    assert_eq!(from.as_millisecond(), time(&before["relay"]["received_at"]).as_millisecond(), "{gap}");
    assert!(from <= to && to <= jiff::Timestamp::now(), "{gap}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_lists_is_told_as_a_gap_at_once_and_only_once() {
    let site = Site::new(&format!("{{webhook: {{secrets: ['{SECRET}']}}}}"), "");
    let daemon = site.home.start().await;
    let webhook = daemon.webhook();
    let sent = load::send(Plan { events: 200, ..Plan::default() }, move || webhook.clone()).await;
    assert_eq!(sent.ledger.acknowledged(), 200);
    until_caught_up(&daemon, "audit").await;
    until_caught_up(&daemon, "copy").await;
    assert!(daemon.terminate().await.success());

    let records = site.file("audit");
    let told = ids(&records);
    let lost = Lost::of(&records, cut(&site.home, &told));
    let daemon = site.home.start().await;
    lost.assert_told(&daemon).await;
    daemon.until("the gap is told", |metrics| metrics.sum("gaps_total", "source=\"acme\"") == 1.0).await;
    until_caught_up(&daemon, "audit").await;
    daemon.kill().await;
    let daemon = site.home.start().await;
    until_caught_up(&daemon, "audit").await;
    until_caught_up(&daemon, "copy").await;
    let bus = site.bus(&daemon).await;
    assert!(daemon.terminate().await.success());
    accounted(&site.home).await;
    let kept = |id: &&String| !lost.ids.contains(*id);
    assert_eq!(sorted(ids(&bus)), sorted(told.iter().filter(kept).cloned().collect()));
    for records in [bus, site.file("audit"), site.file("copy")] {
        let gaps = gaps(&records);
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_gap(&gaps[0], &site.file("audit"), &lost);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_list_lacks_is_told_as_a_gap_once_it_was_read() {
    let provider = Running::start(Options::default()).await;
    let url = &provider.base;
    let source = format!(
        "{{webhook: {{secrets: ['{SECRET}']}}, api: {{url: '{url}', api_key: {KEY}}}, backfill: {{interval: 1h}}}}"
    );
    let site = Site::new(&source, "");
    let daemon = site.home.start().await;
    until_swept(&daemon).await;
    // The provider knows nothing of these.
    let webhook = daemon.webhook();
    load::send(Plan { events: 200, ..Plan::default() }, move || webhook.clone()).await;
    until_caught_up(&daemon, "audit").await;
    assert!(daemon.terminate().await.success());
    // These it lists, and the start fetches them.
    provider.happen(100, 60).await;
    let daemon = site.home.start().await;
    until_swept(&daemon).await;
    until_caught_up(&daemon, "audit").await;
    until_caught_up(&daemon, "copy").await;
    assert!(daemon.terminate().await.success());

    let records = site.file("audit");
    let told = ids(&records);
    let lost = Lost::of(&records, cut(&site.home, &told));
    let listed: BTreeSet<String> = provider.told().into_iter().collect();
    let again = lost.ids.intersection(&listed).count();
    assert!(again > 0 && again < lost.ids.len(), "{again} of {} are listed", lost.ids.len());
    let daemon = site.home.start().await;
    lost.assert_told(&daemon).await;
    until_swept(&daemon).await;
    let metrics = daemon.metrics().await;
    assert_eq!((fetched(&metrics), metrics.sum("gaps_total", "")), (again as f64, 1.0));
    assert!(daemon.terminate().await.success());
    accounted(&site.home).await;
    let daemon = site.home.start().await;
    until_swept(&daemon).await;
    assert_eq!(daemon.metrics().await.sum("gaps_total", ""), 0.0, "it is told once");
    let bus = site.bus(&daemon).await;
    assert!(daemon.terminate().await.success());
    let kept = |id: &&String| !lost.ids.contains(*id) || listed.contains(*id);
    assert_eq!(sorted(ids(&bus)), sorted(told.iter().filter(kept).cloned().collect()));
    let gaps = gaps(&bus);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_gap(&gaps[0], &records, &lost);
}
