//! Independent consumers: each broker's own client, reading everything that is there.
//!
//! Records come in the order in which the consumer got them; across partitions that is no order. Of each is read what
//! `T` wants of it.
#![cfg(test)]

use super::daemon::PATIENCE;
use futures_util::StreamExt;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

pub(crate) async fn create_topic(brokers: &str, topic: &str, partitions: i32) {
    create_topic_with(brokers, topic, partitions, &[]).await;
}

pub(crate) async fn create_topic_with(brokers: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) {
    let new = NewTopic { config: config.to_vec(), ..NewTopic::new(topic, partitions, TopicReplication::Fixed(1)) };
    create(brokers, new).await.unwrap();
}

/// The topic for the positions of sinks with `exactly_once`, unless another test was first.
pub(crate) async fn create_positions(brokers: &str) {
    let new = NewTopic::new("e2b-relay.positions", 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    match create(brokers, new).await {
        Ok(_) | Err(RDKafkaErrorCode::TopicAlreadyExists) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Waits until its name is free.
pub(crate) async fn remove_topic(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    admin.delete_topics(&[topic], &options).await.unwrap().remove(0).unwrap();
}

async fn create(brokers: &str, new: NewTopic<'_>) -> Result<String, RDKafkaErrorCode> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let mut results = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    results.remove(0).map_err(|(_, code)| code)
}

/// Everything that is in a topic now and committed, keys and payloads.
pub(crate) async fn kafka_committed(brokers: &str, topic: &str) -> Vec<(String, Vec<u8>)> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &brokers).set("group.id", "tests").set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            assignment.add_partition_offset(&topic, partition.id(), Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (mut records, mut ends) = (Vec::new(), BTreeSet::new());
        while ends.len() < assignment.count() {
            match consumer.poll(PATIENCE).expect("no end of a partition") {
                Ok(message) => {
                    let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
                    records.push((key, message.payload().unwrap().to_vec()));
                }
                Err(KafkaError::PartitionEOF(partition)) => drop(ends.insert(partition)),
                Err(error) => panic!("{error}"),
            }
        }
        records
    })
    .await
    .unwrap()
}

/// The topics whose names begin so.
pub(crate) fn kafka_topics(brokers: &str, prefix: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
    let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Everything that is in a topic now.
pub(crate) async fn kafka<T: DeserializeOwned + Send + 'static>(brokers: &str, topic: &str) -> Vec<T> {
    let messages = kafka_with_keys(brokers, topic).await;
    messages.into_iter().map(|(_, record)| record).collect()
}

/// Everything that is in a topic now, each with its key.
pub(crate) async fn kafka_with_keys<T: DeserializeOwned>(brokers: &str, topic: &str) -> Vec<(String, T)> {
    read(kafka_bytes(brokers, topic).await)
}

fn read<T: DeserializeOwned>(messages: Vec<(String, Vec<u8>)>) -> Vec<(String, T)> {
    messages.into_iter().map(|(key, bytes)| (key, serde_json::from_slice(&bytes).unwrap())).collect()
}

/// The same as it came.
pub(crate) async fn kafka_bytes(brokers: &str, topic: &str) -> Vec<(String, Vec<u8>)> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &brokers).set("group.id", "tests").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).unwrap();
        let mut assignment = TopicPartitionList::new();
        let mut left = 0;
        for partition in metadata.topics()[0].partitions() {
            assignment.add_partition_offset(&topic, partition.id(), Offset::Beginning).unwrap();
            let (low, high) = consumer.fetch_watermarks(&topic, partition.id(), PATIENCE).unwrap();
            left += high - low;
        }
        consumer.assign(&assignment).unwrap();
        let mut messages = Vec::new();
        while messages.len() < left as usize {
            let message = consumer.poll(PATIENCE).expect("the topic ends early").unwrap();
            let key = String::from_utf8(message.key().unwrap_or_default().to_vec()).unwrap();
            messages.push((key, message.payload().unwrap().to_vec()));
        }
        messages
    })
    .await
    .unwrap()
}

pub(crate) async fn jetstream_context(url: &str) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(nats_client(url).await)
}

pub(crate) async fn nats_client(url: &str) -> async_nats::Client {
    let address: async_nats::ServerAddr = url.parse().unwrap();
    let (user, password) = (address.username().unwrap().to_owned(), address.password().unwrap().to_owned());
    async_nats::ConnectOptions::with_user_and_password(user, password).connect(address).await.unwrap()
}

/// Everything that is in a stream now.
pub(crate) async fn jetstream<T: DeserializeOwned>(url: &str, stream: &str) -> Vec<T> {
    read(jetstream_bytes(url, stream).await).into_iter().map(|(_, record)| record).collect()
}

/// The same as it came, each with its subject.
pub(crate) async fn jetstream_bytes(url: &str, stream: &str) -> Vec<(String, Vec<u8>)> {
    let context = jetstream_context(url).await;
    let mut stream = context.get_stream(stream).await.unwrap();
    let count = stream.info().await.unwrap().state.messages as usize;
    let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        let next = tokio::time::timeout(PATIENCE, messages.next()).await.expect("the stream ends early");
        let message = next.unwrap().unwrap();
        records.push((message.subject.to_string(), message.payload.to_vec()));
    }
    records
}

/// Everything that is in a queue now; it is empty afterwards.
pub(crate) async fn amqp<T: DeserializeOwned>(url: &str, queue: &str) -> Vec<T> {
    let messages = amqp_with_keys(url, queue).await;
    messages.into_iter().map(|(_, record)| record).collect()
}

/// Everything that is in a queue now, each with its routing key; it is empty afterwards.
pub(crate) async fn amqp_with_keys<T: DeserializeOwned>(url: &str, queue: &str) -> Vec<(String, T)> {
    read(amqp_bytes(url, queue).await)
}

/// The same as it came.
pub(crate) async fn amqp_bytes(url: &str, queue: &str) -> Vec<(String, Vec<u8>)> {
    use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
    use lapin::types::FieldTable;
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
    let count = declared.message_count() as usize;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer =
        channel.basic_consume(queue.into(), "tests".into(), options, FieldTable::default()).await.unwrap();
    let mut messages = Vec::new();
    while messages.len() < count {
        let next = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("the queue ends early");
        let message = next.unwrap().unwrap();
        messages.push((message.routing_key.to_string(), message.data));
    }
    messages
}

/// Every line of a file.
pub(crate) fn file<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is torn");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Long enough for a broker to be up again.
pub(crate) const OUTAGE: Duration = Duration::from_secs(20);
