//! Samples, and the usage of executions: each compared with what the simulator says that it gave.

use super::{Scene, text};
use crate::simulate::KEY;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Of one execution, at each kill where samples are no records: what lies within 15 s is not asked for again.
const LOST_PER_KILL: usize = 3;

/// Sandbox → the start of its bucket → CPU, memory, disk.
type Samples = BTreeMap<String, BTreeMap<i64, (f64, i64, i64)>>;

fn seconds(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
}

/// What was told; no two of one execution and bucket.
fn told(scene: &Scene) -> Samples {
    let mut samples = Samples::new();
    let (mut ids, mut buckets) = (BTreeSet::new(), BTreeSet::new());
    for record in scene.records("sandbox.metrics") {
        assert!(ids.insert(text(&record["id"])), "told twice: {record}");
        assert_eq!(record["relay"]["origin"], "metrics");
        let (time, data) = (seconds(&record["timestamp"]), &record["event_data"]);
        let used = (
            data["cpu_used_pct"].as_f64().unwrap(),
            data["mem_used"].as_i64().unwrap(),
            data["disk_used"].as_i64().unwrap(),
        );
        let bucket = time - time.rem_euclid(5);
        let place = (text(&record["sandbox_id"]), text(&record["sandbox_execution_id"]), bucket);
        assert!(buckets.insert(place), "one sample by two roads: {record}");
        samples.entry(text(&record["sandbox_id"])).or_default().insert(bucket, used);
    }
    samples
}

async fn given(scene: &Scene, id: &str, start: i64, end: i64) -> BTreeMap<i64, (f64, i64, i64)> {
    let reply = scene.provider.reply(&format!("/sandboxes/{id}/metrics?start={start}&end={end}")).await;
    let samples: Vec<Value> = reply.json().await.unwrap();
    let used = |one: &Value| {
        (one["cpuUsedPct"].as_f64().unwrap(), one["memUsed"].as_i64().unwrap(), one["diskUsed"].as_i64().unwrap())
    };
    samples.iter().map(|one| (one["timestampUnix"].as_i64().unwrap(), used(one))).collect()
}

/// What a script finds that knows nothing of the relay's code.
async fn recomputed(scene: &Scene) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/usage.py");
    let mut command = tokio::process::Command::new("python3");
    command.arg(script).arg(scene.file()).args([&scene.provider.base, KEY]).env("no_proxy", "*");
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn wait(seconds: u64) {
    // The provider's samples come with the clock: there is nothing else to be awaited.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_is_told_once_and_usage_is_what_they_come_to_through_a_kill_and_an_outage() {
    story(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_samples_are_no_records_usage_lacks_no_more_than_a_few_of_them_after_kills() {
    story(false).await;
}

async fn story(records: bool) {
    let keys = format!(
        "    reconcile: {{interval: 500ms}}\n    metrics: {{interval: 1s, max_series: 3, records: {records}}}\n    usage: true\n"
    );
    let mut scene = Scene::start(Options::default(), &keys).await;
    let started = jiff::Timestamp::now().as_second();
    for _ in 0..120 {
        scene.provider.happen(1, 0).await;
    }
    wait(12).await;
    scene.kill().await;
    scene.begin().await;
    wait(7).await;
    scene.until_alike().await;
    let gauges = scene.daemon().metrics().await;
    let shown: Vec<&str> = gauges.0.lines().filter(|line| line.starts_with("e2b_sandbox_cpus{")).collect();
    assert_eq!(shown.len(), 3, "{shown:#?}");
    assert!(gauges.0.contains("e2b_template_cpus{"));
    let running = scene.shown().await.0["active_count"].as_f64().unwrap();
    assert_eq!(gauges.sum("metrics_series_omitted", ""), running - 3.0);
    scene.kill().await;
    wait(22).await;
    scene.begin().await;
    wait(7).await;
    // The whole of each sandbox's last execution, its end included.
    for (id, state) in scene.listed().await {
        if state == "running" {
            let (status, _) =
                scene.provider.send(reqwest::Method::DELETE, &format!("/sandboxes/{id}"), Value::Null).await;
            assert_eq!(status, 204);
        }
    }
    let ends = |kind: &str| scene.provider.ledger.entries().iter().filter(|entry| entry.kind.ends_with(kind)).count();
    let expected = ends("killed") + ends("paused");
    let usages = scene.until_records("sandbox.usage", expected).await;
    assert_eq!(usages.len(), expected);

    let samples = told(&scene);
    let now = jiff::Timestamp::now().as_second();
    let mut compared = 0;
    for (id, told) in &samples {
        let given = given(&scene, id, started - 5, now).await;
        // Pause and resume within one bucket leave one of its samples out of reach.
        assert!(told.keys().all(|bucket| given.contains_key(bucket)));
        compared += told.len();
    }
    let entries = scene.provider.ledger.entries();
    let count =
        |id: &str, kind: &str| entries.iter().filter(|one| one.sandbox_id == id && one.kind.ends_with(kind)).count();
    let mut whole = 0;
    for usage in &usages {
        let (id, data) = (text(&usage["sandbox_id"]), &usage["event_data"]);
        assert_eq!(data["basis"], "execution");
        if count(&id, "resumed") + count(&id, "paused") > 0 || data["end_reason"] != "killed" {
            continue;
        }
        let given =
            given(&scene, &id, seconds(&data["execution_started_at"]), seconds(&data["execution_ended_at"])).await;
        let counted = data["samples"].as_u64().unwrap() as usize;
        if records {
            let told = samples.get(&id).cloned().unwrap_or_default();
            assert_eq!(told, given, "each sample of the execution, gap included");
        } else {
            let lost = given.len().checked_sub(counted).expect("none counted twice");
            assert!(lost <= 2 * LOST_PER_KILL, "{lost} of {} samples are not counted", given.len());
            println!("{counted} of {} samples counted", given.len());
        }
        whole += usize::from(given.len() > 8);
    }
    assert_eq!(compared > 0, records);
    println!("{compared} samples told, {} usages, {whole} of whole executions through both kills", usages.len());
    assert!(whole >= 2);
    if records {
        let found = recomputed(&scene).await;
        println!("recomputed by the script: {found}");
        assert_eq!((&found["wrong"], &found["whole"]), (&json!([]), &json!(whole)));
    }
    let metrics = scene.daemon().metrics().await;
    assert_eq!(metrics.sum("metrics_gaps_total", ""), 0.0);
    let gone = |metrics: &crate::support::daemon::Metrics| !metrics.0.contains("e2b_sandbox_cpus{");
    scene.daemon().until("the gauges of sandboxes that are gone are gone", gone).await;
    scene.terminate().await;
}
