//! What a daemon finds when it starts.

use super::{Watched, with_api};
use crate::relay::gap::last_seen;
use crate::simulate::Running;
use crate::support::daemon::Home;
use crate::support::load::{self, Plan, SECRET};
use crate::watched::server::Prometheus;
use e2b_relay::metrics::Metrics;
use e2b_relay::sandboxes::{Sandboxes, Wants};
use e2b_relay::simulator::provider::Options;
use jiff::SignedDuration;

/// As if the daemon had ended then: the list was read, and the sandboxes followed.
pub(in crate::watched) fn last_seen_a_week_ago(home: &Home) {
    let then = jiff::Timestamp::now() - SignedDuration::from_hours(7 * 24 + 12);
    last_seen(home, then);
    let (folder, metrics) = (home.path().join("data/sandboxes"), Metrics::new("test", "test").unwrap());
    drop(Sandboxes::open(&folder, [("acme", Wants::default())], 0, then, &metrics));
}

/// Longer than the provider keeps events, and than the hour for which it gives samples.
pub(super) async fn the_relay_was_away_for_too_long(prometheus: &Prometheus) {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(60, 10, 7_200).await;
    let home = Home::new(&with_api(
        &provider.base,
        "    backfill: {interval: 1s}\n    metrics: {interval: 1s}\n    reconcile: {interval: 1s}\n",
    ));
    last_seen_a_week_ago(&home);
    let relay = Watched::at(prometheus, "away", home).await;
    relay.fires("E2bRelayGap").await;
    relay.fires("E2bRelaySamplesMissed").await;
    relay.clears("E2bRelayGap").await;
    relay.clears("E2bRelaySamplesMissed").await;
    relay.end().await;
}

/// A bit in the middle of the journal turns over.
pub(super) async fn a_segment_is_damaged(prometheus: &Prometheus) {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    // One after another: as many groups.
    let sent = load::send(Plan { events: 20, workers: 1, ..Plan::default() }, move || webhook.clone()).await;
    assert_eq!(sent.ledger.acknowledged(), 20);
    assert!(daemon.terminate().await.success());
    let segment = home.path().join("data/journal/000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let (_, ids) = sent.ledger.sandboxes().next().unwrap();
    let id = ids.first().unwrap().as_bytes();
    let at = bytes.windows(id.len()).position(|window| window == id).expect("it is in the journal");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let relay = Watched::at(prometheus, "damaged", home).await;
    relay.fires("E2bRelayStoreDamaged").await;
    relay.clears("E2bRelayStoreDamaged").await;
    relay.end().await;
}
