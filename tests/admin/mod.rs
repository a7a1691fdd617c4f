//! The operators' side: who may ask the admin listener, what it answers, and the commands that ask it.
#![cfg(test)]

mod backfill;
mod commands;
mod events;
mod openapi;
mod quarantine;
mod rules;
mod sources;
mod streams;
mod tap;
mod terminal;

use crate::receiver::harness::Relay;
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home};
use crate::support::load::SECRET;
use crate::support::stored::{self, Store};
use e2b_relay::admin::Access;
use e2b_relay::shutdown::Shutdown;
use e2b_relay::store::Settings;
use serde_json::Value;
use std::process::Output;
use std::sync::Arc;
use tokio::process::Command;

/// An empty store, and the folder that it is in.
pub(crate) fn store() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { path: folder.path().to_owned(), ..Settings::default() };
    let store = Store::open(settings, stored::parts()).unwrap();
    (folder, Arc::new(store))
}

/// A listener for operators on this address: of an intake, a store, and nothing else.
pub(crate) fn parts(
    listen: std::net::SocketAddr,
    access: Access,
    relay: &Relay,
    store: &Store,
    ending: Shutdown,
) -> e2b_relay::admin::Parts {
    e2b_relay::admin::Parts {
        listen,
        access,
        intake: relay.intake.clone(),
        metrics: relay.metrics.clone(),
        sandboxes: Default::default(),
        health: store.engine.health(),
        log: store.log.clone(),
        registry: store.registry.clone(),
        letters: store.letters.clone(),
        quarantine: store.quarantine.clone(),
        backfills: Default::default(),
        sinks: Default::default(),
        sources: Default::default(),
        ending,
    }
}

/// A daemon with one source that only has the simulated API, which it does not look at by itself.
fn home(provider: &Running) -> Home {
    Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{}', api_key: {KEY}}}, backfill: {{enabled: false, lookback: 3h}}}}}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
        provider.base
    ))
}

/// A daemon that takes deliveries signed with [`SECRET`], and does nothing else.
fn receiving() -> Home {
    Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ))
}

/// One delivery, signed; what it was answered with.
async fn deliver(daemon: &Daemon, body: &str) -> u16 {
    let (name, value) = crate::support::sign::e2b(SECRET, body.as_bytes());
    let request = daemon.client().post(daemon.webhook()).header(name, value).body(body.to_owned());
    request.send().await.unwrap().status().as_u16()
}

/// A body that is an event, with metadata.
fn event(id: &str, sandbox: &str, metadata: &Value) -> String {
    let now = jiff::Timestamp::now().to_string();
    serde_json::json!({
        "id": id, "type": "sandbox.lifecycle.created", "version": "v2", "timestamp": now, "sandbox_id": sandbox,
        "sandbox_template_id": "base", "sandbox_team_id": "t", "sandbox_execution_id": "x",
        "event_data": {"sandbox_metadata": metadata},
    })
    .to_string()
}

/// `e2b-relay` without anything of this process's environment that could configure it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.env_clear().args(["--log-level", "warn"]).args(arguments).kill_on_drop(true);
    command
}

/// `e2b-relay health`, asking at this address.
pub(crate) async fn health(address: &str, arguments: &[&str]) -> Ran {
    run(command(&[&["health", "--admin", &format!("http://{address}")], arguments].concat())).await
}

/// The same, asking this daemon with its own token.
pub(crate) fn asking(home: &Home, daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.args(["--admin", &format!("http://{}", daemon.admin), "--token-file"]).arg(token_file(home));
    command
}

fn token_file(home: &Home) -> std::path::PathBuf {
    home.path().join("data/admin-token")
}

pub(crate) async fn run(mut command: Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let [out, err] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    Ran { code: status.code(), out, err }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}
