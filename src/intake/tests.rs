use super::*;
use crate::event::{Origin, Timestamp};
use std::sync::Mutex;
use tokio::sync::oneshot;

type Outcome = Result<Accepted, Refused>;

/// Answers as told, one outcome per event.
#[derive(Default)]
struct Told(Mutex<Vec<oneshot::Receiver<Outcome>>>);

impl Told {
    fn next(&self) -> oneshot::Sender<Outcome> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().expect("lock").push(receiver);
        sender
    }
}

impl Log for Told {
    fn accept(&self, _: Event, _: Arrival) -> BoxFuture<'static, Outcome> {
        let receiver = self.0.lock().expect("lock").remove(0);
        Box::pin(async move { receiver.await.expect("told") })
    }

    fn quarantine(&self, _: &str, _: &str, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

const NOW: &str = "2026-08-21T10:00:00Z";

fn intake(log: &Arc<Told>, max_in_flight: usize) -> Arc<Intake> {
    let limits = Limits {
        dedupe_window: Duration::from_secs(8 * 86_400),
        commit_timeout: Duration::from_secs(8),
        max_in_flight,
    };
    let clock: Clock = Arc::new(|| NOW.parse().expect("a time"));
    let metrics = Metrics::new("0", "0").expect("metrics");
    let (trigger, draining) = crate::shutdown::channel();
    // Kept for the test's life: dropping it would be the end.
    std::mem::forget(trigger);
    Arc::new(Intake::new(Arc::clone(log) as Arc<dyn Log>, limits, clock, metrics, draining))
}

fn event(timestamp: &str) -> (Event, Arrival) {
    let event = Event {
        id: "id".to_owned(),
        kind: "sandbox.lifecycle.killed".to_owned(),
        timestamp: Timestamp::parse(timestamp).expect("a time"),
        sandbox_id: "sbx".to_owned(),
        body: Bytes::from_static(b"{}"),
    };
    let arrival = Arrival {
        source: "acme".into(),
        origin: Origin::Webhook,
        received_at: NOW.parse().expect("a time"),
        webhook_id: None,
        delivery_id: None,
    };
    (event, arrival)
}

async fn offer(intake: &Intake, timestamp: &str) -> Answer {
    let (event, arrival) = event(timestamp);
    intake.accept(event, arrival).await
}

fn counted(intake: &Intake) -> bool {
    let line = r#"e2b_relay_events_total{origin="webhook",source="acme",type="sandbox.lifecycle.killed"} 1"#;
    intake.metrics.encode().expect("text").contains(line)
}

#[tokio::test]
async fn the_logs_outcome_is_the_answer() {
    for (outcome, expected) in [
        (Ok(Accepted::New { sequence: 1 }), Answer::Accepted),
        (Ok(Accepted::Duplicate), Answer::Duplicate),
        (
            Err(Refused::Full { retry_after: Duration::from_secs(9) }),
            Answer::StoreFull { retry_after: Duration::from_secs(9) },
        ),
        (Err(Refused::Overloaded), Answer::Overloaded),
        (Err(Refused::Draining), Answer::Draining),
        (Err(Refused::Failed), Answer::Failed),
    ] {
        let log = Arc::new(Told::default());
        let intake = intake(&log, 1);
        log.next().send(outcome).expect("listens");
        assert_eq!(offer(&intake, NOW).await, expected);
        assert_eq!(counted(&intake), expected == Answer::Accepted);
    }
}

#[tokio::test]
async fn the_window_is_from_the_dedupe_window_to_a_day_ahead() {
    let log = Arc::new(Told::default());
    let intake = intake(&log, 1);
    for inside in ["2026-08-13T10:00:00Z", "2026-08-22T10:00:00Z"] {
        log.next().send(Ok(Accepted::New { sequence: 1 })).expect("listens");
        assert_eq!(offer(&intake, inside).await, Answer::Accepted, "{inside}");
    }
    let time = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
    for old in ["2026-08-13T09:59:59.999999999Z", "0000-01-01T00:00:00Z"] {
        let answer = offer(&intake, old).await;
        assert_eq!(answer, Answer::TooOld { timestamp: time(old), floor: time("2026-08-13T10:00:00Z") });
    }
    for new in ["2026-08-22T10:00:00.000000001Z", "9999-12-30T00:00:00Z"] {
        let answer = offer(&intake, new).await;
        assert_eq!(answer, Answer::TooNew { timestamp: time(new), ceiling: time("2026-08-22T10:00:00Z") });
    }
}

#[tokio::test]
async fn while_the_clocks_are_apart_nothing_is_too_old_or_too_new() {
    let log = Arc::new(Told::default());
    let intake = intake(&log, 1);
    let (acme, beta): (Arc<str>, Arc<str>) = ("acme".into(), "beta".into());
    let at = |text: &str| text.parse().expect("a time");
    intake.provider_time(&beta, at("2026-09-21T10:00:00Z"));
    assert!(matches!(offer(&intake, "2026-08-01T00:00:00Z").await, Answer::TooOld { .. }), "another provider's clock");
    for apart in ["2026-08-21T10:05:01Z", "2026-08-21T09:54:59Z", "2027-08-21T10:00:00Z"] {
        intake.provider_time(&acme, at(apart));
        for strange in ["2026-08-01T00:00:00Z", "2026-09-21T10:00:00Z"] {
            log.next().send(Ok(Accepted::New { sequence: 1 })).expect("listens");
            assert_eq!(offer(&intake, strange).await, Answer::Accepted, "{apart}");
        }
    }
    assert!(intake.metrics.encode().expect("text").contains(r#"api_clock_offset_seconds{source="acme"} 31536000"#));
    intake.provider_time(&acme, at("2026-08-21T10:05:00Z"));
    assert!(matches!(offer(&intake, "2026-08-01T00:00:00Z").await, Answer::TooOld { .. }));
    assert!(matches!(offer(&intake, "2026-09-21T10:00:00Z").await, Answer::TooNew { .. }));
}

#[tokio::test]
async fn what_the_relay_fetches_takes_no_deliverys_place() {
    let log = Arc::new(Told::default());
    let intake = intake(&log, 1);
    let fetched = log.next();
    let (one, arrival) = event(NOW);
    let fetching = {
        let intake = Arc::clone(&intake);
        tokio::spawn(async move { intake.accept(one, Arrival { origin: Origin::Backfill, ..arrival }).await })
    };
    tokio::task::yield_now().await;
    log.next().send(Ok(Accepted::New { sequence: 1 })).expect("listens");
    assert_eq!(offer(&intake, NOW).await, Answer::Accepted);
    fetched.send(Ok(Accepted::New { sequence: 2 })).expect("listens");
    assert_eq!(fetching.await.expect("no panic"), Answer::Accepted);
    assert!(intake.metrics.encode().expect("text").contains(r#"backfill_recovered_total{source="acme"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_disk_counts_until_the_disk_has_answered() {
    let log = Arc::new(Told::default());
    let intake = intake(&log, 1);
    let late = log.next();
    assert_eq!(offer(&intake, NOW).await, Answer::TimedOut);
    assert_eq!(offer(&intake, NOW).await, Answer::Overloaded, "the first one still waits");
    late.send(Ok(Accepted::New { sequence: 1 })).expect("listens");
    // The permit is back when it can be had.
    drop(intake.in_flight.acquire().await.expect("open"));
    assert!(counted(&intake));
    log.next().send(Ok(Accepted::Duplicate)).expect("listens");
    assert_eq!(offer(&intake, NOW).await, Answer::Duplicate);
}

#[tokio::test]
async fn a_copy_that_could_not_be_kept_is_an_error_and_not_counted() {
    let intake = intake(&Arc::new(Told::default()), 1);
    let kept = intake.quarantine(&"acme".into(), String::new(), Bytes::from_static(b"{}")).await;
    assert_eq!(kept.map_err(|error| error.kind()), Err(std::io::ErrorKind::StorageFull));
    assert!(!intake.metrics.encode().expect("text").contains("quarantined_total{source=\"acme\"} 1"));
}
