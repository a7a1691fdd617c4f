//! Each alert in a real Prometheus: its cause is brought about at a real daemon, it fires; the cause is taken away, it ends.

mod provider;
mod receiving;
mod sinks;
pub(super) mod store;

use super::rules::rules;
use super::server::Prometheus;
use crate::simulate::KEY;
use crate::support::daemon::{Daemon, Home, PATIENCE};
use crate::support::load::{SECRET, body, post};
use std::collections::BTreeSet;
use std::time::Duration;

/// A daemon that is scraped.
struct Watched<'p> {
    prometheus: &'p Prometheus,
    /// As which.
    name: &'static str,
    home: Home,
    daemon: Daemon,
}

impl<'p> Watched<'p> {
    async fn start(prometheus: &'p Prometheus, name: &'static str, configuration: &str) -> Self {
        Self::at(prometheus, name, Home::new(configuration)).await
    }

    async fn at(prometheus: &'p Prometheus, name: &'static str, home: Home) -> Self {
        let daemon = home.start().await;
        prometheus.scrape(name, &daemon.admin);
        let this = Self { prometheus, name, home, daemon };
        this.until_scraped().await;
        this
    }

    /// What happens from now on is an increase.
    async fn until_scraped(&self) {
        let up = format!("count_over_time(e2b_relay_build_info{{instance=\"{}\"}}[1h]) > 1", self.name);
        let found = async || (!self.prometheus.query(&up).await.is_empty()).then_some(());
        self.prometheus.until(&format!("{} is scraped", self.name), found).await;
    }

    async fn fires(&self, alert: &str) {
        self.prometheus.fires(alert, self.name).await;
    }

    async fn clears(&self, alert: &str) {
        self.prometheus.clears(alert, self.name).await;
    }

    /// One delivery; its status.
    async fn deliver(&self, secret: &str, body: &str) -> u16 {
        let client = crate::support::daemon::reqwest_client();
        post(&client, &self.daemon.webhook(), secret, body).await.expect("an answer").0
    }

    /// A good one.
    async fn deliver_one(&self, id: &str) {
        assert_eq!(self.deliver(SECRET, &body(id, "sbx", 1, true)).await, 200);
    }

    /// What is left to fire says nothing any more.
    async fn end(self) {
        self.prometheus.leave(self.name);
        self.daemon.kill().await;
    }
}

/// A source with a webhook and an API, and a file; `keys` are further ones of the source.
fn with_api(api: &str, keys: &str) -> String {
    format!(
        "sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\nsources:\n  acme:\n    \
         webhook: {{secrets: ['{SECRET}']}}\n    api: {{url: '{api}', api_key: {KEY}, timeout: 5s}}\n{keys}"
    )
}

/// What takes long, or much.
const SOAK: [&str; 1] = ["E2bRelaySandboxesDropped"];
/// What only a fault of the relay's own code brings about; the tests of the rules have it.
const OWN_FAULT: [&str; 1] = ["E2bRelaySinkUnaccounted"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_fires_for_its_cause_and_ends_with_it() {
    let prometheus = &Prometheus::start().await;
    let soak = std::env::var_os("E2B_RELAY_SOAK").is_some();
    let causes = async {
        tokio::join!(
            sinks::a_broker_goes_and_the_store_fills(prometheus),
            sinks::records_become_dead_letters(prometheus),
            sinks::two_relays_feed_one_stream(prometheus),
            receiving::deliveries_are_refused_and_stay_away(prometheus),
            receiving::the_configuration_is_bad_or_waits(prometheus),
            receiving::a_certificate_ends(prometheus),
            receiving::a_daemon_dies(prometheus),
            provider::the_api_fails(prometheus),
            provider::deliveries_do_not_arrive_and_the_webhook_is_meddled_with(prometheus),
            provider::a_kill_does_not_come_true(prometheus),
            provider::clocks_and_keys_are_wrong(prometheus),
            store::the_relay_was_away_for_too_long(prometheus),
            store::a_segment_is_damaged(prometheus),
        );
        if soak {
            provider::more_kills_than_are_followed(prometheus).await;
        }
    };
    let all_is_well = provider::all_is_well(prometheus, causes);
    tokio::time::timeout(5 * PATIENCE, all_is_well).await.expect("in time");
    let known: BTreeSet<String> = rules().1.into_iter().map(|rule| rule.name).collect();
    let seen = prometheus.seen();
    let is_brought_about = |name: &str| !OWN_FAULT.contains(&name) && (soak || !SOAK.contains(&name));
    let missing: Vec<_> = known.difference(&seen).filter(|name| is_brought_about(name)).collect();
    assert!(missing.is_empty(), "nobody has brought about {missing:?}");
    println!("{} of {} alerts have fired and ended", seen.len(), known.len());
}

/// Between two of something that goes on.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Does `work` again and again until `rest` is through.
async fn meanwhile(rest: impl Future<Output = ()>, work: impl AsyncFn()) {
    let on_and_on = async {
        loop {
            work().await;
            a_moment().await;
        }
    };
    tokio::select! {
        () = rest => {}
        () = on_and_on => {}
    }
}
