//! A stream and a queue that are full: both sinks wait and say so, the others go on, and what was waiting arrives in order
//! once a consumer makes room. Kafka on a full disk likewise, which for it is the end: it comes back when there is room.

use super::full::SmallDisk;
use super::sinks::{IN_FLIGHT, NAMES, Sinks, print_row, shared};
use crate::support::brokers::{self, Broker};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home, Metrics, PATIENCE};
use crate::support::load::{self, Plan};
use crate::support::oracle::{Got, Ledger, Terms, judge};
use crate::support::verify;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use std::time::Duration;

const EVENTS: usize = 1_200;
/// What the queue takes.
const MESSAGES: i32 = 200;

/// The queue as an operator might have it, before the sink declares it.
async fn bounded_queue(url: &str, name: &str) {
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(MESSAGES));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), durable, arguments).await.unwrap();
    let (exchange, kind) = (name.into(), lapin::ExchangeKind::Topic);
    let durable = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(exchange, kind, durable, FieldTable::default()).await.unwrap();
    let options = lapin::options::QueueBindOptions::default();
    channel.queue_bind(name.into(), name.into(), "#".into(), options, FieldTable::default()).await.unwrap();
}

/// Takes what the stream holds, and makes room.
async fn take_from_stream(url: &str, name: &str) -> Vec<Got> {
    let stream = consume::jetstream_context(url).await.get_stream(name).await.unwrap();
    let state = &stream.cached_info().state;
    let mut taken = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        taken.push(serde_json::from_slice(&message.payload).unwrap());
    }
    stream.purge().sequence(state.last_sequence + 1).await.unwrap();
    taken
}

/// Takes what the queue holds, one by one: what a subscription without acknowledgements was given and did not read is gone.
async fn take_from_queue(url: &str, name: &str) -> Vec<Got> {
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut taken = Vec::new();
    while let Some(message) = channel.basic_get(name.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        taken.push(serde_json::from_slice(&message.data).unwrap());
    }
    taken
}

/// Takes all that there is until nothing is left to send.
async fn drain(daemon: &Daemon, sink: &str, take: impl AsyncFn() -> Vec<Got>) -> Vec<Got> {
    let mut got = Vec::new();
    let drained = async {
        loop {
            got.extend(take().await);
            if daemon.metrics().await.settled(sink) == EVENTS as u64 {
                // What came between the two.
                got.extend(take().await);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, drained).await.expect("it is drained");
    got
}

fn configuration(sinks: &Sinks) -> String {
    let (nats, amqp, name) = (brokers::nats(), brokers::amqp(), sinks.name());
    let stream = format!("{{name: {name}, subjects: [\"{name}.>\"], create: true, max_bytes: 128KiB, discard: new}}");
    let all = sinks.configuration();
    let head = all.split("sinks:").next().unwrap().to_owned();
    head + &format!(
        r#"sinks:
  bus: {{type: nats, servers: ["{nats}"], subject: "{name}.{{{{ sandbox_id }}}}", stream: {stream}}}
  queue: {{type: amqp, url: "{amqp}", exchange: {name}}}
  audit: {{type: file, path: ./audit.ndjson}}
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_and_a_full_queue_are_waited_for_and_nothing_is_lost() {
    let sinks = shared().await;
    let name = sinks.name();
    bounded_queue(&brokers::amqp(), name).await;
    let home = Home::new(&configuration(&sinks));
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    let plan = Plan { events: EVENTS, ..Plan::default() };
    let ledger: Ledger = load::send(plan, move || webhook.clone()).await.ledger;
    assert_eq!(ledger.acknowledged(), EVENTS);
    daemon.until_settled("audit", EVENTS as u64).await;
    for sink in ["bus", "queue"] {
        let full = |metrics: &Metrics| {
            metrics.sum("sink_up", &format!("sink=\"{sink}\"")) == 0.0
                && metrics.sum("sink_errors_total", &format!("reason=\"rejected\",sink=\"{sink}\"")) > 0.0
        };
        daemon.until(&format!("{sink} is full"), full).await;
        let settled = daemon.metrics().await.settled(sink);
        assert!((1..EVENTS as u64).contains(&settled), "{sink} took {settled}");
    }
    let (nats, amqp) = (brokers::nats(), brokers::amqp());
    let (bus, queue) = tokio::join!(
        drain(&daemon, "bus", async || take_from_stream(&nats, name).await),
        drain(&daemon, "queue", async || take_from_queue(&amqp, name).await),
    );
    let up = |metrics: &Metrics| metrics.sum("sink_up", "") == 3.0;
    daemon.until("all are up again", up).await;
    assert!(daemon.terminate().await.success());
    let proof = verify::sound(&home).await;
    for (sink, got) in [("bus", bus), ("queue", queue), ("audit", consume::file(&home.path().join("audit.ndjson")))] {
        let verdict = judge(sink, &got, &verify::remains(&home, &proof, sink), &ledger, Terms::default());
        verdict.assert_kept();
        assert_eq!((verdict.lost, verdict.doubled), (0, 0), "{sink}");
    }
}

/// Of the disk; the events need more.
const ROOM: u64 = 128 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_whose_disk_is_full_is_waited_for_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&folder.path().join("disk"));
    let broker = Broker::start_kafka_on(&folder.path().join("disk")).await;
    let sinks = Sinks::new(broker.address(), brokers::nats(), brokers::amqp()).await;
    let home = Home::new(&sinks.configuration());
    let daemon = home.start().await;
    let load = load::Ongoing::begin("kafka is full", |_| serde_json::json!("usual"));
    load.go_on(daemon.webhook(), EVENTS);
    sinks.until_settled(&daemon, EVENTS as u64).await;
    let ballast = disk.fill(ROOM);
    load.go_on(daemon.webhook(), 2 * EVENTS);
    for sink in &NAMES[1..] {
        daemon.until_settled(sink, 3 * EVENTS as u64).await;
    }
    let full = |metrics: &Metrics| {
        metrics.sum("sink_up", "sink=\"lake\"") == 0.0 && metrics.sum("sink_errors_total", "sink=\"lake\"") > 0.0
    };
    daemon.until("lake is down", full).await;
    let settled = daemon.metrics().await.settled("lake");
    assert!((EVENTS as u64..3 * EVENTS as u64).contains(&settled), "lake took {settled}");
    std::fs::remove_file(ballast).unwrap();
    broker.restart().await;
    let ledger = load.end().await;
    assert_eq!(ledger.acknowledged(), 3 * EVENTS);
    sinks.until_settled(&daemon, ledger.acknowledged() as u64).await;
    assert!(daemon.terminate().await.success());
    // What the broker had written and not confirmed when it ended.
    let verdicts = sinks.judge(&home, &ledger, [IN_FLIGHT, 0, 0, 0]).await;
    print_row("Kafka's disk full", 1, &verdicts);
}
