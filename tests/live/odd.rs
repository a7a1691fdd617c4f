//! Rows that are not as specified, and clocks that are wrong: each costs its own sandbox alone.

use super::{Scene, text};
use crate::e2b::KEY;
use crate::support::daemon::{Home, Metrics};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const FAST: &str = "    reconcile: {interval: 300ms, emit: true}\n    metrics: {interval: 1s, max_series: 1000}\n";

/// Of what the list has: the sandboxes whose rows are sound, those whose rows are odd and yet name them, and how many
/// rows tell nothing.
async fn rows(scene: &Scene) -> (BTreeSet<String>, BTreeSet<String>, usize) {
    let listed: Value = scene.provider.reply("/v2/sandboxes?limit=100").await.json().await.unwrap();
    let (mut sound, mut odd, mut silent) = (BTreeSet::new(), BTreeSet::new(), 0);
    for row in listed.as_array().unwrap() {
        match row["sandboxID"].as_str() {
            Some(id) if row["startedAt"].is_string() => drop(sound.insert(id.to_owned())),
            Some(id) => drop(odd.insert(id.to_owned())),
            None => silent += 1,
        }
    }
    (sound, odd, silent)
}

/// The sandboxes that have a gauge.
fn gauges(metrics: &Metrics) -> BTreeSet<String> {
    let series = metrics.0.lines().filter(|line| line.starts_with("e2b_sandbox_cpus{"));
    series.map(|line| line.split("sandbox_id=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_odd_row_costs_its_own_sandbox_alone() {
    let mut scene = Scene::start(Options { sandboxes: 90, ..Options::default() }, FAST).await;
    scene.until_alike().await;
    // Whoever ends before it was told to be there is not told of as there any more.
    scene.until_records("sandbox.reconciled", 90).await;
    scene.terminate().await;
    scene.provider.faults.set(Fault::OddRows, 0.3).unwrap();
    scene.provider.always(Fault::DropDeliveries);
    scene.provider.always(Fault::LostRows);
    let (sound, odd, silent) = rows(&scene).await;
    assert!(sound.len() > 20 && odd.len() > 5 && silent > 5, "{} {} {silent}", sound.len(), odd.len());
    scene.begin().await;
    // Nobody tells of these ends but the list, which lacks them.
    let gone = [sound.first().unwrap().clone(), odd.first().unwrap().clone()];
    for id in &gone {
        let (status, _) = scene.provider.send(reqwest::Method::DELETE, &format!("/sandboxes/{id}"), Value::Null).await;
        assert_eq!(status, 204);
    }
    let ends = |records: Vec<Value>| -> BTreeSet<String> {
        let ends = records.iter().filter(|record| record["event_data"]["state"] == "gone");
        ends.map(|record| text(&record["sandbox_id"])).collect()
    };
    // Each was told to be there; then these two are gone.
    let told = ends(scene.until_records("sandbox.reconciled", 92).await);
    assert_eq!(told, BTreeSet::from(gone.clone()), "these, and none whose row is odd");
    let (_, shown) = scene.shown().await;
    assert_eq!(shown.len(), 88, "the rest is there still");

    let measured: BTreeSet<String> = sound.into_iter().filter(|id| !gone.contains(id)).collect();
    scene.daemon().until("each has its gauge", |metrics| gauges(metrics).is_superset(&measured)).await;
    let metrics = scene.daemon().metrics().await;
    for endpoint in ["sandboxes", "metrics"] {
        let skipped = metrics.sum("api_rows_skipped_total", &format!("endpoint=\"{endpoint}\""));
        assert!(skipped >= odd.len() as f64, "{endpoint}: {skipped}");
    }
    let said: Vec<String> =
        scene.daemon().log().into_iter().filter(|line| line.contains("a row of the API's")).collect();
    assert!(!said.is_empty() && said.len() < 10, "{said:#?}");
    assert!(said.iter().any(|line| odd.iter().any(|id| line.contains(id.as_str()))), "{said:#?}");
    scene.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_with_a_fast_clock_hides_no_other() {
    let scene = Scene::start(
        Options { sandboxes: 30, ..Options::default() },
        "    reconcile: {interval: 300ms}\n    metrics: {interval: 1s, max_series: 1000}\n",
    )
    .await;
    scene.provider.faults.set(Fault::WrongClock, 0.2).unwrap();
    scene.until_alike().await;
    let ids: Vec<String> = scene.shown().await.1.into_keys().collect();
    let path = format!("/sandboxes/metrics?sandbox_ids={}", ids.join(","));
    let ahead = loop {
        let latest: Value = scene.provider.reply(&path).await.json().await.unwrap();
        let latest = latest["sandboxes"].as_object().unwrap().clone();
        if latest.len() == ids.len() {
            let now = jiff::Timestamp::now().as_second();
            break latest.values().filter(|sample| sample["timestampUnix"].as_i64().unwrap() > now + 60).count();
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert!((1..20).contains(&ahead), "{ahead} of 30 are ahead");
    let all: BTreeSet<String> = ids.into_iter().collect();
    scene.daemon().until("each has its gauge", |metrics| gauges(metrics) == all).await;
}

/// One sandbox, with another token at each page.
async fn around(State(asked): State<Arc<AtomicUsize>>) -> Response {
    let token = asked.fetch_add(1, Ordering::SeqCst);
    let row = json!([{"sandboxID": "iz62km2v0zwlow3i7icxv", "templateID": "base", "state": "running",
        "startedAt": "2026-08-06T20:59:36Z", "endAt": "2026-08-06T21:59:36Z"}]);
    ([("x-next-token", format!("t{token}"))], row.to_string()).into_response()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_sandboxes_that_repeats_itself_is_told_and_read_no_further() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let app = axum::Router::new().route("/v2/sandboxes", axum::routing::get(around)).with_state(Arc::clone(&asked));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let home = Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{url}', api_key: {KEY}}}, reconcile: {{interval: 1h}}, backfill: {{enabled: false}}}}}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let daemon = home.start().await;
    let line = daemon.says(0, "the list of sandboxes cannot be read").await;
    assert!(line.contains("repeats itself"), "{line}");
    assert!(asked.load(Ordering::SeqCst) < 20);
    assert!(daemon.terminate().await.success());
}

/// One sandbox, whose row tells no more than its id from the second look on; asked for by itself it is not known.
async fn odd_from_then_on(State(asked): State<Arc<AtomicUsize>>) -> String {
    let row = match asked.fetch_add(1, Ordering::SeqCst) {
        0 => json!({"sandboxID": "iz62km2v0zwlow3i7icxv", "templateID": "base", "state": "running",
            "startedAt": "2026-08-06T20:59:36Z", "endAt": "2026-08-06T21:59:36Z"}),
        _ => json!({"sandboxID": "iz62km2v0zwlow3i7icxv", "state": 7}),
    };
    json!([row]).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_on_the_list_by_an_odd_row_is_not_gone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let list = axum::routing::get(odd_from_then_on);
    let app = axum::Router::new().route("/v2/sandboxes", list).with_state(Arc::clone(&asked));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let home = Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{url}', api_key: {KEY}}}, reconcile: {{interval: 100ms}}, backfill: {{enabled: false}}}}}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let daemon = home.start().await;
    // Each walk but the first asks in vain for whatever it misses, and then it is the last that counts.
    daemon.until("some walks", |metrics| metrics.sum("api_rows_skipped_total", "endpoint=\"sandboxes\"") >= 20.0).await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("sandboxes", "running"), 1.0, "{}", metrics.of("e2b_relay_sandboxes"));
    assert_eq!(metrics.sum("api_requests_total", "code=\"404\",endpoint=\"sandbox\""), 0.0);
    assert!(daemon.terminate().await.success());
}
