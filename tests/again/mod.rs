//! What operators have sent once more, dead letters and replays, and a sink that is told to go on: by the commands, against
//! a running daemon.
#![cfg(test)]

mod behind_a_kill;
mod forward;
mod letters;
mod replay;
mod resume;

use crate::admin::{self, Ran};
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home};
use serde_json::Value;

/// A source whose events the daemon fetches at its start.
fn source(provider: &Running) -> String {
    format!("sources: {{acme: {{api: {{url: '{}', api_key: {KEY}}}, backfill: {{lookback: 3h}}}}}}\n", provider.base)
}

/// How a command ended that asked this daemon.
async fn ask(home: &Home, daemon: &Daemon, arguments: &[&str]) -> (i32, String, String) {
    let Ran { code, out, err } = admin::run(admin::asking(home, daemon, arguments)).await;
    (code.unwrap(), out, err)
}

/// The same, to end well, with JSON.
#[track_caller]
fn json((code, out, err): (i32, String, String)) -> Value {
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap()
}
