//! SIGHUP: the real daemon reads its configuration again while it runs.
#![cfg(test)]

mod agree;
mod bad;
mod end;
mod exactly_once;
mod files;
mod forget;
mod load;
mod places;
mod renames;
mod sinks;
mod sources;

use crate::support::daemon::{Daemon, reqwest_client};
use crate::support::load::{self as deliveries, body};
use serde_json::Value;

/// What the log says once a configuration is in force.
const IN_FORCE: &str = "the configuration is read again and in force";
/// What it says if not.
const NOT_TAKEN: &str = "the new configuration is not taken";

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NEWER: &str = "fedcba9876543210fedcba9876543210";

/// SIGHUP; which sinks were begun anew, and which are gone.
pub(crate) async fn reload(daemon: &Daemon) -> (Vec<String>, Vec<String>) {
    let seen = daemon.log().len();
    daemon.hang_up();
    let line: Value = serde_json::from_str(&daemon.says(seen, IN_FORCE).await).unwrap();
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("config_last_reload_successful", ""), 1.0);
    let names = |field: &str| serde_json::from_str(find(&line, field).expect(field)).unwrap();
    (names("sinks_begun"), names("sinks_gone"))
}

/// SIGHUP with a configuration that is no good: what the log says of it.
async fn refused(daemon: &Daemon) -> String {
    let seen = daemon.log().len();
    daemon.hang_up();
    daemon.says(seen, NOT_TAKEN).await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("config_last_reload_successful", ""), 0.0);
    daemon.log()[seen..].join("\n")
}

fn find<'l>(line: &'l Value, field: &str) -> Option<&'l str> {
    line.get(field).or_else(|| line.get("fields")?.get(field)).and_then(Value::as_str)
}

/// One delivery to that path: the answer's status.
async fn deliver(daemon: &Daemon, path: &str, secret: &str, id: &str) -> u16 {
    let url = format!("http://{}{path}", daemon.public);
    let body = body(id, "sbx-1", 1, true);
    deliveries::post(&reqwest_client(), &url, secret, &body).await.expect("an answer").0
}

/// The ids of the whole records in a file, which may be written just now, or not be there yet.
fn ids(path: std::path::PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let records = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}
