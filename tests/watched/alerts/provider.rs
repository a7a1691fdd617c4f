//! What goes wrong at the provider, or between it and the relay.

use super::{Watched, meanwhile, with_api};
use crate::simulate::{KEY, Running};
use crate::support::daemon::Metrics;
use crate::support::forward::Forwarder;
use crate::support::load::{SECRET, body_of, post};
use crate::watched::server::Prometheus;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const OFTEN: &str =
    "    backfill: {interval: 1s, overlap: 1s}\n    metrics: {interval: 1s}\n    reconcile: {interval: 1s}\n";

/// A provider that delivers to a relay, which registers its webhook there.
struct Circle<'p> {
    provider: Running,
    /// In front of the relay.
    front: Forwarder,
    relay: Watched<'p>,
}

impl<'p> Circle<'p> {
    async fn start(prometheus: &'p Prometheus, name: &'static str, keys: &str) -> Self {
        let options =
            Options { retries: 2, retry_pause: Duration::from_millis(100), sandboxes: 2, ..Options::default() };
        let provider = Running::start(options).await;
        let front = Forwarder::start("http://127.0.0.1:1").await;
        let register = format!("    register: {{url: '{}/webhooks/e2b', interval: 500ms}}\n", front.url);
        let relay = Watched::start(prometheus, name, &with_api(&provider.base, &format!("{register}{keys}"))).await;
        let this = Self { provider, front, relay };
        this.mend();
        this.until_hooks("it is registered", |hooks| hooks.len() == 1).await;
        this
    }

    fn mend(&self) {
        self.front.retarget(&format!("http://{}", self.relay.daemon.public));
    }

    async fn happens(&self) {
        self.provider.happen(1, 0).await;
    }

    async fn until_hooks(&self, what: &str, are_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let found = async || {
            let hooks: Vec<Value> = self.provider.reply("/events/webhooks").await.json().await.unwrap();
            are_so(&hooks).then_some(hooks)
        };
        self.relay.prometheus.until(what, found).await
    }

    async fn delete(&self, hook: &Value) {
        let path = format!("/events/webhooks/{}", hook["id"].as_str().unwrap());
        assert_eq!(self.provider.send(Method::DELETE, &path, Value::Null).await.0, 200);
    }
}

/// Where everything works while `causes` are brought about elsewhere, nothing ever fires.
pub(super) async fn all_is_well(prometheus: &Prometheus, causes: impl Future<Output = ()>) {
    let keys = format!("{}    verify_kills: true\n    usage: true\n", OFTEN.replace("1s, overlap", "2s, overlap"));
    let circle = Circle::start(prometheus, "well", &keys).await;
    meanwhile(causes, async || circle.happens().await).await;
    assert_eq!(prometheus.ever_fired("well").await, Vec::<String>::new());
    circle.relay.end().await;
}

pub(super) async fn the_api_fails(prometheus: &Prometheus) {
    let provider = Running::start(Options { sandboxes: 2, ..Options::default() }).await;
    let relay = Watched::start(prometheus, "without-api", &with_api(&provider.base, OFTEN)).await;
    let samples = |metrics: &Metrics| metrics.sum("events_total", "origin=\"metrics\"") >= 2.0;
    relay.daemon.until("samples come", samples).await;
    provider.always(Fault::ServerErrors);
    relay.fires("E2bRelayBackfillNotVerified").await;
    relay.fires("E2bRelaySamplesStopped").await;
    provider.faults.set(Fault::ServerErrors, 0.0).unwrap();
    relay.clears("E2bRelayBackfillNotVerified").await;
    relay.clears("E2bRelaySamplesStopped").await;
    relay.end().await;
}

pub(super) async fn deliveries_do_not_arrive_and_the_webhook_is_meddled_with(prometheus: &Prometheus) {
    let circle = Circle::start(prometheus, "hooks", "    backfill: {interval: 2s, overlap: 1s}\n").await;
    let relay = &circle.relay;
    circle.front.retarget("http://127.0.0.1:1");
    meanwhile(relay.fires("E2bRelayWebhooksBroken"), async || circle.happens().await).await;
    circle.mend();
    meanwhile(relay.clears("E2bRelayWebhooksBroken"), async || circle.happens().await).await;
    for _ in 0..4 {
        let hooks = circle.until_hooks("it is there", |hooks| hooks.len() == 1).await;
        circle.delete(&hooks[0]).await;
    }
    relay.fires("E2bRelayRegistrationRepaired").await;
    relay.clears("E2bRelayRegistrationRepaired").await;
    circle.until_hooks("it is there", |hooks| hooks.len() == 1).await;
    let events = ["sandbox.lifecycle.killed"];
    let other =
        json!({"name": "e2b-relay", "url": "https://other.example.com/", "events": events, "signatureSecret": SECRET});
    let (status, other) = circle.provider.send(Method::POST, "/events/webhooks", other).await;
    assert_eq!(status, 201, "{other}");
    relay.fires("E2bRelayRegistrationConflict").await;
    circle.delete(&other).await;
    relay.clears("E2bRelayRegistrationConflict").await;
    circle.relay.end().await;
}

