//! `store verify` on the folder of a daemon that has ended.
#![cfg(test)]

use super::daemon::Home;
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
