//! Events, sandboxes and metrics.

use super::{Running, ids};
use e2b_relay::simulator::Shape;
use e2b_relay::simulator::provider::Options;
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_key_nothing_is_told() {
    let provider = Running::start(Options::default()).await;
    for key in [None, Some("e2b_wrong")] {
        let request = provider.http.get(format!("{}/events/sandboxes", provider.base));
        let request = key.into_iter().fold(request, |request, key| request.header("X-API-Key", key));
        let reply = request.send().await.expect("a reply");
        assert_eq!(reply.status(), 401);
        super::assert_valid("Error", &reply.json().await.expect("json"));
    }
    assert_eq!(provider.http.get(format!("{}/health", provider.base)).send().await.expect("a reply").status(), 200);
    provider.refused("/nowhere", 404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_of_the_event_list_hold_every_event_once_newest_first() {
    let provider = Running::start(Options::default()).await;
    assert_eq!(provider.get("/events/sandboxes", "SandboxEventList").await, Value::Array(Vec::new()));
    provider.happen(250, 3600).await;
    assert_eq!(provider.get("/events/sandboxes", "SandboxEventList").await.as_array().map(Vec::len), Some(10));
    let mut listed = Vec::new();
    for offset in [0, 100, 200, 300] {
        let page = provider.get(&format!("/events/sandboxes?limit=100&offset={offset}"), "SandboxEventList").await;
        listed.extend(ids(&page, "id"));
    }
    let mut told = provider.told();
    let first = provider.get("/events/sandboxes?orderAsc=true&limit=1", "SandboxEventList").await;
    assert_eq!(ids(&first, "id"), told[..1]);
    told.reverse();
    assert_eq!(listed, told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_filtered_by_type_and_by_sandbox() {
    let provider = Running::start(Options::default()).await;
    provider.happen(200, 600).await;
    let path = "/events/sandboxes?limit=100&types=sandbox.lifecycle.killed&types=sandbox.lifecycle.paused";
    let page = provider.get(path, "SandboxEventList").await;
    let types: BTreeSet<String> = ids(&page, "type").into_iter().collect();
    assert_eq!(types, ["sandbox.lifecycle.killed", "sandbox.lifecycle.paused"].map(str::to_owned).into());
    for event in page.as_array().expect("a list") {
        assert!(event["eventData"]["execution"]["execution_time"].is_i64(), "snake_case within: {event}");
    }
    let id = provider.ledger.entries()[0].sandbox_id.clone();
    let page = provider.get(&format!("/events/sandboxes/{id}?limit=100"), "SandboxEventList").await;
    let expected = provider.ledger.entries().iter().filter(|entry| entry.sandbox_id == id).count();
    assert!(expected > 0 && ids(&page, "sandboxId") == vec![id; expected]);
    provider.refused("/events/sandboxes/nobody", 404).await;
    for wrong in ["limit=0", "limit=101", "limit=x", "offset=-1", "orderAsc=perhaps"] {
        provider.refused(&format!("/events/sandboxes?{wrong}"), 400).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_flag_the_list_is_wrapped_and_in_the_other_spelling() {
    let options = Options { shape: Some(Shape::V2), wrap_events: true, ..Options::default() };
    let provider = Running::start(options).await;
    provider.happen(1, 0).await;
    let body: Value = provider.reply("/events/sandboxes").await.json().await.expect("json");
    assert!(body["events"][0]["sandbox_team_id"].is_string() && body["events"][0]["version"] == "v2", "{body}");
    let provider = Running::start(Options { shape: Some(Shape::V1), ..Options::default() }).await;
    provider.happen(1, 0).await;
    assert_eq!(provider.get("/events/sandboxes", "SandboxEventList").await[0]["version"], "v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_are_listed_in_pages_by_a_token_for_one_order() {
    let provider = Running::start(Options { sandboxes: 230, ..Options::default() }).await;
    provider.happen(100, 60).await;
    let (mut listed, mut sizes, mut path) = (Vec::new(), Vec::new(), "/v2/sandboxes?limit=100".to_owned());
    loop {
        let reply = provider.reply(&path).await;
        assert_eq!(reply.status(), 200);
        let token = reply.headers().get("x-next-token").map(|token| token.to_str().expect("ascii").to_owned());
        assert!(reply.headers().contains_key("x-total-running"));
        let page: Value = reply.json().await.expect("json");
        super::assert_valid("ListedSandboxList", &page);
        sizes.push(page.as_array().expect("a list").len());
        listed.extend(ids(&page, "sandboxID"));
        let Some(token) = token else { break };
        provider.refused(&format!("/v2/sandboxes?order=asc&nextToken={token}"), 400).await;
        path = format!("/v2/sandboxes?limit=100&nextToken={token}");
    }
    assert!(sizes.len() == 3 && sizes[..2] == [100, 100], "{sizes:?}");
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "none twice");

    let paused = provider.reply("/v2/sandboxes?state=paused").await;
    assert!(!paused.headers().contains_key("x-total-running"));
    let paused: Value = paused.json().await.expect("json");
    assert!(ids(&paused, "state").iter().all(|state| state == "paused"));
    let running = provider.get("/sandboxes", "ListedSandboxList").await;
    assert_eq!(ids(&running, "state").len() + ids(&paused, "state").len(), listed.len());
    let prod = provider.get("/v2/sandboxes?metadata=env%3Dprod%26user%3Dzo%25C3%25AB", "ListedSandboxList").await;
    let users: BTreeSet<&str> =
        prod.as_array().expect("a list").iter().filter_map(|one| one["metadata"]["user"].as_str()).collect();
    assert_eq!(users, ["zoë"].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sandbox_can_be_read_and_killed() {
    let provider = Running::start(Options { sandboxes: 1, ..Options::default() }).await;
    let id = ids(&provider.get("/v2/sandboxes", "ListedSandboxList").await, "sandboxID").remove(0);
    assert_eq!(provider.get(&format!("/sandboxes/{id}"), "SandboxDetail").await["sandboxID"], id.as_str());
    let (status, _) = provider.send(reqwest::Method::DELETE, &format!("/sandboxes/{id}"), Value::Null).await;
    assert_eq!(status, 204);
    provider.refused(&format!("/sandboxes/{id}"), 404).await;
    let event = &provider.get("/events/sandboxes", "SandboxEventList").await[0];
    assert_eq!((event["type"].as_str(), event["sandboxId"].as_str()), (Some("sandbox.lifecycle.killed"), Some(&*id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_stop_with_the_execution_and_stay_readable() {
    let provider = Running::start(Options::default()).await;
    // The opening: created, updated, checkpointed, paused, resumed, killed, ten minutes apart.
    provider.happen(6, 3600).await;
    let id = provider.ledger.entries()[0].sandbox_id.clone();
    let now = jiff::Timestamp::now().as_second();
    let path = format!("/sandboxes/{id}/metrics?start={}&end={}", now - 3599, now);
    let samples = provider.get(&path, "SandboxMetricList").await;
    let times: Vec<i64> =
        samples.as_array().expect("a list").iter().filter_map(|sample| sample["timestampUnix"].as_i64()).collect();
    assert!(times.is_sorted() && times.iter().all(|time| time % 5 == 0));
    // 30 minutes until the pause, and 10 from the resume to the kill.
    assert!((478..=482).contains(&times.len()), "{}", times.len());
    assert_eq!(times.windows(2).filter(|pair| pair[1] - pair[0] != 5).count(), 1, "one gap, of the pause");

    let batch = provider.get(&format!("/sandboxes/metrics?sandbox_ids={id}-abc,nobody"), "SandboxesWithMetrics").await;
    let latest = &batch["sandboxes"];
    assert_eq!(latest.as_object().map(serde_json::Map::len), Some(1), "by the short id, and who has none is left out");
    let stale = latest[&id]["timestampUnix"].as_i64().expect("a time");
    assert!(stale < now - 590 && stale - times[times.len() - 1] < 5, "its own time, not the bucket's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_traps_of_the_metrics_api_are_there() {
    let provider = Running::start(Options { sandboxes: 1, ..Options::default() }).await;
    let message = provider.refused("/sandboxes/nobody/metrics?start=5", 400).await;
    assert_eq!(message, "Invalid time range for metrics", "the end left out is the last sample's, here 1970");
    assert_eq!(provider.get("/sandboxes/nobody/metrics", "SandboxMetricList").await, Value::Array(Vec::new()));
    let many: Vec<String> = (0..101).map(|number| format!("s{number}")).collect();
    let message = provider.refused(&format!("/sandboxes/metrics?sandbox_ids={}", many.join(",")), 400).await;
    assert_eq!(message, "Too many sandboxes requested, maximum is 100");
    provider.get(&format!("/sandboxes/metrics?sandbox_ids={}", many[1..].join(",")), "SandboxesWithMetrics").await;
    for wrong in ["sandbox_ids=ok,a-b-c", "sandbox_ids=a_b", "other=1"] {
        provider.refused(&format!("/sandboxes/metrics?{wrong}"), 400).await;
    }
}