/// The event says so, and the sandbox lives on.
pub(super) async fn a_kill_does_not_come_true(prometheus: &Prometheus) {
    let provider = Running::start(Options { sandboxes: 1, ..Options::default() }).await;
    let keys = format!("{OFTEN}    verify_kills: true\n");
    let relay = Watched::start(prometheus, "kills", &with_api(&provider.base, &keys)).await;
    let listed = |metrics: &Metrics| metrics.sum("sandboxes", "state=\"running\"") == 1.0;
    relay.daemon.until("it is known", listed).await;
    let list: Value = provider.reply("/v2/sandboxes").await.json().await.unwrap();
    let sandbox = list[0]["sandboxID"].as_str().unwrap();
    let now = jiff::Timestamp::now();
    let killed = body_of("e7a4dd4c-3b43-4a24-a2b0-6f5bd3a0e6d1", sandbox, 4, true, &json!("usual"), now);
    assert!(killed.contains("sandbox.lifecycle.killed"));
    assert_eq!(relay.deliver(SECRET, &killed).await, 200);
    relay.fires("E2bRelayKillUnconfirmed").await;
    assert_eq!(provider.send(Method::DELETE, &format!("/sandboxes/{sandbox}"), Value::Null).await.0, 204);
    relay.clears("E2bRelayKillUnconfirmed").await;
    relay.end().await;
}

pub(super) async fn clocks_and_keys_are_wrong(prometheus: &Prometheus) {
    let options = Options { wrong_clock_by: SignedDuration::from_hours(26), ..Options::default() };
    let provider = Running::start(options).await;
    let api = Forwarder::start(&provider.base).await;
    let keys = "    backfill: {interval: 500ms, overlap: 1s}\n";
    let relay = Watched::start(prometheus, "clocks", &with_api(&api.url, keys)).await;
    // A node that is a day ahead.
    provider.always(Fault::WrongClock);
    provider.happen(3, 0).await;
    relay.fires("E2bRelayListedNotTaken").await;
    provider.faults.set(Fault::WrongClock, 0.0).unwrap();
    relay.clears("E2bRelayListedNotTaken").await;
    // The API's own clock, or this host's.
    api.set_clock(SignedDuration::from_hours(1));
    relay.fires("E2bRelayClockApart").await;
    api.set_clock(SignedDuration::ZERO);
    relay.clears("E2bRelayClockApart").await;
    let configuration = with_api(&api.url, keys);
    relay.home.configure(&configuration.replace(KEY, "e2b_of_somebody_else"));
    relay.daemon.hang_up();
    relay.fires("E2bRelayApiKeyRefused").await;
    relay.home.configure(&configuration);
    relay.daemon.hang_up();
    relay.clears("E2bRelayApiKeyRefused").await;
    relay.end().await;
}

/// The API does not say whether they came true, and 20,000 are remembered.
pub(super) async fn more_kills_than_are_followed(prometheus: &Prometheus) {
    const KILLS: usize = 20_500;
    const WORKERS: usize = 16;
    let provider = Running::start(Options::default()).await;
    provider.always(Fault::ServerErrors);
    let keys = "    backfill: {enabled: false}\n    verify_kills: true\n";
    let relay = Watched::start(prometheus, "many", &with_api(&provider.base, keys)).await;
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..WORKERS {
        let (client, webhook) = (crate::support::daemon::reqwest_client(), relay.daemon.webhook());
        workers.spawn(async move {
            for number in (worker..KILLS).step_by(WORKERS) {
                let (id, sandbox) = (format!("kill-{number}"), format!("sbx{number}"));
                let killed = body_of(&id, &sandbox, 4, true, &json!("usual"), jiff::Timestamp::now());
                assert_eq!(post(&client, &webhook, SECRET, &killed).await.unwrap().0, 200);
            }
        });
    }
    let sent = async { while workers.join_next().await.transpose().unwrap().is_some() {} };
    tokio::join!(sent, relay.fires("E2bRelaySandboxesDropped"));
    relay.clears("E2bRelaySandboxesDropped").await;
    relay.end().await;
}
