//! The relay's own webhook at the provider: the real daemon and the real commands against the simulated provider.

mod commands;
mod conflicts;
mod drift;
mod inside;
mod rotation;
mod start;

use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home, Metrics, PATIENCE};
use crate::support::forward::Forwarder;
use e2b_relay::e2b::EVENT_TYPES;
use e2b_relay::simulator::provider::Options;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::process::Command;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NEWER: &str = "fedcba9876543210fedcba9876543210";

/// A provider, a relay with its configuration, and a public address for it that stays over restarts.
struct Scene {
    provider: Running,
    /// In front of the provider's API.
    api: Forwarder,
    /// In front of the relay: what is registered.
    front: Forwarder,
    home: Home,
}

impl Scene {
    /// Nothing is registered yet, and no relay runs.
    async fn new() -> Self {
        Self::with(Options { retries: 2, retry_pause: Duration::from_millis(100), ..Options::default() }).await
    }

    async fn with(options: Options) -> Self {
        let provider = Running::start(options).await;
        let (api, front) = (Forwarder::start(&provider.base).await, Forwarder::start("http://127.0.0.1:1").await);
        let scene = Self { provider, api, front, home: Home::new("") };
        scene.configure(&[SECRET], "");
        scene
    }

    /// `register` is what follows its `url`, `name` aside.
    fn configure(&self, secrets: &[&str], register: &str) {
        self.home.configure(&format!(
            "store: {{path: ./data}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson, start: earliest}}}}\n\
             sources:\n  acme:\n    webhook: {{secrets: {secrets:?}}}\n    \
             api: {{url: '{}', api_key: {KEY}, timeout: 60s}}\n    backfill: {{interval: 200ms}}\n    \
             register: {{url: '{}', interval: 200ms{register}}}\n",
            self.api.url,
            self.url(),
        ));
    }

    /// What is to be registered.
    fn url(&self) -> String {
        format!("{}/webhooks/e2b", self.front.url)
    }

    async fn start(&self) -> Daemon {
        let daemon = self.home.start().await;
        self.front.retarget(&format!("http://{}", daemon.public));
        daemon
    }

    /// Runs the daemon where it is to end by itself: its exit code and what it says.
    async fn refused(&self) -> (Option<i32>, String) {
        let configuration = self.home.configuration();
        let ended = command(&["run", "--config", &configuration.to_string_lossy()]).output();
        let output = tokio::time::timeout(PATIENCE, ended).await.expect("it runs on").unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// What is registered, as the provider lists it.
    async fn hooks(&self) -> Vec<Value> {
        let list: Value = self.provider.reply("/events/webhooks").await.json().await.unwrap();
        list.as_array().unwrap().clone()
    }

    /// Registers one by hand.
    async fn register(&self, name: &str, url: &str) -> Value {
        let body = json!({"name": name, "url": url, "events": EVENT_TYPES, "signatureSecret": SECRET});
        let (status, hook) = self.provider.send(Method::POST, "/events/webhooks", body).await;
        assert_eq!(status, 201, "{hook}");
        hook
    }

    async fn change(&self, id: &str, change: Value) {
        let (status, hook) = self.provider.send(Method::PATCH, &format!("/events/webhooks/{id}"), change).await;
        assert_eq!(status, 200, "{hook}");
    }

    async fn delete(&self, id: &str) {
        let path = format!("/events/webhooks/{id}");
        assert_eq!(self.provider.send(Method::DELETE, &path, Value::Null).await.0, 200);
    }

    /// Waits until what is registered is so.
    async fn until_hooks(&self, what: &str, are_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let hooks = self.hooks().await;
            if are_so(&hooks) {
                return hooks;
            }
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}\n{hooks:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the relay's own webhook is the only one and as it should be.
    async fn until_registered(&self) -> Value {
        let in_line = |hooks: &[Value]| hooks.len() == 1 && self.is_in_line(&hooks[0]);
        self.until_hooks("the webhook is registered", in_line).await.remove(0)
    }

    fn is_in_line(&self, hook: &Value) -> bool {
        let expected = (&json!("e2b-relay"), &json!(self.url()), &json!(true), &json!(EVENT_TYPES));
        (&hook["name"], &hook["url"], &hook["enabled"], &hook["events"]) == expected
    }

    /// Events that are delivered, and found genuine.
    async fn deliver(&self, daemon: &Daemon, events: usize) {
        let before = genuine(&daemon.metrics().await);
        self.provider.happen(events, 0).await;
        let all = |metrics: &Metrics| genuine(metrics) >= before + events as f64;
        daemon.until("the deliveries are found genuine", all).await;
    }
}

/// Deliveries that were taken; the backfill may have been faster.
fn genuine(metrics: &Metrics) -> f64 {
    ["accepted", "duplicate"].map(|outcome| metrics.sum("deliveries_total", outcome)).iter().sum()
}

/// Waits until so many repairs were counted.
async fn until_repairs(daemon: &Daemon, repairs: usize) {
    let counted = |metrics: &Metrics| metrics.sum("registration_repairs_total", "acme") >= repairs as f64;
    daemon.until(&format!("{repairs} repairs"), counted).await;
    assert_eq!(daemon.metrics().await.sum("registration_repairs_total", "acme"), repairs as f64);
}

fn id(hook: &Value) -> &str {
    hook["id"].as_str().unwrap()
}

/// The program under test, with nothing of this process's environment that could configure it.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    for name in ["E2B_API_KEY", "E2B_API_URL", "E2B_DOMAIN", "E2B_WEBHOOK_SECRET"] {
        command.env_remove(name);
    }
    command.args(arguments).kill_on_drop(true);
    command
}
