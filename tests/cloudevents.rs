//! Records as CloudEvents, through each broker, read back by the official SDK.

use crate::sdk;
use crate::support::brokers::{self, Broker, Kind, unique};
use crate::support::consume;
use crate::support::daemon::{Home, PATIENCE, reqwest_client};
use crate::support::load::{self, SECRET};
use crate::support::seed::soak;
use futures_util::StreamExt;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One message, as its binding's reader gets it.
#[derive(Serialize)]
struct Wire {
    binding: &'static str,
    headers: BTreeMap<String, String>,
    content_type: String,
    body: String,
}

impl Wire {
    fn new(
        binding: &'static str,
        mut headers: BTreeMap<String, String>,
        content_type: Option<String>,
        body: &[u8],
    ) -> Self {
        let content_type = content_type.or_else(|| headers.remove("content-type")).expect("a content type");
        Self { binding, headers, content_type, body: String::from_utf8(body.to_vec()).unwrap() }
    }
}

fn kafka(servers: &str, topic: &str) -> Wire {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "tests").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let message = consumer.poll(PATIENCE).expect("a message").unwrap();
    let headers = message.headers().unwrap().iter();
    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
    let headers = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
    Wire::new("kafka", headers, None, message.payload().unwrap())
}

async fn nats(url: &str, stream: &str) -> Wire {
    let stream = consume::jetstream_context(url).await.get_stream(stream).await.unwrap();
    let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let message = tokio::time::timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
    let headers = message.headers.as_ref().unwrap().iter();
    let headers = headers.map(|(name, values)| (name.to_string(), values[0].to_string())).collect();
    Wire::new("nats", headers, None, &message.payload)
}

async fn amqp(url: &str, queue: &str) -> Wire {
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let message = channel.basic_get(queue.into(), lapin::options::BasicGetOptions::default()).await.unwrap().unwrap();
    let properties = &message.properties;
    let headers = properties.headers().as_ref().unwrap().inner().iter();
    let text = |value: &lapin::types::AMQPValue| value.as_long_string().unwrap().to_string();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    let content_type = properties.content_type().as_ref().map(ToString::to_string);
    Wire::new("amqp", headers, content_type, &message.data)
}

/// The same message, as the broker gives it to a client of AMQP 1.0, for which alone CloudEvents have a binding. The other
/// reader has not acknowledged it. `address` is the queue's in that broker's manner.
async fn amqp1(url: &str, address: &str) -> Wire {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/amqp1_reader.py");
    let url = url.trim_end_matches("/%2f");
    let mut command = tokio::process::Command::new("/usr/bin/python3");
    let read = sdk::output_of(command.arg(script).args([url, address])).await;
    let read: Read = serde_json::from_slice(&read).unwrap();
    Wire { binding: "amqp", headers: read.headers, content_type: read.content_type, body: read.body }
}

