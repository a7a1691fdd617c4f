//! The sandboxes that live: the real daemon beside the simulated provider.

mod history;
mod kills;
mod many;
mod odd;
mod samples;
mod set;

use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home, PATIENCE, reqwest_client};
use e2b_relay::simulator::TEAM_ID;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct Scene {
    pub(crate) provider: Running,
    home: Home,
    daemon: Option<Daemon>,
    webhook: Option<String>,
}

impl Scene {
    /// The provider, and a daemon that it delivers to; `keys` are further ones of the source.
    pub(crate) async fn start(options: Options, keys: &str) -> Self {
        let provider = Running::start(options).await;
        let configuration = format!(
            "store: {{path: ./data}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson, start: earliest}}}}\n\
             sources:\n  acme:\n    team_id: {TEAM_ID}\n    webhook: {{secrets: [{SECRET}]}}\n    \
             api: {{url: '{}', api_key: {KEY}}}\n{keys}",
            provider.base
        );
        let mut scene = Self { provider, home: Home::new(&configuration), daemon: None, webhook: None };
        scene.begin().await;
        scene
    }

    /// Starts the daemon, and has the provider deliver to it.
    pub(crate) async fn begin(&mut self) {
        let daemon = self.home.start().await;
        let hook = json!({"name": "relay", "url": daemon.webhook(), "events": EVENTS, "signatureSecret": SECRET});
        let method = if self.webhook.is_some() { reqwest::Method::PATCH } else { reqwest::Method::POST };
        let path = self.webhook.as_ref().map_or("/events/webhooks".to_owned(), |id| format!("/events/webhooks/{id}"));
        let (status, hook) = self.provider.send(method, &path, hook).await;
        assert!(status < 300, "{hook}");
        self.webhook = hook["id"].as_str().map(str::to_owned);
        self.daemon = Some(daemon);
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a daemon")
    }

    pub(crate) async fn kill(&mut self) {
        self.daemon.take().expect("a daemon").kill().await;
    }

    pub(crate) async fn terminate(&mut self) {
        assert!(self.daemon.take().expect("a daemon").terminate().await.success());
    }

    /// What the relay shows: each sandbox's state.
    pub(crate) async fn shown(&self) -> (Value, BTreeMap<String, String>) {
        let url = format!("http://{}/api/sandboxes", self.daemon().admin);
        let view: Value = reqwest_client().get(url).send().await.unwrap().json().await.unwrap();
        let states = view["sandboxes"].as_array().unwrap().iter();
        let states = states.map(|one| (text(&one["id"]), text(&one["state"]))).collect();
        (view, states)
    }

    /// What the provider lists.
    pub(crate) async fn listed(&self) -> BTreeMap<String, String> {
        let mut listed = BTreeMap::new();
        let mut token = String::new();
        loop {
            let reply = self.provider.reply(&format!("/v2/sandboxes?limit=100{token}")).await;
            let next = reply.headers().get("x-next-token").map(|token| token.to_str().unwrap().to_owned());
            let page: Value = reply.json().await.unwrap();
            let page = page.as_array().unwrap().iter();
            listed.extend(page.map(|one| (text(&one["sandboxID"]), text(&one["state"]))));
            match next {
                Some(next) => token = format!("&nextToken={next}"),
                None => return listed,
            }
        }
    }

    /// Waits until the relay shows what the provider lists.
    pub(crate) async fn until_alike(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (listed, (_, shown)) = (self.listed().await, self.shown().await);
            if listed == shown {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "listed {listed:#?}\nshown {shown:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The file sink's.
    pub(crate) fn file(&self) -> PathBuf {
        self.home.path().join("audit.ndjson")
    }

    /// The records of a type that the sink has by now.
    pub(crate) fn records(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let records = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.filter(|record| record["type"] == kind).collect()
    }

    /// Waits for so many of them.
    pub(crate) async fn until_records(&self, kind: &str, least: usize) -> Vec<Value> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let records = self.records(kind);
            if records.len() >= least {
                return records;
            }
            let have = records.len();
            assert!(tokio::time::Instant::now() < deadline, "{have} of {least} {kind}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

const EVENTS: [&str; 6] = [
    "sandbox.lifecycle.created",
    "sandbox.lifecycle.updated",
    "sandbox.lifecycle.paused",
    "sandbox.lifecycle.resumed",
    "sandbox.lifecycle.checkpointed",
    "sandbox.lifecycle.killed",
];

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
