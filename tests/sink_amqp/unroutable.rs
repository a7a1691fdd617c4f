//! A daemon whose exchange no queue is bound to: it waits and says so, instead of making every record a dead letter.

use super::*;
use crate::support::daemon::{Daemon, Home};
use crate::support::load::{self, Plan, SECRET};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use serde_json::json;

/// So many deliveries, from here on.
async fn send(daemon: &Daemon, events: usize, seed: u64) {
    let webhook = daemon.webhook();
    let plan = Plan { events, sandboxes: 10, seed, kind: |_| json!("usual"), ..Plan::default() };
    let sent = load::send(plan, move || webhook.clone()).await;
    assert_eq!(sent.ledger.acknowledged(), events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_a_dead_letter_before_the_first_record_was_routed() {
    let (url, name) = (amqp(), unique("unbound"));
    let (_connection, channel) = channel(&url).await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let exchange = || name.as_str().into();
    channel.exchange_declare(exchange(), ExchangeKind::Topic, durable, FieldTable::default()).await.expect("declared");
    let home = Home::new(&format!(
        r#"
sources: {{acme: {{webhook: {{secrets: ["{SECRET}"]}}}}}}
sinks:
  queue: {{type: amqp, url: "{url}", exchange: {name}}}
"#
    ));
    let daemon = home.start().await;
    send(&daemon, 30, 1).await;
    let halted = |metrics: &crate::support::daemon::Metrics| {
        metrics.sum("sink_errors_total", "reason=\"unroutable\",sink=\"queue\"") >= 20.0
            && metrics.sum("sink_up", "sink=\"queue\"") == 0.0
    };
    daemon.until("the sink is halted", halted).await;
    assert_eq!(daemon.metrics().await.settled("queue"), 0);

    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(exchange(), durable, FieldTable::default()).await.expect("declared");
    let bound =
        channel.queue_bind(exchange(), exchange(), "#".into(), QueueBindOptions::default(), FieldTable::default());
    bound.await.expect("bound");
    daemon.until_settled("queue", 30).await;
    assert_eq!(taken(&url, &name).await.len(), 30);
    assert!(daemon.terminate().await.success());

    // It has routed before, even if that was another process: from now on the settings decide.
    let unbound = channel.queue_unbind(exchange(), exchange(), "#".into(), FieldTable::default());
    unbound.await.expect("unbound");
    let daemon = home.start().await;
    send(&daemon, 5, 2).await;
    daemon.until_settled("queue", 5).await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("sink_dead_letters_total", "reason=\"unroutable\",sink=\"queue\""), 5.0);
    assert!(daemon.terminate().await.success());
}
