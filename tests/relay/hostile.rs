//! Metadata is chosen by whoever starts a sandbox. Whatever stands there is one harmless token of an address, or it is
//! a dead letter: a subscriber to everything sees nothing else.

use crate::support::brokers::{self, Broker, Kind, unique};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home, reqwest_client};
use crate::support::load::{self, SECRET};
use futures_util::StreamExt;
use serde_json::{Value, json};

/// What one event's metadata says, and what it becomes. `None`: no address, the record is a dead letter there.
struct Case {
    user: Option<String>,
    kafka_topic: Option<&'static str>,
    kafka_key: Option<String>,
    nats_subject: Option<String>,
    amqp_routing_key: Option<String>,
}

impl Case {
    fn token(user: &str, escaped: &str, kafka_topic: &'static str) -> Self {
        let escaped = Some(escaped.to_owned());
        Self {
            user: Some(user.to_owned()),
            kafka_topic: Some(kafka_topic),
            kafka_key: escaped.clone(),
            nats_subject: escaped.clone(),
            amqp_routing_key: escaped,
        }
    }

    fn nowhere(user: Option<&str>) -> Self {
        let user = user.map(str::to_owned);
        Self { user, kafka_topic: None, kafka_key: None, nats_subject: None, amqp_routing_key: None }
    }
}

fn cases() -> Vec<Case> {
    let long = "n".repeat(300);
    vec![
        Case::token("x 6\r\nPUB evil 0\r\n", "x%206%0D%0APUB%20evil%200%0D%0A", "x_6__PUB_evil_0__"),
        Case::token("*", "%2A", "_"),
        Case::token(">", "%3E", "_"),
        Case::token("#", "%23", "_"),
        Case::token("a.b", "a%2Eb", "a_b"),
        Case::token("...", "%2E%2E%2E", "___"),
        // A topic has at most 249 characters, a routing key 255 bytes.
        Case { kafka_topic: None, amqp_routing_key: None, ..Case::token(&long, &long, "") },
        Case::nowhere(Some("")),
        Case::nowhere(None),
    ]
}

/// An event whose id is the case's number.
fn event(number: usize, user: Option<&str>) -> String {
    let body = load::body(&number.to_string(), &format!("sbx{number}"), 0, true);
    let mut event: Value = serde_json::from_str(&body).unwrap();
    event["event_data"]["sandbox_metadata"] = user.map_or(json!({}), |user| json!({"user": user}));
    event.to_string()
}

