//! What the folder of a daemon that has ended holds: `store verify`, and what is left for a sink.
#![cfg(test)]

use super::daemon::Home;
use super::oracle::Remains;
use super::stored::{self, Store};
use e2b_relay::store::Settings;
use serde_json::Value;
use tokio::process::Command;

/// Runs it; exit code, standard output, standard error.
pub(crate) async fn run(home: &Home) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_e2b-relay"))
        .args(["store", "verify", "--format", "json", "--config"])
        .arg(home.configuration())
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The proof, which must be a sound one.
pub(crate) async fn sound(home: &Home) -> Value {
    let (code, out, err) = run(home).await;
    assert_eq!(code, Some(0), "the store is not sound: {out}{err}");
    serde_json::from_str(&out).unwrap()
}

/// What the store has left for a sink, as far as `proof` says that there is something.
pub(crate) fn remains(home: &Home, proof: &Value, sink: &str) -> Remains {
    let sum = proof["sinks"].as_array().unwrap().iter().find(|sum| sum["sink"] == sink).expect("a sum of each sink");
    if sum["dead_lettered"] == 0 && sum["pending"] == 0 {
        return Remains::default();
    }
    let settings = Settings { path: home.path().join("data"), ..Settings::default() };
    let store = Store::open(settings, stored::parts()).unwrap();
    let dead_lettered = store.dead_letters(sink).into_iter().map(|(_, letter)| letter.id).collect();
    let pending = stored::events_after(&store, store.progress(sink).position);
    Remains { dead_lettered, pending: pending.into_iter().map(|stored| stored.event.id).collect() }
}
