//! What was acknowledged reaches every sink, once, in order per sandbox; whatever stops on the way.

use super::sinks::{Sinks, shared};
use crate::support::brokers::{self, Broker, Kind};
use crate::support::consume::{NOTHING_WRONG, OUTAGE};
use crate::support::daemon::Home;
use crate::support::load::{self, Ledger, Plan};
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_deliveries_reach_four_sinks_exactly_once_and_in_order() {
    let sinks = shared().await;
    let home = Home::new(&sinks.configuration());
    let daemon = home.start().await;
    let plan = Plan { events: 100_000, sandboxes: 1_000, workers: 64, repeated: 0.05, forged: 0.01, ..Plan::default() };
    let webhook = daemon.webhook();
    let ledger = load::send(plan, move || webhook.clone()).await;
    assert_eq!(ledger.count(), 100_000);
    sinks.until_settled(&daemon, 100_000).await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("deliveries_total", "outcome=\"duplicate\""), ledger.duplicates as f64);
    assert_eq!(metrics.sum("deliveries_total", "outcome=\"bad_signature\""), ledger.forged as f64);
    assert!(daemon.terminate().await.success());
    assert_eq!(sinks.judge(&home, &ledger).await, [NOTHING_WRONG; 4]);
    println!("100,000 acknowledged, {} repeated, {} forged: each sink has each once", ledger.duplicates, ledger.forged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_down_for_20_s_delays_nobody_else_and_has_everything_afterwards() {
    let rabbit = Broker::start(Kind::RabbitMq).await;
    let sinks = Sinks::new(brokers::kafka(), brokers::nats(), rabbit.address()).await;
    let home = Home::new(&sinks.configuration());
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    let send = |events| {
        let webhook = webhook.clone();
        load::send(Plan { events, ..Plan::default() }, move || webhook.clone())
    };
    let mut ledger = send(5_000).await;
    rabbit.stop().await;
    // All of it is answered 200 and reaches the other three while this one is down.
    let down = tokio::time::Instant::now();
    extend(&mut ledger, send(5_000).await);
    for sink in ["lake", "bus", "audit"] {
        daemon.until_settled(sink, 10_000).await;
    }
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("sink_up", "sink=\"queue\""), 0.0);
    assert!(metrics.sum("sink_lag_events", "sink=\"queue\"") > 0.0);
    tokio::time::sleep_until(down + OUTAGE).await;
    rabbit.restart().await;
    extend(&mut ledger, send(2_000).await);
    sinks.until_settled(&daemon, 12_000).await;
    assert!(daemon.terminate().await.success());
    let [kafka, nats, amqp, file] = sinks.judge(&home, &ledger).await;
    assert_eq!([kafka, nats, file], [NOTHING_WRONG; 3]);
    assert_eq!((amqp.missing, amqp.unacknowledged), (0, 0));
    println!("RabbitMQ stopped for 20 s under load: 12,000 acknowledged, 0 missing, {} doubled", amqp.doubled);
    assert!(amqp.doubled <= 1_000, "more than can have been unconfirmed: {}", amqp.doubled);
}

/// Sandboxes of one part of a run go on in the next.
fn extend(ledger: &mut Ledger, more: Ledger) {
    for (sandbox, ids) in more.acknowledged {
        ledger.acknowledged.entry(sandbox).or_default().extend(ids);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_in_the_middle_lose_nothing_that_was_acknowledged() {
    let sinks = shared().await;
    let home = Home::new(&sinks.configuration());
    let daemon = home.start().await;
    let webhook = Arc::new(Mutex::new(daemon.webhook()));
    let target = {
        let webhook = Arc::clone(&webhook);
        move || webhook.lock().unwrap().clone()
    };
    let plan = Plan { events: 20_000, workers: 32, insist: true, ..Plan::default() };
    let load = tokio::spawn(load::send(plan, target));
    let accepted =
        |at_least: f64| move |metrics: &crate::support::daemon::Metrics| metrics.sum("events_total", "") >= at_least;
    daemon.until("a part is accepted", accepted(5_000.0)).await;
    assert!(daemon.terminate().await.success());
    let daemon = home.start().await;
    *webhook.lock().unwrap() = daemon.webhook();
    daemon.until("another part is accepted", accepted(5_000.0)).await;
    daemon.kill().await;
    let daemon = home.start().await;
    *webhook.lock().unwrap() = daemon.webhook();
    let ledger = load.await.unwrap();
    assert_eq!(ledger.count(), 20_000);
    for sink in ["lake", "bus", "queue", "audit"] {
        let caught_up = |metrics: &crate::support::daemon::Metrics| {
            metrics.sum("sink_lag_events", &format!("sink=\"{sink}\"")) == 0.0
                && metrics.sum("sink_sent_total", &format!("sink=\"{sink}\"")) > 0.0
        };
        daemon.until(&format!("{sink} catches up"), caught_up).await;
    }
    assert!(daemon.terminate().await.success());
    let [kafka, nats, amqp, file] = sinks.judge(&home, &ledger).await;
    for (sink, verdict) in [("kafka", &kafka), ("nats", &nats), ("amqp", &amqp), ("file", &file)] {
        println!("{sink}: {verdict:?} after SIGTERM and SIGKILL under load");
        assert_eq!((verdict.missing, verdict.unacknowledged), (0, 0), "{sink}");
        assert!(verdict.doubled <= 1_000, "{sink} got more twice than can have been in flight");
    }
    assert_eq!(nats.doubled, 0, "the stream drops what it knows");
}
