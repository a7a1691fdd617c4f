//! What goes wrong behind the relay.

use super::Watched;
use crate::admin::{asking, run};
use crate::support::brokers::{self, Broker, Kind, unique};
use crate::support::load::{self, Ongoing, Plan, SECRET};
use crate::watched::server::Prometheus;
use serde_json::{Value, json};

/// Of which few fill a store.
fn large(_: usize) -> Value {
    json!("n".repeat(20_000))
}

fn to_nats(server: &str, name: &str) -> String {
    format!(
        "bus: {{type: nats, servers: ['{server}'], subject: '{name}.{{{{ sandbox_id }}}}', max_in_flight: 10, \
         stream: {{name: {name}, subjects: ['{name}.>'], create: true}}}}"
    )
}

pub(super) async fn a_broker_goes_and_the_store_fills(prometheus: &Prometheus) {
    let broker = Broker::start(Kind::Nats).await;
    let bus = to_nats(&broker.address(), "E2B");
    let configuration = format!(
        "store: {{max_size: 64MiB}}\nsources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\n\
         sinks:\n  {bus}\n  audit: {{type: file, path: ./audit.ndjson, fsync: never}}\n"
    );
    let relay = Watched::start(prometheus, "stuck", &configuration).await;
    let load = Ongoing::begin("alerts", large);
    load.go_on(relay.daemon.webhook(), 100);
    relay.daemon.until_settled("bus", 100).await;
    broker.kill().await;
    // More than fits.
    load.go_on(relay.daemon.webhook(), 4_000);
    for alert in ["E2bRelaySinkDown", "E2bRelaySinkLate", "E2bRelayStoreNearlyFull", "E2bRelayNotAccepting"] {
        relay.fires(alert).await;
    }
    broker.restart().await;
    for alert in ["E2bRelaySinkDown", "E2bRelayNotAccepting", "E2bRelayStoreNearlyFull", "E2bRelaySinkLate"] {
        relay.clears(alert).await;
    }
    assert_eq!(load.end().await.acknowledged(), 4_100);
    relay.end().await;
}

pub(super) async fn records_become_dead_letters(prometheus: &Prometheus) {
    let nats = brokers::nats();
    let (name, dead) = (unique("E2B"), unique("dead"));
    // Text is not greater than a number.
    let filter = "event_data.sandbox_metadata.kind > 1";
    let configuration = format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks:\n  \
         audit: {{type: file, path: ./audit.ndjson, filter: '{filter}'}}\n  \
         bus: {{type: nats, servers: ['{nats}'], subject: '{name}.x', filter: '{filter}', dead_letter_to: '{name}.{dead}', \
         stream: {{name: {name}, subjects: ['{name}.>'], create: true}}}}\n"
    );
    let relay = Watched::start(prometheus, "letters", &configuration).await;
    relay.deliver_one("b1c9b0a4-58d6-4f7e-9a2f-0d3c4c1f1a01").await;
    relay.fires("E2bRelayDeadLetters").await;
    let forwarded = |metrics: &crate::support::daemon::Metrics| {
        metrics.sum("sink_dead_letters_forwarded_total", "bus") == 1.0 && metrics.sum("sink_dead_letters", "bus") == 0.0
    };
    relay.daemon.until("the broker has the other one", forwarded).await;
    let both = async || {
        let firing =
            "count(ALERTS{alertname=\"E2bRelayDeadLetters\", instance=\"letters\", alertstate=\"firing\"}) == 2";
        (!prometheus.query(firing).await.is_empty()).then_some(())
    };
    prometheus.until("both fire", both).await;
    let drop = asking(&relay.home, &relay.daemon, &["dead-letters", "drop", "--sink", "audit", "--all"]);
    let dropped = run(drop).await;
    assert_eq!(dropped.code, Some(0), "{dropped:?}");
    relay.clears("E2bRelayDeadLetters").await;
    relay.end().await;
}

pub(super) async fn two_relays_feed_one_stream(prometheus: &Prometheus) {
    let configuration = format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks:\n  {}\n",
        to_nats(&brokers::nats(), &unique("E2B"))
    );
    let first = Watched::start(prometheus, "first", &configuration).await;
    let second = Watched::start(prometheus, "second", &configuration).await;
    for relay in [&first, &second] {
        let webhook = relay.daemon.webhook();
        let plan = Plan { events: 50, sandboxes: 10, seed: 7, ..Plan::default() };
        let sent = load::send(plan, move || webhook.clone()).await;
        assert_eq!(sent.ledger.acknowledged(), 50);
        relay.daemon.until_settled("bus", 50).await;
    }
    second.fires("E2bRelaySwallowed").await;
    second.clears("E2bRelaySwallowed").await;
    assert!(!prometheus.ever_fired("first").await.contains(&"E2bRelaySwallowed".to_owned()));
    first.end().await;
    second.end().await;
}