/// Every case goes to every sink, each of which is to settle it.
async fn deliver(daemon: &Daemon, cases: &[Case], sinks: &[&str]) {
    let client = reqwest_client();
    for (number, case) in cases.iter().enumerate() {
        let body = event(number, case.user.as_deref());
        let (status, answer) = load::post(&client, &daemon.webhook(), SECRET, &body).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    for sink in sinks {
        daemon.until_settled(sink, cases.len() as u64).await;
    }
}

async fn assert_dead_letters(daemon: &Daemon, sink: &str, expected: &[Option<String>]) {
    let count = expected.iter().filter(|address| address.is_none()).count() as f64;
    let (metrics, label) = (daemon.metrics().await, format!("sink=\"{sink}\""));
    assert_eq!(metrics.sum("sink_dead_letters", &label), count, "{sink}");
    assert_eq!(metrics.sum("sink_dead_letters_total", &label), count, "{sink}");
    let by_template = metrics.of("e2b_relay_sink_dead_letters_total");
    let line = format!("reason=\"template\",{label}}} {count}");
    assert!(by_template.lines().any(|series| series.ends_with(&line)), "{sink}: no {line} in\n{by_template}");
}

/// What was seen, as addresses and records, is what each case says and nothing else; the payload is unharmed.
fn assert_seen(sink: &str, seen: Vec<(String, Value)>, cases: &[Case], expected: &[Option<String>]) {
    let mut found = Vec::new();
    for (address, record) in seen {
        let number: usize = record["id"].as_str().expect("an id").parse().expect("a case's number");
        assert_eq!(record["event_data"]["sandbox_metadata"]["user"], json!(cases[number].user), "{sink}");
        found.push((number, address));
    }
    found.sort();
    let expected = expected.iter().enumerate();
    let expected: Vec<_> = expected.filter_map(|(number, address)| Some((number, address.clone()?))).collect();
    assert_eq!(found, expected, "{sink}");
}

fn configuration(sinks: &str) -> String {
    format!("sources: {{acme: {{webhook: {{secrets: [\"{SECRET}\"]}}}}}}\nsinks:\n{sinks}")
}

const USER: &str = "{{ event_data.sandbox_metadata.user }}";

#[tokio::test]
async fn nats_sees_one_escaped_token_and_no_protocol() {
    // A server of its own: a subscription to everything sees other tests' subjects, too.
    let server = Broker::start(Kind::Nats).await;
    let url = server.address();
    let client = consume::nats_client(&url).await;
    let mut everything = client.subscribe(">").await.unwrap();
    until_marker(&client, &mut everything).await;

    let home = Home::new(&configuration(&format!(
        r#"
  bus: {{type: nats, servers: ["{url}"], subject: "bus.{USER}", stream: {{name: HOSTILE, subjects: ["bus.>"], create: true}}}}
  core: {{type: nats, servers: ["{url}"], subject: "core.{USER}", jetstream: false}}
"#
    )));
    let daemon = home.start().await;
    let cases = cases();
    deliver(&daemon, &cases, &["bus", "core"]).await;

    let (mut bus, mut core) = (Vec::new(), Vec::new());
    for message in until_marker(&client, &mut everything).await {
        let subject = message.subject.to_string();
        let record = || serde_json::from_slice(&message.payload).unwrap();
        match subject.split_once('.') {
            Some(("bus", _)) => bus.push((subject, record())),
            Some(("core", _)) => core.push((subject, record())),
            // Clients' talk with JetStream.
            Some(("_INBOX" | "$JS", _)) => {}
            _ => panic!("a stranger has published to {subject:?}"),
        }
    }
    for (sink, seen) in [("bus", bus), ("core", core)] {
        let expected: Vec<_> =
            cases.iter().map(|case| case.nats_subject.as_ref().map(|token| format!("{sink}.{token}"))).collect();
        assert_seen(sink, seen, &cases, &expected);
        assert_dead_letters(&daemon, sink, &expected).await;
    }
    assert!(daemon.terminate().await.success());
}

/// Publishes a marker on the subscriber's own connection and returns what came before it. Whatever the server had taken
/// by then is among that.
async fn until_marker(
    client: &async_nats::Client,
    everything: &mut async_nats::Subscriber,
) -> Vec<async_nats::Message> {
    let marker = unique("marker");
    client.publish(marker.clone(), bytes::Bytes::new()).await.unwrap();
    let mut before = Vec::new();
    let read = async {
        loop {
            let message = everything.next().await.expect("the connection lives");
            if message.subject.as_str() == marker {
                return;
            }
            before.push(message);
        }
    };
    tokio::time::timeout(crate::support::daemon::PATIENCE, read).await.expect("the marker comes");
    before
}

#[tokio::test]
async fn rabbitmq_sees_one_escaped_word() {
    let (url, name) = (brokers::amqp(), unique("hostile"));
    // Bound with `#`, which is the default.
    let home = Home::new(&configuration(&format!(
        r#"
  queue: {{type: amqp, url: "{url}", exchange: {name}, routing_key: "{USER}", declare: {{exchange_type: topic, queue: {name}}}}}
"#
    )));
    let daemon = home.start().await;
    let cases = cases();
    deliver(&daemon, &cases, &["queue"]).await;
    let expected: Vec<_> = cases.iter().map(|case| case.amqp_routing_key.clone()).collect();
    assert_seen("queue", consume::amqp_with_keys(&url, &name).await, &cases, &expected);
    assert_dead_letters(&daemon, "queue", &expected).await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test]
async fn kafka_sees_topics_of_plain_letters_and_escaped_keys() {
    let (brokers, name) = (brokers::kafka(), unique("hostile"));
    let cases = cases();
    let keyed = format!("{name}-keyed");
    let mut topics: Vec<String> =
        cases.iter().filter_map(|case| Some(format!("{name}.{}", case.kafka_topic?))).chain([keyed.clone()]).collect();
    topics.sort();
    topics.dedup();
    for topic in &topics {
        consume::create_topic(&brokers, topic, 1).await;
    }
    let home = Home::new(&configuration(&format!(
        r#"
  by_topic: {{type: kafka, brokers: ["{brokers}"], topic: "{name}.{USER}"}}
  by_key: {{type: kafka, brokers: ["{brokers}"], topic: {keyed}, key: "{USER}"}}
"#
    )));
    let daemon = home.start().await;
    deliver(&daemon, &cases, &["by_topic", "by_key"]).await;

    let mut there = consume::kafka_topics(&brokers, &name);
    there.sort();
    assert_eq!(there, topics, "a topic that nobody made");
    let expected: Vec<_> = cases.iter().map(|case| case.kafka_key.clone()).collect();
    assert_seen("by_key", consume::kafka_with_keys(&brokers, &keyed).await, &cases, &expected);
    assert_dead_letters(&daemon, "by_key", &expected).await;

    let mut seen = Vec::new();
    for topic in topics.iter().filter(|topic| **topic != keyed) {
        let records = consume::kafka(&brokers, topic).await;
        seen.extend(records.into_iter().map(|record| (topic.clone(), record)));
    }
    let expected: Vec<_> = cases.iter().map(|case| Some(format!("{name}.{}", case.kafka_topic?))).collect();
    assert_seen("by_topic", seen, &cases, &expected);
    assert_dead_letters(&daemon, "by_topic", &expected).await;
    assert!(daemon.terminate().await.success());
}