#[derive(Deserialize)]
struct Read {
    headers: BTreeMap<String, String>,
    content_type: String,
    body: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_sdk_reads_them_from_every_broker_in_both_modes() {
    let [servers, nats_url, amqp_url] = [brokers::kafka(), brokers::nats(), brokers::amqp()];
    // Debian's RabbitMQ (3.10) hands no headers on to AMQP 1.0, where binary mode has its attributes: RabbitMQ does from 4.0
    // on, which is another system to install.
    let newer = if soak() { Some(Broker::start(Kind::RabbitMq4).await) } else { None };
    let name = unique("ce");
    for topic in ["s", "b"] {
        consume::create_topic(&servers, &format!("{name}-{topic}"), 1).await;
    }
    let mut sinks = String::from("  lines: {type: file, path: ./events.ndjson, format: cloudevents}\n");
    for (mode, format) in [("s", "cloudevents"), ("b", "cloudevents-binary")] {
        let own = format!("{name}-{mode}");
        sinks += &format!(
            "  kafka_{mode}: {{type: kafka, brokers: [\"{servers}\"], topic: {own}, format: {format}}}\n  \
             nats_{mode}: {{type: nats, servers: [\"{nats_url}\"], subject: \"{own}.e\", stream: {{name: {own}, subjects: [\"{own}.>\"], create: true}}, format: {format}}}\n  \
             amqp_{mode}: {{type: amqp, url: \"{amqp_url}\", exchange: {own}, declare: {{exchange_type: topic, queue: {own}}}, format: {format}}}\n"
        );
        if let Some(newer) = &newer {
            let url = newer.address();
            sinks += &format!(
                "  newer_{mode}: {{type: amqp, url: \"{url}\", exchange: {own}, declare: {{exchange_type: topic, queue: {own}}}, format: {format}}}\n"
            );
        }
    }
    let home = Home::new(&format!("sources: {{acme: {{webhook: {{secrets: [\"{SECRET}\"]}}}}}}\nsinks:\n{sinks}"));
    let daemon = home.start().await;
    // Not plain ASCII, and with what header values must not hold.
    let (id, sandbox) = ("ü \"1\" 100%", "sbx-é");
    let body = load::body(id, sandbox, 0, true);
    let (status, answer) = load::post(&reqwest_client(), &daemon.webhook(), SECRET, &body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    for sink in ["lines", "kafka_s", "kafka_b", "nats_s", "nats_b", "amqp_s", "amqp_b"] {
        daemon.until_settled(sink, 1).await;
    }
    if newer.is_some() {
        daemon.until_settled("newer_s", 1).await;
        daemon.until_settled("newer_b", 1).await;
    }

    let mut wires = Vec::new();
    for mode in ["s", "b"] {
        let own = format!("{name}-{mode}");
        let (kafka_servers, topic) = (servers.clone(), own.clone());
        wires.push(tokio::task::spawn_blocking(move || kafka(&kafka_servers, &topic)).await.unwrap());
        wires.push(nats(&nats_url, &own).await);
        wires.push(amqp(&amqp_url, &own).await);
        if mode == "s" {
            wires.push(amqp1(&amqp_url, &format!("/amq/queue/{own}")).await);
        }
        if let Some(newer) = &newer {
            wires.push(amqp1(&newer.address(), &format!("/queues/{own}")).await);
        }
    }
    let structured = wires.len().div_ceil(2);
    let line = std::fs::read(home.path().join("events.ndjson")).unwrap();
    wires.push(Wire::new("file", BTreeMap::new(), Some("application/cloudevents+json".to_owned()), &line));
    for (place, wire) in wires.iter().enumerate() {
        let is_structured = wire.content_type.starts_with("application/cloudevents+json");
        let expected = place < structured || wire.binding == "file";
        assert_eq!(is_structured, expected, "{}: {}", wire.binding, wire.content_type);
    }

    let messages = home.path().join("messages.json");
    std::fs::write(&messages, serde_json::to_vec(&wires).unwrap()).unwrap();
    let read = sdk::output_of(sdk::script("cloudevents_reader.py").await.arg(messages)).await;
    let read: Vec<Value> = serde_json::from_slice(&read).unwrap();
    assert_eq!(read.len(), wires.len());
    let sent: Value = serde_json::from_str(&body).unwrap();
    for (event, wire) in read.iter().zip(&wires) {
        let attributes = &event["attributes"];
        let time: jiff::Timestamp = sent["timestamp"].as_str().unwrap().parse().unwrap();
        let expected = json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("/e2b/teams/{}", sent["sandbox_team_id"].as_str().unwrap()),
            "type": format!("dev.e2b.{}", sent["type"].as_str().unwrap()),
            "subject": sandbox,
            "datacontenttype": "application/json",
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&attributes[name], value, "{} {name}", wire.binding);
        }
        // Python's spelling of the same moment, to the microsecond.
        let read_time: jiff::Timestamp = attributes["time"].as_str().unwrap().replacen(' ', "T", 1).parse().unwrap();
        assert_eq!(read_time.as_microsecond(), time.as_microsecond(), "{}", wire.binding);
        assert_eq!(event["data"]["id"], id, "{}", wire.binding);
        assert_eq!(event["data"]["event_data"], sent["event_data"], "{}", wire.binding);
        assert_eq!(event["data"]["relay"]["source"], "acme", "{}", wire.binding);
    }
}
