//! The Kafka sink: errors with librdkafka's mock cluster, the road to a real broker and back with an independent consumer.

mod choices;
mod oauth;
mod security;
mod transactions;

use crate::support::brokers::{kafka, unique};
use bytes::Bytes;
use e2b_relay::route::Outgoing;
use e2b_relay::sink::kafka::{Kafka, Properties, Settings};
use e2b_relay::sink::{Reason, Scope, SendError, Sink};
use futures_util::future::join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PARTITIONS: i32 = 4;
/// For what takes milliseconds, or a few seconds where librdkafka has its own pace. A process that another test starts while
/// a mock broker has connections has copies of them, and only with its end does a client see that broker go: daemons live
/// for half a minute, and brokers give such copies back (tests/brokers/common.sh).
const PATIENCE: Duration = Duration::from_secs(120);

/// The `number`-th record of a sandbox.
fn record(topic: &str, sandbox: &str, number: usize) -> Arc<Outgoing> {
    sized(topic, sandbox, number, 0)
}

fn sized(topic: &str, sandbox: &str, number: usize, padding: usize) -> Arc<Outgoing> {
    Arc::new(Outgoing {
        sequence: number as u64,
        id: format!("{sandbox}-{number}"),
        kind: "sandbox.lifecycle.created".to_owned(),
        sandbox_id: sandbox.to_owned(),
        address: topic.to_owned(),
        key: sandbox.to_owned(),
        payload: Bytes::from(format!("{number} {}", "x".repeat(padding))),
        content_type: "application/json",
        unix_seconds: 0,
        headers: vec![("further".to_owned(), "header".to_owned())],
    })
}

fn settings(brokers: &str, topic: &str, librdkafka: &[(&str, &str)]) -> Settings {
    Settings {
        brokers: brokers.split(',').map(str::to_owned).collect(),
        topic: topic.to_owned(),
        librdkafka: Properties::from_iter(librdkafka.iter().copied()),
        ..Settings::default()
    }
}

/// A cluster of three, a topic, and a sink for it.
fn mocked() -> (MockCluster<'static, DefaultProducerContext>, &'static str, Kafka) {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic("mock", PARTITIONS, 3).unwrap();
    let sink = Kafka::new(&settings(&cluster.bootstrap_servers(), "mock", &[])).unwrap();
    (cluster, "mock", sink)
}

/// Sends all at once, as `deliver` does.
async fn send(sink: &Kafka, records: &[Arc<Outgoing>]) -> Vec<Result<(), SendError>> {
    let sent: Vec<_> = records.iter().map(|record| sink.send(Arc::clone(record))).collect();
    tokio::time::timeout(PATIENCE, join_all(sent)).await.expect("records without a report")
}

/// Sends the same record as long as it fails in a way that may heal.
async fn send_until_confirmed(sink: &Kafka, record: &Arc<Outgoing>) {
    let confirmed = async {
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            match sink.send(Arc::clone(record)).await {
                Ok(()) => return,
                Err(SendError::Retry { .. }) => {}
                Err(error) => panic!("will never heal: {error:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, confirmed).await.expect("it did not heal");
}

async fn trouble(sink: &Kafka) -> (Reason, String) {
    let seen = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            if let Some(trouble) = sink.trouble() {
                return trouble;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("no trouble was seen")
}

fn retry_reason(outcome: &Result<(), SendError>) -> Reason {
    match outcome {
        Err(SendError::Retry { scope: Scope::Sink, reason, .. }) => *reason,
        other => panic!("not an error that halts the sink: {other:?}"),
    }
}

/// What an independent consumer finds in the topic.
struct Found {
    key: String,
    payload: String,
    partition: i32,
    headers: BTreeMap<String, String>,
}

/// Reads the topic from its beginning to what the brokers call its end, which is exact: nothing is compacted.
async fn read(brokers: &str, topic: &str) -> Vec<Found> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "independent").create().unwrap();
        let mut from_the_beginning = TopicPartitionList::new();
        let mut expected = 0;
        for partition in 0..PARTITIONS {
            from_the_beginning.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
            let (low, high) = consumer.fetch_watermarks(&topic, partition, PATIENCE).unwrap();
            expected += usize::try_from(high - low).unwrap();
        }
        consumer.assign(&from_the_beginning).unwrap();
        (0..expected)
            .map(|_| {
                let message = consumer.poll(PATIENCE).expect("fewer records than the brokers have").unwrap();
                let headers = message.headers().expect("no headers").iter();
                Found {
                    key: String::from_utf8(message.key().unwrap().to_vec()).unwrap(),
                    payload: String::from_utf8(message.payload().unwrap().to_vec()).unwrap(),
                    partition: message.partition(),
                    headers: headers
                        .map(|header| {
                            (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap())
                        })
                        .collect(),
                }
            })
            .collect()
    })
    .await
    .unwrap()
}

