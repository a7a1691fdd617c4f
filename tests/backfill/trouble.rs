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
async fn every_fault_of_the_replies_is_counted_and_survived() {
    for (fault, codes) in [
        (Fault::RateLimit, &["429"][..]),
        (Fault::RateLimitHtml, &["429"]),
        (Fault::ServerErrors, &["500", "503"]),
        (Fault::HtmlErrors, &["502", "504"]),
        (Fault::SlowReplies, &["timeout"]),
        (Fault::TruncatedReplies, &["broken"]),
    ] {
        let provider = Running::start(Options { slow_by: Duration::from_secs(600), ..Options::default() }).await;
        provider.happen(1000, 3000).await;
        provider.faults.set(fault, 0.3).expect("a part");
        provider.faults.set(Fault::ShiftingPages, 0.3).expect("a part");
        let mut site = Site::new(&provider.base);
        site.timeout = Duration::from_millis(500);
        let working = site.work();
        working.polls(1, "ok").await;
        provider.faults.set(Fault::ShiftingPages, 0.0).expect("a part");
        // One may have begun before.
        working.polls(2, "ok").await;
        let (mut taken, mut told) = (site.ids(), provider.told());
        taken.sort();
        told.sort();
        assert_eq!(taken, told, "{fault:?}");
        let counted: f64 =
            codes.iter().map(|code| working.sum("api_requests_total", &format!("code=\"{code}\""))).sum();
        println!("{}: {} events, {counted} replies with {codes:?}", fault.name(), told.len());
        assert!(counted > 0.0, "{fault:?}");
        working.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_whose_own_clock_is_wrong_hides_nothing() {
    let event = |id: &str| {
        let at = jiff::Timestamp::now().to_string();
        serde_json::json!({"id": id, "type": "t", "timestamp": at, "sandboxId": "s"})
    };
    for date in ["Fri, 01 Jan 2100 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:00 GMT", "no date"] {
        let list = |ids: &[&str]| {
            let events: Vec<_> = ids.iter().map(|id| event(id)).collect();
            reply(200, &serde_json::to_string(&events).unwrap()).with("date", date)
        };
        let canned = Canned::start(vec![list(&["a"]), list(&["b", "a"])]).await;
        let site = Site::new(&canned.url);
        let working = site.work();
        working.polls(3, "ok").await;
        assert_eq!((site.ids(), working.sum("gaps_total", "")), (vec!["a".to_owned(), "b".to_owned()], 0.0), "{date}");
        working.end().await;
    }
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
