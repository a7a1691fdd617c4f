//! Stores of version 0.1.0 with a backlog, of which one ended by SIGKILL under load, are taken on by the real daemon: each sink
//! gets exactly what it had not had, from the position that it stood at, and the dead letters are what they were.

use super::kept::lay;
use crate::admin::{asking, run};
use crate::support::brokers::{amqp, kafka, nats, unique};
use crate::support::consume;
use crate::support::daemon::Home;
use crate::support::load::SECRET;
use crate::support::verify;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The sinks that were in the configuration, and the one that was taken out of it and comes back.
const SINKS: [&str; 6] = ["lake", "queue", "bus", "audit", "picky", "gone"];

#[derive(Debug, Deserialize)]
struct Record {
    id: String,
    relay: Stamp,
}

#[derive(Debug, Deserialize)]
struct Stamp {
    sequence: u64,
}

/// The three that waited for a broker have a real one now, the others a file.
fn configuration(topic: &str) -> String {
    format!(
        "store: {{path: ./data, max_size: 64MiB, retention: 10000d}}\nsources: {{e2b: {{webhook: {{secrets: \
         ['{SECRET}']}}}}}}\nsinks:\n  lake: {{type: kafka, brokers: ['{}'], topic: {topic}}}\n  bus: {{type: nats, \
         servers: ['{}'], subject: '{topic}.{{{{ sandbox_id }}}}', stream: {{name: {topic}, subjects: ['{topic}.>'], \
         create: true}}}}\n  queue: {{type: amqp, url: '{}', exchange: {topic}, declare: {{exchange_type: topic, queue: \
         {topic}}}}}\n  audit: {{type: file, path: ./audit.ndjson}}\n  picky: {{type: file, path: ./picky.ndjson}}\n  \
         gone: {{type: file, path: ./gone.ndjson}}\n",
        kafka(),
        nats(),
        amqp()
    )
}

/// What a sink had had when the store was kept.
fn position(expected: &Value, sink: &str) -> u64 {
    let sinks = expected["sinks"].as_array().unwrap();
    let found = sinks.iter().find(|found| found["name"] == sink).unwrap_or_else(|| panic!("no sink {sink}"));
    found["progress"]["position"].as_u64().unwrap()
}

/// Sequence and id of what comes behind that.
fn due(expected: &Value, sink: &str) -> Vec<(u64, String)> {
    let position = position(expected, sink);
    let events = expected["events"].as_array().unwrap().iter();
    let events = events.map(|event| (event[0].as_u64().unwrap(), event[1].as_str().unwrap().to_owned()));
    events.filter(|(sequence, _)| *sequence > position).collect()
}

fn format_number(store: &Path) -> u64 {
    let format: Value = serde_json::from_slice(&std::fs::read(store.join("format")).unwrap()).unwrap();
    format["format"].as_u64().unwrap()
}

async fn take_on(name: &str) {
    let topic = unique("backlog");
    consume::create_topic(&kafka(), &topic, 1).await;
    let home = Home::new(&configuration(&topic));
    let data = home.path().join("data");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stores").join(format!("{name}.tar.gz"));
    let expected = lay(&kept, &data).expect("what is to be found in it");
    let format = format_number(&data);
    let daemon = home.start().await;
    for sink in SINKS {
        daemon.until_settled(sink, due(&expected, sink).len() as u64).await;
    }
    let letters = run(asking(&home, &daemon, &["dead-letters", "list", "--format", "json"])).await;
    assert!(daemon.terminate().await.success());
    for sink in SINKS {
        let mut got: Vec<Record> = match sink {
            "lake" => consume::kafka(&kafka(), &topic).await,
            "bus" => consume::jetstream(&nats(), &topic).await,
            "queue" => consume::amqp(&amqp(), &topic).await,
            // It makes none before its first record.
            _ if due(&expected, sink).is_empty() => {
                assert!(!home.path().join(format!("{sink}.ndjson")).exists(), "{name}: {sink} got something");
                continue;
            }
            file => consume::file(&home.path().join(format!("{file}.ndjson"))),
        };
        got.sort_by_key(|record| record.relay.sequence);
        let got: Vec<(u64, String)> = got.into_iter().map(|record| (record.relay.sequence, record.id)).collect();
        assert_eq!(got, due(&expected, sink), "{name}: {sink}, which stood at {}", position(&expected, sink));
    }
    let letters: Vec<Value> = serde_json::from_str::<Value>(&letters.out).unwrap().as_array().unwrap().clone();
    let letters: Vec<Value> =
        letters.iter().map(|one| serde_json::json!([one["sequence"], one["reason"], one["id"]])).collect();
    let picky = expected["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == "picky").unwrap();
    assert_eq!(&Value::from(letters), &picky["letters"], "{name}: the dead letters that wait");
    let sum = |proof: &Value, what: &str| {
        let sums = proof["sinks"].as_array().unwrap().iter();
        sums.clone().find(|sum| sum["sink"] == "picky").unwrap()[what].as_u64().unwrap()
    };
    let (before, proof) = (&expected["verify"], verify::sound(&home).await);
    for what in ["dead_lettered", "dropped_by_hand"] {
        assert_eq!(sum(&proof, what), sum(before, what), "{name}: {what}");
    }
    assert!(format_number(&data) > format, "it still has format {format}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_0_1_0_that_was_killed_gives_each_sink_what_it_had_not_had() {
    take_on("0.1.0-unclean").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_0_1_0_that_ended_well_gives_each_sink_what_it_had_not_had() {
    take_on("0.1.0-clean").await;
}