/// Each record of each sandbox once, in order, all of a sandbox in one partition.
fn assert_complete(found: &[Found], sandboxes: usize, each: usize) {
    let mut numbers = BTreeMap::<&str, Vec<usize>>::new();
    let mut partitions = BTreeMap::<&str, i32>::new();
    for found in found {
        numbers.entry(&found.key).or_default().push(found.payload.trim().parse().unwrap());
        assert_eq!(*partitions.entry(&found.key).or_insert(found.partition), found.partition, "{}", found.key);
    }
    assert_eq!(numbers.len(), sandboxes);
    for (sandbox, numbers) in numbers {
        assert!(numbers.iter().copied().eq(0..each), "{sandbox}: {numbers:?}");
    }
}

/// `each` records of each sandbox, interleaved.
fn interleaved(topic: &str, sandboxes: usize, numbers: std::ops::Range<usize>) -> Vec<Arc<Outgoing>> {
    numbers
        .flat_map(|number| (0..sandboxes).map(move |sandbox| (format!("sandbox-{sandbox}"), number)))
        .map(|(sandbox, number)| record(topic, &sandbox, number))
        .collect()
}

#[tokio::test]
async fn a_leader_that_moves_is_the_clients_own_business() {
    let (cluster, topic, sink) = mocked();
    let not_leader = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    cluster.request_errors(RDKafkaApiKey::Produce, &[not_leader; 3]);
    for outcome in send(&sink, &interleaved(topic, 10, 0..20)).await {
        outcome.unwrap();
    }
    assert_complete(&read(&cluster.bootstrap_servers(), topic).await, 10, 20);
}

#[tokio::test]
async fn records_sent_while_the_brokers_are_down_arrive_once_and_in_order() {
    let (cluster, topic, sink) = mocked();
    for outcome in send(&sink, &interleaved(topic, 10, 0..10)).await {
        outcome.unwrap();
    }
    assert_eq!(sink.trouble(), None);
    cluster.broker_down(-1).unwrap();
    let waiting: Vec<_> = interleaved(topic, 10, 10..30).into_iter().map(|record| sink.send(record)).collect();
    let (reason, text) = trouble(&sink).await;
    assert_eq!(reason, Reason::Connect, "{text}");
    cluster.broker_up(-1).unwrap();
    for outcome in tokio::time::timeout(PATIENCE, join_all(waiting)).await.unwrap() {
        outcome.unwrap();
    }
    assert_eq!(sink.trouble(), None, "a confirmation ends the trouble");
    assert_complete(&read(&cluster.bootstrap_servers(), topic).await, 10, 30);
}

#[tokio::test]
async fn a_refused_batch_is_sent_again_one_by_one_and_only_the_guilty_record_rejected() {
    let (cluster, topic, sink) = mocked();
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // The idempotent producer's first request would be the one of a single record, sent before the others were there.
    send_until_confirmed(&sink, &record(topic, "sandbox-0", 0)).await;

    cluster.request_errors(RDKafkaApiKey::Produce, &[too_large]);
    let records: Vec<_> = (1..6).map(|number| record(topic, "sandbox-0", number)).collect();
    let outcomes = send(&sink, &records).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(()) || retry_reason(outcome) == Reason::TooLarge));
    let first_failed = outcomes.iter().position(Result::is_err).expect("no batch was refused");
    let again = &records[first_failed..];
    assert!(outcomes[first_failed..].iter().all(Result::is_err), "{outcomes:?}");

    // Now alone, so that a refusal is about that record.
    cluster.request_errors(RDKafkaApiKey::Produce, &[too_large]);
    let outcomes = send(&sink, again).await;
    assert!(
        matches!(&outcomes[0], Err(SendError::Reject { reason: Reason::TooLarge, .. })),
        "the first request was refused: {outcomes:?}"
    );
    assert!(outcomes[1..].iter().all(Result::is_ok), "{outcomes:?}");
}

