//! The relay was down for longer than the provider remembers.

use super::sinks::{NAMES, Sinks, shared};
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home, Metrics};
use crate::support::stored::{self, Store};
use crate::support::{consume, verify};
use e2b_relay::intake::State;
use e2b_relay::simulator::provider::Options;
use e2b_relay::store::Settings;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const SOURCES: [&str; 2] = ["acme", "beta"];

/// As if the daemon had ended then: each source's list was followed up to `cursor`.
pub(crate) fn last_seen(home: &Home, cursor: jiff::Timestamp) {
    let settings = Settings { path: home.path().join("data"), ..Settings::default() };
    let store = Store::open(settings, stored::parts()).unwrap();
    for source in SOURCES {
        store.state.keep(&format!("backfill/{source}"), &json!({"cursor": cursor}).to_string()).unwrap();
    }
    store.close();
}

async fn until_swept(sinks: &Sinks, daemon: &Daemon) {
    let swept = |metrics: &Metrics| {
        SOURCES
            .iter()
            .all(|name| metrics.sum("backfill_polls_total", &format!("outcome=\"ok\",source=\"{name}\"")) >= 1.0)
    };
    daemon.until("each list is read", swept).await;
    sinks.until_caught_up(daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_know_any_more_is_told_once_per_source_in_every_sink_over_a_kill() {
    let sinks = shared().await;
    let providers =
        [Running::start(Options::default()).await, Running::start(Options { seed: 2, ..Options::default() }).await];
    for provider in &providers {
        provider.happen(20, 600).await;
    }
    let source = |index: usize| {
        let url = &providers[index].base;
        format!("{}: {{api: {{url: '{url}', api_key: {KEY}}}, backfill: {{interval: 1h}}}}", SOURCES[index])
    };
    let sources = format!("{{{}, {}}}", source(0), source(1));
    // Beside the four, one that says what it wants, and is given no more.
    let narrow = "  narrow: {type: file, path: ./narrow.ndjson, types: ['sandbox.lifecycle.*']}\n";
    let home = Home::new(&(sinks.configuration_of(&sources, "") + narrow));
    let daemon = home.start().await;
    until_swept(&sinks, &daemon).await;
    assert!(daemon.terminate().await.success());

    // 7 days are kept, and ids are known for 8.
    let cursor = jiff::Timestamp::now() - Duration::from_secs(15 * 43_200);
    last_seen(&home, cursor);
    let daemon = home.start().await;
    daemon.until("the gaps are found", |metrics| metrics.sum("gaps_total", "") == 2.0).await;
    daemon.kill().await;
    verify::sound(&home).await;
    let daemon = home.start().await;
    until_swept(&sinks, &daemon).await;
    daemon.until("the narrow one too", |metrics| metrics.sum("sink_lag_events", "narrow") == 0.0).await;
    let metrics = daemon.metrics().await;
    assert_eq!((metrics.sum("gaps_total", ""), metrics.sum("events_total", "relay.gap")), (0.0, 0.0), "known");
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;

    for (name, records) in NAMES.iter().zip(sinks.records::<Value>(&home).await) {
        let mut copies: BTreeMap<(String, String), usize> = BTreeMap::new();
        for record in records.iter().filter(|record| record["type"] == "relay.gap") {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            *copies.entry((text(&record["relay"]["source"]), text(&record["id"]))).or_default() += 1;
            assert_eq!((&record["relay"]["origin"], &record["sandbox_id"]), (&json!("relay"), &json!("relay")));
            let data = &record["event_data"];
            assert_eq!((&data["from"], &data["reason"]), (&json!(cursor), &json!("provider_retention")));
            let to: jiff::Timestamp = text(&data["to"]).parse().unwrap();
            assert_eq!(jiff::Timestamp::now().duration_since(to).as_hours(), 7 * 24);
        }
        println!("{name}: {copies:?}");
        assert_eq!(copies.keys().map(|(source, _)| source.as_str()).collect::<Vec<_>>(), SOURCES, "{name}");
        // What was in flight at the kill may come again, with its id; JetStream drops that.
        let most = if *name == "bus" { 1 } else { 2 };
        assert!(copies.values().all(|copies| *copies <= most), "{name}: {copies:?}");
        let events =
            records.iter().filter(|record| record["type"] != "relay.gap").map(|record| record["id"].to_string());
        assert_eq!(events.collect::<std::collections::BTreeSet<_>>().len(), 40, "{name}");
    }
    let narrow: Vec<Value> = consume::file(&home.path().join("narrow.ndjson"));
    assert!(narrow.len() >= 40 && narrow.iter().all(|record| record["type"] != "relay.gap"));
}
