//! The examples of consumers, as they stand in `examples/consumers`, on what the real daemon delivered to real brokers:
//! every record twice, a poisoned message among them, and killed between effect and acknowledgement.

mod examples;
mod types;

use crate::admin::{self, Ran};
use crate::simulate::{KEY, Running};
use crate::support::brokers::{self, unique};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home};
use crate::support::load::{self, SECRET};
use crate::support::seed::soak;
use e2b_relay::simulator::TEAM_ID;
use e2b_relay::simulator::provider::Options;
use examples::{Consumer, Examples, Language, Tables, id_of};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// No record: the first is no JSON, the second of a shape that comes some day.
const POISON: [&str; 2] = ["{\"id\": \"cut", r#"{"id": "later", "relay": {"schema": 2}}"#];
const EVENTS: usize = 60;

/// What the sinks of one broker got.
struct Delivered {
    home: Home,
    records: Vec<Value>,
}

/// Has the daemon deliver events to `sinks`, all of them once more, and then some behind what `poison` puts there.
async fn delivered(sinks: &str, names: &[&str], poison: impl AsyncFnOnce()) -> Delivered {
    let provider = Running::start(Options::default()).await;
    provider.happen(EVENTS, 6_000).await;
    let home = Home::new(&format!(
        "sources:\n  acme:\n    team_id: {TEAM_ID}\n    webhook: {{secrets: ['{SECRET}']}}\n    \
         api: {{url: '{}', api_key: {KEY}}}\n    backfill: {{lookback: 3h}}\n    usage: true\n\
         sinks:\n  audit: {{type: file, path: ./audit.ndjson, start: earliest}}\n{sinks}",
        provider.base
    ));
    let daemon = home.start().await;
    let ended =
        |metrics: &crate::support::daemon::Metrics| metrics.sum("events_total", "type=\"sandbox.usage\"") >= 5.0;
    daemon.until("executions end", ended).await;
    let all = |metrics: &crate::support::daemon::Metrics| metrics.settled("audit") > EVENTS as u64;
    daemon.until("all are sent", all).await;
    for name in names {
        daemon.until_settled(name, EVENTS as u64).await;
        let Ran { code, err, .. } = admin::run(admin::asking(&home, &daemon, &["replay", "--sink", name])).await;
        assert_eq!(code, Some(0), "{err}");
    }
    poison().await;
    behind(&daemon).await;
    assert!(daemon.terminate().await.success());
    let records: Vec<Value> = consume::file(&home.path().join("audit.ndjson"));
    assert!(records.len() > EVENTS + 5);
    Delivered { home, records }
}

/// What only a delivery tells: types that the examples do not know, and a gap.
async fn behind(daemon: &Daemon) {
    let now = jiff::Timestamp::now().to_string();
    let gap = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-09T00:00:00Z", "reason": "provider_retention"});
    for (id, kind, sandbox, data) in [
        ("gap-1", "relay.gap", "relay", gap),
        ("forked-1", "sandbox.lifecycle.forked", "sbx-1", json!({"parent": "sbx-0"})),
        ("forked-2", "sandbox.lifecycle.forked", "sbx-1", Value::Null),
    ] {
        let event = json!({"id": id, "type": kind, "version": "v2", "timestamp": now, "event_data": data,
            "sandbox_id": sandbox, "sandbox_team_id": TEAM_ID, "from_tomorrow": [1, {"x": null}]});
        let (status, answer) =
            load::post(daemon.client(), &daemon.webhook(), SECRET, &event.to_string()).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
}

impl Delivered {
    fn ids(&self) -> BTreeSet<String> {
        self.records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Events and milliseconds of each sandbox.
    fn sandboxes(&self) -> BTreeMap<String, (u64, u64)> {
        let mut sandboxes = BTreeMap::new();
        for record in self.records.iter().filter(|record| record["type"] != "relay.gap") {
            let of: &mut (u64, u64) = sandboxes.entry(record["sandbox_id"].as_str().unwrap().to_owned()).or_default();
            of.0 += 1;
            if record["type"] == "sandbox.usage" {
                of.1 += record["event_data"]["run_time_ms"].as_u64().unwrap();
            }
        }
        sandboxes
    }

    /// Kills the consumer now and again, has it go on, and looks at what it has come to.
    async fn take(&self, consumer: Consumer) {
        let ids = self.ids();
        assert_eq!(ids.len(), self.records.len(), "the truth has each once");
        let mut told = BTreeSet::new();
        let mut doubles = 0;
        let mut unacknowledged: Option<String> = None;
        // The first few of a life are SQLite's own: it makes the tables, or its log anew.
        for syncs in if soak() { vec![20, 9, 7, 11, 8] } else { vec![20, 9] } {
            let printed = consumer.killed_between_effect_and_acknowledgement(syncs).await;
            doubles += self.follow(&printed, &mut told, &mut unacknowledged);
            let mut silent: Vec<String> = consumer.tables().await.seen.difference(&told).cloned().collect();
            assert_eq!(silent.len(), 1, "one effect is there of which it could say nothing");
            unacknowledged = silent.pop();
        }
        let printed = consumer.until_told(&ids - &told).await;
        doubles += self.follow(&printed, &mut told, &mut unacknowledged);
        assert!(doubles >= EVENTS, "{doubles}");
        let Tables { seen, sandboxes, gaps, poison } = consumer.tables().await;
        assert_eq!(seen, ids);
        assert_eq!(sandboxes, self.sandboxes());
        let gap = ["2026-01-01T00:00:00Z", "2026-01-09T00:00:00Z", "provider_retention"];
        assert_eq!(gaps, [gap.map(str::to_owned)]);
        assert_eq!(poison.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>(), POISON);
        assert!(poison[0].1.starts_with("no JSON: ") && poison[1].1.contains("schema is 2"), "{poison:?}");
    }

    /// How many it knew already. Among them, before anything new, is the one that the kill before kept from being
    /// acknowledged; behind others only where acknowledgements still lay in the client (AMQP).
    fn follow(&self, printed: &[String], told: &mut BTreeSet<String>, first: &mut Option<String>) -> usize {
        if let Some(first) = first.take() {
            let mut again = printed.iter().take_while(|line| !line.starts_with("applied "));
            assert!(again.any(|line| *line == format!("known {first}")), "{first} comes again, and does nothing");
        }
        told.extend(printed.iter().map(|line| id_of(line).to_owned()).filter(|id| !id.is_empty()));
        printed.iter().filter(|line| line.starts_with("known ")).count()
    }
}

/// Both languages side by side; `arguments` of each.
async fn take_in_both(delivered: Delivered, broker: &str, arguments: impl Fn(Language) -> Vec<String>) {
    let examples = Examples::new().await;
    let consumer = |language| {
        let arguments = arguments(language);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        examples.consumer(language, broker, &arguments)
    };
    let [python, typescript] = Language::ALL.map(consumer);
    tokio::join!(delivered.take(python), delivered.take(typescript));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_kafka_each_record_has_its_effect_once() {
    let (servers, topic) = (brokers::kafka(), unique("consumers"));
    consume::create_topic(&servers, &topic, 1).await;
    let sinks = format!("  lake: {{type: kafka, brokers: ['{servers}'], topic: {topic}, start: earliest}}\n");
    let delivered = delivered(&sinks, &["lake"], async || {
        let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &servers).create().unwrap();
        for body in POISON {
            producer.send(FutureRecord::to(&topic).key("k").payload(body), Duration::from_secs(60)).await.unwrap();
        }
    });
    let delivered = delivered.await;
    take_in_both(delivered, "kafka", |language| {
        vec![servers.clone(), topic.clone(), format!("{topic}-{}", language.name())]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_jetstream_each_record_has_its_effect_once() {
    let (url, stream) = (brokers::nats(), unique("CONSUMERS"));
    let sinks = format!(
        "  bus: {{type: nats, servers: ['{url}'], subject: '{stream}.{{{{ type }}}}.{{{{ sandbox_id }}}}', \
         start: earliest, stream: {{name: {stream}, subjects: ['{stream}.>'], create: true}}}}\n"
    );
    let delivered = delivered(&sinks, &["bus"], async || {
        let context = consume::jetstream_context(&url).await;
        for body in POISON {
            context.publish(format!("{stream}.poison"), body.into()).await.unwrap().await.unwrap();
        }
    });
    let delivered = delivered.await;
    take_in_both(delivered, "nats", |language| {
        vec![url.clone(), stream.clone(), format!("{stream}-{}", language.name())]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_rabbitmq_each_record_has_its_effect_once() {
    use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
    let (url, name) = (brokers::amqp(), unique("consumers"));
    let of = |language: Language| format!("{name}-{}", language.name());
    let sinks: String = Language::ALL
        .iter()
        .map(|language| {
            let (sink, own) = (language.name(), of(*language));
            format!(
                "  {sink}: {{type: amqp, url: '{url}', exchange: {own}, start: earliest, \
                 declare: {{exchange_type: topic, queue: {own}}}}}\n"
            )
        })
        .collect();
    let names = Language::ALL.map(Language::name);
    let delivered = delivered(&sinks, &names, async || {
        let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for (language, body) in Language::ALL.iter().flat_map(|one| POISON.map(|body| (*one, body))) {
            let properties = lapin::BasicProperties::default();
            let options = BasicPublishOptions::default();
            let sent = channel.basic_publish(of(language).into(), "p".into(), options, body.as_bytes(), properties);
            sent.await.unwrap().await.unwrap();
        }
    });
    let delivered = delivered.await;
    take_in_both(delivered, "amqp", |language| vec![url.clone(), of(language)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_time_by_lifecycle_records_is_what_usage_records_say() {
    let delivered = delivered("", &[], async || {}).await;
    let examples = Examples::new().await;
    let told = running_time(&examples, &delivered.records).await;
    let mut stretches = 0;
    for (sandbox, (_, running_ms)) in delivered.sandboxes() {
        let figures = told.get(&sandbox).cloned().unwrap_or_default();
        assert_eq!(figures["running_ms"].as_u64().unwrap_or(0), running_ms, "{sandbox}");
        stretches += figures["stretches"].as_u64().unwrap_or(0) - figures["open"].as_u64().unwrap_or(0);
    }
    let usages = delivered.records.iter().filter(|record| record["type"] == "sandbox.usage").count();
    assert_eq!(stretches as usize, usages);
    // In any order, and each twice: the same.
    let mut shuffled = [delivered.records.clone(), delivered.records.clone()].concat();
    shuffled.reverse();
    assert_eq!(running_time(&examples, &shuffled).await, told);
    drop(delivered.home);
}

#[tokio::test]
async fn running_time_ends_where_no_event_tells_and_the_list_does() {
    let examples = Examples::new().await;
    let record = |kind: &str, at: &str, execution: &str, data: Value| {
        json!({"id": format!("{kind}-{at}"), "type": kind, "timestamp": format!("2026-01-01T00:{at}Z"), "sandbox_id": "sbx",
            "sandbox_execution_id": execution, "event_data": data, "relay": {"schema": 1}})
    };
    let gone = json!({"state": "gone", "started_at": "2026-01-01T00:00:00Z"});
    let records = [
        record("sandbox.lifecycle.created", "00:00.123456789", "one", Value::Null),
        record("sandbox.reconciled", "02:00.223", "one", gone),
        record("sandbox.lifecycle.resumed", "10:00", "two", json!({})),
        // From before the provider told of executions.
        record("sandbox.lifecycle.paused", "10:30", "two", json!({"sandbox_metadata": {"a": "b"}})),
        record("sandbox.lifecycle.resumed", "20:00", "three", Value::Null),
    ];
    let told = running_time(&examples, &records).await;
    assert_eq!(Value::Object(told), json!({"sbx": {"running_ms": 120_100 + 30_000, "stretches": 3, "open": 1}}));
}

async fn running_time(examples: &Examples, records: &[Value]) -> serde_json::Map<String, Value> {
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    let input = examples.of(Language::Python).join("records.ndjson");
    std::fs::write(&input, lines).unwrap();
    let mut command = examples.python();
    command.arg("running_time.py").stdin(std::fs::File::open(input).unwrap());
    serde_json::from_slice(&crate::sdk::output_of(&mut command).await).unwrap()
}