#[tokio::test]
async fn a_record_that_fills_a_batch_alone_is_rejected_at_once() {
    let (cluster, topic, sink) = mocked();
    send_until_confirmed(&sink, &record(topic, "sandbox-0", 0)).await;
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let outcomes = send(&sink, &[sized(topic, "sandbox-0", 1, 200_000)]).await;
    assert!(matches!(&outcomes[0], Err(SendError::Reject { reason: Reason::TooLarge, .. })), "{outcomes:?}");

    // Larger than librdkafka may send at all: no request is made, and the next record is not held up.
    let limited = settings(&cluster.bootstrap_servers(), topic, &[("message.max.bytes", "10000")]);
    let sink = Kafka::new(&limited).unwrap();
    let outcomes = send(&sink, &[sized(topic, "sandbox-0", 2, 20_000), record(topic, "sandbox-0", 3)]).await;
    assert!(matches!(&outcomes[0], Err(SendError::Reject { reason: Reason::TooLarge, .. })), "{outcomes:?}");
    assert_eq!(outcomes[1], Ok(()));
}

#[tokio::test]
async fn missing_rights_halt_the_sink_and_heal() {
    let (cluster, topic, sink) = mocked();
    send_until_confirmed(&sink, &record(topic, "sandbox-0", 0)).await;
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::Produce, &[denied]);
    let outcomes = send(&sink, &[record(topic, "sandbox-0", 1)]).await;
    assert_eq!(retry_reason(&outcomes[0]), Reason::Auth);
    send_until_confirmed(&sink, &record(topic, "sandbox-0", 1)).await;
    assert_complete(&read(&cluster.bootstrap_servers(), topic).await, 1, 2);
}

#[tokio::test]
async fn after_a_fatal_error_everything_is_reported_and_a_new_producer_goes_on() {
    let (cluster, topic, sink) = mocked();
    // A producer that may not be idempotent is dead: no epoch can be had.
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied]);
    let records = interleaved(topic, 3, 0..5);
    for outcome in send(&sink, &records).await {
        retry_reason(&outcome);
    }
    for outcome in send(&sink, &records).await {
        outcome.unwrap();
    }
    assert_complete(&read(&cluster.bootstrap_servers(), topic).await, 3, 5);
}

