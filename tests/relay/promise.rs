//! What was acknowledged reaches every sink, once, in order per sandbox; whatever stops on the way.

use super::sinks::{IN_FLIGHT, Sinks, print_row, shared};
use crate::support::brokers::{self, Broker, Kind};
use crate::support::consume::OUTAGE;
use crate::support::daemon::Home;
use crate::support::load::{self, Plan};
use crate::support::seed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_deliveries_reach_four_sinks_exactly_once_and_in_order() {
    let sinks = shared().await;
    let home = Home::new(&sinks.configuration());
    let daemon = home.start().await;
    let plan = Plan { events: 100_000, sandboxes: 1_000, workers: 64, repeated: 0.05, forged: 0.01, ..Plan::default() };
    let webhook = daemon.webhook();
    let sent = load::send(plan, move || webhook.clone()).await;
    assert_eq!(sent.ledger.acknowledged(), 100_000);
    sinks.until_settled(&daemon, 100_000).await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("deliveries_total", "outcome=\"duplicate\""), sent.duplicates as f64);
    assert_eq!(metrics.sum("deliveries_total", "outcome=\"bad_signature\""), sent.forged as f64);
    assert!(daemon.terminate().await.success());
    let verdicts = sinks.judge(&home, &sent.ledger, [0; 4]).await;
    assert!(verdicts.iter().all(|verdict| verdict.delivered == 100_000), "{verdicts:?}");
    print_row(&format!("none; {} repeated, {} forged", sent.duplicates, sent.forged), 1, &verdicts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broker_down_for_20_s_delays_nobody_else_and_has_everything_afterwards() {
    let rabbit = Broker::start(Kind::RabbitMq).await;
    let sinks = Sinks::new(brokers::kafka(), brokers::nats(), rabbit.address()).await;
    let home = Home::new(&sinks.configuration());
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    let mut random = seed::random("one broker down");
    let mut send = |events| {
        let webhook = webhook.clone();
        load::send(Plan { seed: random.u64(..), events, ..Plan::default() }, move || webhook.clone())
    };
    let mut ledger = send(5_000).await.ledger;
    rabbit.stop().await;
    // All of it is answered 200 and reaches the other three while this one is down.
    let down = tokio::time::Instant::now();
    ledger.extend(send(5_000).await.ledger);
    for sink in ["lake", "bus", "audit"] {
        daemon.until_settled(sink, 10_000).await;
    }
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("sink_up", "sink=\"queue\""), 0.0);
    assert!(metrics.sum("sink_lag_events", "sink=\"queue\"") > 0.0);
    tokio::time::sleep_until(down + OUTAGE).await;
    rabbit.restart().await;
    ledger.extend(send(2_000).await.ledger);
    sinks.until_settled(&daemon, 12_000).await;
    assert!(daemon.terminate().await.success());
    let verdicts = sinks.judge(&home, &ledger, [0, 0, IN_FLIGHT, 0]).await;
    print_row("RabbitMQ stopped for 20 s", 1, &verdicts);
}
