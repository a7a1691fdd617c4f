//! The composition's parts, run: its simulated E2B by its own command, its relay by its own configuration, brokers of the
//! kinds that it has. Only addresses and the brokers' names for things are others, since the brokers are the whole run's.

use super::compose::{relay_in, service};
use super::repository;
use crate::support::brokers::{amqp, kafka, nats, unique};
use crate::support::consume;
use crate::support::daemon::{Home, Metrics, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The service `e2b` on a port of its own, and its address.
async fn simulated() -> (Child, String) {
    let service = service("e2b");
    let secrets = repository().join("deploy/docker/compose/secrets");
    let arguments = service["command"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
    let arguments = arguments.map(|argument| {
        argument.replace("/run/secrets", secrets.to_str().unwrap()).replace("0.0.0.0:3000", "127.0.0.1:0")
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it says nothing").unwrap().unwrap();
    (child, line.strip_prefix("E2B_API_URL=").expect("its address").to_owned())
}

/// Everything replaced, each of which must be there.
fn replaced(text: String, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

/// Ids, with how often each came and of what type.
fn ids(records: &[Value]) -> BTreeMap<String, (usize, String)> {
    let mut ids = BTreeMap::new();
    for record in records {
        let [id, kind] = ["id", "type"].map(|name| record[name].as_str().unwrap().to_owned());
        ids.entry(id).or_insert((0, kind)).0 += 1;
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_simulated_e2b_does_comes_out_of_all_three_brokers_and_the_file() {
    let (mut e2b, api) = simulated().await;
    let name = unique("composed");
    consume::create_topic(&kafka(), &name, 4).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let public = format!("127.0.0.1:{port}");
    let home = Home::new("");
    let stream = format!(
        "subject: \"{name}.{{{{ type }}}}.{{{{ sandbox_id }}}}\"\n    stream: {{name: {name}, subjects: [\"{name}.>\"]"
    );
    let text = replaced(
        relay_in(home.path().to_str().unwrap()),
        &[
            ("0.0.0.0:8080", &public),
            ("0.0.0.0:9464", "127.0.0.1:0"),
            ("http://relay:8080", &format!("http://{public}")),
            ("http://e2b:3000", &api),
            ("kafka:9092", &kafka()),
            ("topic: e2b.events", &format!("topic: {name}")),
            ("nats://relay:made-up-password@nats:4222", &nats()),
            ("stream: {name: E2B, subjects: [\"e2b.>\"]", &stream),
            ("amqp://relay:made-up-password@rabbitmq:5672/%2f", &amqp()),
            ("exchange: e2b\n", &format!("exchange: {name}\n")),
            ("queue: e2b-events", &format!("queue: {name}")),
        ],
    );
    std::fs::write(home.configuration(), text).unwrap();
    let daemon = home.start().await;
    assert_eq!(daemon.public, public);
    let has_all = |metrics: &Metrics| {
        let sent = |sink: &str| metrics.sum("sink_sent_total", &format!("sink=\"{sink}\""));
        ["lake", "bus", "audit"].iter().all(|sink| sent(sink) >= 60.0)
            && sent("queue") >= 20.0
            && metrics.sum("deliveries_total", "outcome=\"accepted\"") >= 20.0
            && metrics.sum("events_total", "sandbox.metrics") >= 20.0
            && metrics.sum("backfill_recovered_total", "") >= 1.0
    };
    daemon.until("deliveries, samples and what was dropped have come, and gone on", has_all).await;
    kill_process(Pid::from_raw(e2b.id().unwrap() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(tokio::time::timeout(PATIENCE, e2b.wait()).await.expect("it does not end").unwrap().success());
    daemon.until("all is handed on", |metrics| metrics.sum("sink_lag_events", "") == 0.0).await;
    assert_eq!(daemon.metrics().await.sum("sink_dead_letters_total", ""), 0.0);
    assert!(daemon.terminate().await.success());

    let audit = ids(&consume::file(&home.path().join("audit.ndjson")));
    assert!(audit.values().all(|(times, _)| *times == 1));
    assert_eq!(ids(&consume::kafka(&kafka(), &name).await), audit);
    assert_eq!(ids(&consume::jetstream(&nats(), &name).await), audit);
    let wanted = |kind: &str| kind.starts_with("sandbox.lifecycle.") || kind == "sandbox.usage";
    let queued: BTreeMap<_, _> = audit.into_iter().filter(|(_, (_, kind))| wanted(kind)).collect();
    assert_eq!(ids(&consume::amqp(&amqp(), &name).await), queued);
    println!("{} events in the queue", queued.len());
}