#[tokio::test]
async fn a_topic_chosen_by_a_record_never_halts_the_sink() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("e2b.known", PARTITIONS, 1).unwrap();
    cluster.topic_error("e2b.foreign", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    cluster.topic_error("e2b.unknown", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let brokers = cluster.bootstrap_servers();
    let sink = Kafka::new(&settings(&brokers, "e2b.{{ event_data.x }}", &[])).unwrap();
    let address = |topic: &str| record(topic, "sandbox-0", 0);
    let records = ["e2b.known", "e2b.foreign", "e2b.unknown", "e2b.not/one", "e2b.known"].map(address);
    let outcomes = send(&sink, &records).await;
    assert_eq!(outcomes[0], Ok(()));
    assert!(matches!(&outcomes[1], Err(SendError::Reject { reason: Reason::Auth, .. })), "{outcomes:?}");
    assert!(matches!(&outcomes[2], Err(SendError::Reject { reason: Reason::Unroutable, .. })), "{outcomes:?}");
    assert!(matches!(&outcomes[3], Err(SendError::Reject { reason: Reason::Template, .. })), "{outcomes:?}");
    assert_eq!(outcomes[4], Ok(()));
}

#[tokio::test]
async fn brokers_that_cannot_be_reached_are_named_with_the_clients_own_reason() {
    // Bound, but not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let sink = Kafka::new(&settings(&address, "e2b.events", &[])).unwrap();
    match sink.probe().await {
        Err(SendError::Retry { scope: Scope::Sink, reason: Reason::Connect, message }) => {
            assert!(message.contains(&address) && message.contains("Connection refused"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let waiting = sink.send(record("e2b.events", "sandbox-0", 0));
    assert_eq!(trouble(&sink).await.0, Reason::Connect);
    sink.close().await;
    assert_eq!(retry_reason(&waiting.await), Reason::Connect, "what is unconfirmed at the end stays so");
    assert_eq!(retry_reason(&sink.send(record("e2b.events", "sandbox-0", 1)).await), Reason::Other);
}

async fn create_topic(brokers: &str, topic: &str, config: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let mut new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    for (name, value) in config {
        new = new.set(name, value);
    }
    for created in admin.create_topics([&new], &AdminOptions::new()).await.unwrap() {
        created.unwrap();
    }
}

#[tokio::test]
async fn a_real_broker_has_each_record_once_with_key_and_headers_in_order() {
    let (brokers, topic) = (kafka(), unique("sink-kafka"));
    create_topic(&brokers, &topic, &[]).await;
    let sink = Kafka::new(&settings(&brokers, &topic, &[])).unwrap();
    assert_eq!(sink.probe().await, Ok(format!("1 broker, topic {topic} with {PARTITIONS} partitions")));
    for outcome in send(&sink, &interleaved(&topic, 100, 0..100)).await {
        outcome.unwrap();
    }
    sink.close().await;
    let found = read(&brokers, &topic).await;
    assert_complete(&found, 100, 100);
    for found in found {
        let id = format!("{}-{}", found.key, found.payload.trim());
        let expected = [
            ("e2b-event-id", id.as_str()),
            ("e2b-event-type", "sandbox.lifecycle.created"),
            ("content-type", "application/json"),
            ("further", "header"),
        ];
        assert_eq!(found.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}

#[tokio::test]
async fn a_real_topic_that_is_missing_is_said_soon_and_used_once_it_is_there() {
    let (brokers, topic) = (kafka(), unique("sink-kafka-late"));
    let sink = Kafka::new(&settings(&brokers, &topic, &[])).unwrap();
    match sink.probe().await {
        Err(SendError::Retry { scope: Scope::Sink, reason: Reason::Unroutable, message }) => {
            assert!(message.contains(&topic), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let outcomes = send(&sink, &interleaved(&topic, 2, 0..3)).await;
    assert!(outcomes.iter().all(|outcome| retry_reason(outcome) == Reason::Unroutable), "{outcomes:?}");
    create_topic(&brokers, &topic, &[]).await;
    send_until_confirmed(&sink, &record(&topic, "sandbox-0", 0)).await;
    for outcome in send(&sink, &interleaved(&topic, 1, 1..3)).await {
        outcome.unwrap();
    }
    assert_complete(&read(&brokers, &topic).await, 1, 3);
}

#[tokio::test]
async fn a_real_topic_with_a_small_limit_takes_everything_that_fits() {
    let (brokers, topic) = (kafka(), unique("sink-kafka-small"));
    create_topic(&brokers, &topic, &[("max.message.bytes", "3000")]).await;
    let settings = Settings {
        // So that the size on the wire is the record's.
        compression: e2b_relay::sink::kafka::Compression::None,
        ..settings(&brokers, &topic, &[])
    };
    let sink = Kafka::new(&settings).unwrap();
    let mut unsent: Vec<_> = (0..20).map(|number| sized(&topic, "sandbox-0", number, 1_000)).collect();
    unsent.insert(7, sized(&topic, "sandbox-0", 1_000, 4_000));
    let mut rejected = Vec::new();
    for _ in 0..2 {
        let outcomes = send(&sink, &unsent).await;
        let mut left = Vec::new();
        for (record, outcome) in unsent.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => {}
                Err(SendError::Retry { reason: Reason::TooLarge, .. }) => left.push(record),
                Err(SendError::Reject { reason: Reason::TooLarge, .. }) => rejected.push(record.sequence),
                Err(other) => panic!("{other:?}"),
            }
        }
        unsent = left;
    }
    assert!(unsent.is_empty(), "not even one by one: {unsent:?}");
    assert_eq!(rejected, [1_000]);
    assert_eq!(read(&brokers, &topic).await.len(), 20);
}
