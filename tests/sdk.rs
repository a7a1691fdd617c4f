//! The provider's official SDK, pointed at `simulate` by its own environment variables: what it reads is what there is.

use crate::simulate::{KEY, Running};
use crate::support::daemon::PATIENCE;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// Installs it, where `tests/run` has not yet; the Python that has it.
pub(crate) async fn python() -> String {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/install");
    let output = Command::new(install).stderr(Stdio::inherit()).output().await.unwrap();
    assert!(output.status.success(), "the SDK cannot be had: run tests/sdk/install");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What the SDK saw and did.
async fn tour(provider: &Running) -> Value {
    let mut command = script("tour.py").await;
    command.env("E2B_API_URL", &provider.base).env("E2B_API_KEY", KEY);
    serde_json::from_slice(&output_of(&mut command).await).unwrap()
}

/// One of the scripts beside the SDKs' list.
pub(crate) async fn script(name: &str) -> Command {
    script_at(&format!("tests/sdk/{name}")).await
}

/// One elsewhere in the repository, which needs something of that list.
pub(crate) async fn script_at(path: &str) -> Command {
    let mut command = Command::new(python().await);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    command
}

pub(crate) async fn output_of(command: &mut Command) -> Vec<u8> {
    let run = command.env_remove("E2B_DOMAIN").env_remove("E2B_DEBUG").kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, run).await.expect("it does not end").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn get(provider: &Running, path: &str) -> Value {
    provider.reply(path).await.json().await.unwrap()
}

/// A sandbox of the API's own list, in the script's words.
fn in_its_words(listed: &Value) -> Value {
    let seconds = |name: &str| {
        let time: jiff::Timestamp = listed[name].as_str().unwrap().parse().unwrap();
        time.as_microsecond() as f64 / 1e6
    };
    json!({
        "id": listed["sandboxID"], "template": listed["templateID"], "state": listed["state"],
        "metadata": listed.get("metadata").unwrap_or(&json!({})), "started_at": seconds("startedAt"), "end_at": seconds("endAt"),
        "cpu_count": listed["cpuCount"], "memory_mb": listed["memoryMB"],
    })
}

/// The end of one that runs moves with the clock.
fn without_end(mut sandbox: Value) -> Value {
    sandbox.as_object_mut().unwrap().remove("end_at");
    sandbox
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_sdk_lists_sandboxes_reads_their_metrics_pauses_and_kills() {
    let provider = Running::start(Options { sandboxes: 230, ..Options::default() }).await;
    provider.happen(400, 3000).await;
    let mut there: BTreeMap<String, Value> = BTreeMap::new();
    for state in ["running", "paused"] {
        let mut token = String::new();
        loop {
            let reply = provider.reply(&format!("/v2/sandboxes?state={state}&limit=100{token}")).await;
            let next = reply.headers().get("x-next-token").map(|token| token.to_str().unwrap().to_owned());
            let page: Value = reply.json().await.unwrap();
            there.extend(
                page.as_array()
                    .unwrap()
                    .iter()
                    .map(|one| (one["sandboxID"].as_str().unwrap().to_owned(), in_its_words(one))),
            );
            let Some(next) = next else { break };
            token = format!("&nextToken={next}");
        }
    }
    let told = provider.ledger.entries().len();
    let seen = tour(&provider).await;

    let pages = seen["pages"].as_array().unwrap();
    assert!(pages.len() == 3 && pages[..2] == [json!(100), json!(100)], "{pages:?}");
    let all = seen["all"].as_array().unwrap();
    assert_eq!(all.len(), there.len(), "each once");
    for sandbox in all {
        let expected = there[sandbox["id"].as_str().unwrap()].clone();
        assert_eq!(without_end(sandbox.clone()), without_end(expected));
    }
    for state in ["running", "paused"] {
        let expected = there.values().filter(|one| one["state"] == state).count();
        let listed = ids(&seen[state]);
        assert!(expected > 0 && listed.len() == expected, "{} of {expected} {state}", listed.len());
        assert!(listed.iter().all(|id| there[*id]["state"] == state));
    }
    for (id, info) in seen["infos"].as_object().unwrap() {
        assert_eq!(without_end(info.clone()), without_end(there[id].clone()));
    }

    let mut compared = 0;
    for (id, metrics) in seen["metrics"].as_object().unwrap() {
        let given = get(&provider, &format!("/sandboxes/{id}/metrics")).await;
        let given = given.as_array().unwrap().iter().map(|one| {
            let names =
                ["timestampUnix", "cpuCount", "cpuUsedPct", "memUsed", "memTotal", "memCache", "diskUsed", "diskTotal"];
            Value::from_iter(names.map(|name| one[name].clone()))
        });
        // More may have been taken since.
        let given: Vec<Value> = given.take(metrics.as_array().unwrap().len()).collect();
        assert_eq!(metrics.as_array().unwrap(), &given, "{id}");
        compared += given.len();
    }
    assert!(compared > 50, "only {compared} samples");

    let (paused, killed) = (seen["paused_now"][0].as_str().unwrap(), seen["killed_now"][0].as_str().unwrap());
    assert_eq!(
        (&seen["paused_now"], &seen["killed_now"]),
        (&json!([paused, true, false]), &json!([killed, true, false]))
    );
    assert_eq!(
        (&seen["state_then"], &seen["gone"], &seen["wrong_key"]),
        (&json!("paused"), &json!(true), &json!(true))
    );
    let entries = provider.ledger.entries();
    let done: Vec<(&str, &str)> =
        entries[told..].iter().map(|entry| (entry.kind.as_str(), entry.sandbox_id.as_str())).collect();
    assert_eq!(done, [("sandbox.lifecycle.paused", paused), ("sandbox.lifecycle.killed", killed)]);
    println!("the SDK saw {} sandboxes in {} pages and {compared} samples", all.len(), pages.len());
}
