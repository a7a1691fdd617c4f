//! What operators have sent once more: dead letters and replays, by the commands, against a running daemon.
#![cfg(test)]

mod forward;
mod letters;
mod replay;

use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home};
use serde_json::Value;
use std::process::Output;
use tokio::process::Command;

/// A source whose events the daemon fetches at its start.
fn source(provider: &Running) -> String {
    format!("sources: {{acme: {{api: {{url: '{}', api_key: {KEY}}}, backfill: {{lookback: 3h}}}}}}\n", provider.base)
}

/// How a command ended that asked this daemon.
async fn ask(home: &Home, daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.env_clear().args(["--log-level", "warn"]).args(arguments).kill_on_drop(true);
    command
        .args(["--admin", &format!("http://{}", daemon.admin), "--token-file"])
        .arg(home.path().join("data/admin-token"));
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let [out, err] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    (status.code().unwrap(), out, err)
}

/// The same, to end well, with JSON.
#[track_caller]
fn json((code, out, err): (i32, String, String)) -> Value {
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap()
}
