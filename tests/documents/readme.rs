//! What README.md tells a newcomer to do, done as it stands there, from an empty home.

use super::{documents, repository, said, shell};
use crate::support::daemon::PATIENCE;
use crate::support::load::SECRET;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test]
async fn in_earnest_from_an_empty_home() {
    let documents = documents().await;
    let block = |piece: &str| {
        let blocks = documents["README.md"].blocks.iter();
        blocks
            .clone()
            .find(|block| block.language == "sh" && block.text.contains(piece))
            .expect("the block")
            .text
            .clone()
    };
    let home = tempfile::tempdir().unwrap();
    // The build has its own claim. The daemon becomes the shell's process, so that it can be spoken to.
    let begin = block("mkdir ~/e2b-relay")
        .replace("cargo build --release\n", "")
        .replace("e2b-relay run", "exec e2b-relay run");
    let mut daemon = shell(repository(), &begin)
        .env("HOME", home.path())
        .env_remove("E2B_WEBHOOK_SECRET")
        // Another's may be running on the usual ones.
        .env("E2B_RELAY__SERVER__LISTEN", "127.0.0.1:0")
        .env("E2B_RELAY__ADMIN__LISTEN", "127.0.0.1:0")
        .env("E2B_RELAY_LOG_FORMAT", "json")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap()).lines();
    let public = tokio::time::timeout(PATIENCE, async {
        loop {
            let line = log.next_line().await.unwrap().expect("it ended");
            println!("relay: {line}");
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(public) = line["public"].as_str() {
                return public.to_owned();
            }
        }
    });
    let public = public.await.expect("it does not start");

    // "From a second shell with the same secret."
    let pid = daemon.id().unwrap();
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let secret = environment.split('\0').find_map(|one| one.strip_prefix("E2B_WEBHOOK_SECRET=")).expect("a secret");
    assert!(secret.len() == 64 && secret != SECRET);
    let deliver = block("openssl dgst").replace("127.0.0.1:8080", &public);
    let output = shell(home.path(), &deliver).env("E2B_WEBHOOK_SECRET", secret).output().await.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["success"], true, "{answer}");

    // It sends on what it has before it ends.
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::TERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, daemon.wait()).await.expect("it does not end").unwrap();
    assert!(ended.success(), "{ended}");
    let record = std::fs::read_to_string(home.path().join("e2b-relay/events.ndjson")).unwrap();
    let record: Value = serde_json::from_str(&record).expect("one line");
    assert_eq!((&record["id"], &record["type"]), (&answer["id"], &"sandbox.lifecycle.killed".into()));
}
