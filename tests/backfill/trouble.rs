//! What an API does not give, and what the backfill says of it.

use super::Site;
use crate::e2b::{Canned, reply};
use crate::simulate::Running;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cause_has_its_outcome_and_moves_no_cursor() {
    for (status, body, outcome) in [
        (401, "{}", "unauthorized"),
        (403, "{}", "unauthorized"),
        (404, "{}", "not_offered"),
        (400, "{}", "invalid"),
        (200, "{\"code\": 1}", "invalid"),
        (429, "<html>", "rate_limited"),
        (502, "<html>", "unavailable"),
    ] {
        let canned = Canned::start(vec![reply(status, body).with("retry-after", "3600")]).await;
        let site = Site::new(&canned.url);
        let working = site.work();
        let label = format!("outcome=\"{outcome}\"");
        working.until(outcome, || working.sum("backfill_polls_total", &label) == 1.0).await;
        assert_eq!(site.cursor(), None);
        assert!(!working.metrics.encode().unwrap().contains("backfill_verified_through_timestamp_seconds{"));
        working.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_the_replies_is_survived_and_everything_is_there_in_the_end() {
    let provider = Running::start(Options { slow_by: Duration::from_millis(300), ..Options::default() }).await;
    provider.happen(1500, 3000).await;
    let faults = [
        Fault::RateLimitHtml,
        Fault::ServerErrors,
        Fault::HtmlErrors,
        Fault::SlowReplies,
        Fault::TruncatedReplies,
        Fault::ShiftingPages,
    ];
    for fault in faults {
        provider.faults.set(fault, 0.1).expect("a part");
    }
    let site = Site::new(&provider.base);
    let working = site.work();
    working.polls(1, "ok").await;
    for fault in faults {
        provider.faults.set(fault, 0.0).expect("a part");
    }
    working.polls(2, "ok").await;
    let (mut taken, mut told) = (site.ids(), provider.told());
    taken.sort();
    told.sort();
    assert_eq!(taken, told);
    let refused = working.sum("api_requests_total", "code=\"429\"") + working.sum("api_requests_total", "code=\"5");
    println!("{} events over {refused} refused requests", told.len());
    assert!(refused > 0.0);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_is_counted_once_and_the_rest_is_taken() {
    let good = include_str!("../data/e2b/events.json").replace("2026-08-06", &jiff::Timestamp::now().to_string()[..10]);
    let mut events: Vec<serde_json::Value> = serde_json::from_str(&good).unwrap();
    events.truncate(1);
    let at = jiff::Timestamp::now().to_string();
    events[0]["timestamp"] = at.clone().into();
    events.push(serde_json::json!({"id": "", "type": "t", "timestamp": at, "sandboxId": "s"}));
    events.push(serde_json::json!(["no object"]));
    let canned = Canned::start(vec![reply(200, &serde_json::to_string(&events).unwrap())]).await;
    let site = Site::new(&canned.url);
    let working = site.work();
    working.polls(3, "ok").await;
    assert_eq!(site.ids(), ["f5911677-cb60-498f-afed-f68143b3cc59"]);
    assert_eq!(working.sum("backfill_skipped_total", "reason=\"malformed\""), 2.0);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_under_way_ends_at_once_when_the_daemon_does() {
    let provider = Running::start(Options { slow_by: Duration::from_secs(600), ..Options::default() }).await;
    provider.always(Fault::SlowReplies);
    let site = Site::new(&provider.base);
    let working = site.work();
    tokio::time::sleep(Duration::from_millis(200)).await;
    working.end().await;
    assert_eq!(site.cursor(), None);
}
