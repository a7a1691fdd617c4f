//! The AMQP sink against a real RabbitMQ, read back by a client of the test's own.

mod operators;
mod secured;
mod unroutable;

use crate::support::brokers::{Broker, Kind, amqp, unique};
use crate::support::proxy::{Holds, Proxy};
use crate::support::sending::{PATIENCE, assert_each_once_in_order, deliver_all, outcome, record, records};
use crate::support::tls::Certificates;
use e2b_relay::route::Outgoing;
use e2b_relay::secret::Secret;
use e2b_relay::sink::amqp::{Amqp, Declare, QueueType, Settings, Unroutable};
use e2b_relay::sink::{Order, Reason, Scope, SendError, Sink};
use futures_util::future::join_all;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// No test is to wait for it.
const NEVER: Duration = Duration::from_secs(3600);

/// The method `basic.publish` (class 60, method 40) at the beginning of a frame's payload.
const PUBLISH: &[u8] = &[0, 60, 0, 40];

/// `amqp://user:password@host:port/vhost` → the same by way of `address`.
fn by_way_of(url: &str, scheme: &str, address: impl std::fmt::Display) -> String {
    let (login, _) = url.rsplit_once('@').expect("a URL with a user");
    let login = login.split_once("://").expect("a URL").1;
    format!("{scheme}://{login}@{address}/%2f")
}

fn host(url: &str) -> &str {
    url.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).expect("a URL with a user and a virtual host").0
}

fn settings(url: &str) -> Settings {
    Settings { url: Secret::new(url), ..Settings::default() }
}

/// A sink to an exchange and a queue of its own, which it declares; both have the same name.
fn declaring(url: &str) -> (Settings, String) {
    let name = unique("e2b");
    let declare = Declare { queue: name.clone(), ..Declare::default() };
    (Settings { exchange: name.clone(), declare: Some(declare), ..settings(url) }, name)
}

fn sink(settings: Settings) -> Amqp {
    Amqp::new(settings).expect("valid settings")
}

/// A channel that shares nothing with the sink; the connection goes with it.
async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker is up");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// Takes all that is in the queue, in its order.
async fn taken(url: &str, queue: &str) -> Vec<BasicGetMessage> {
    let (_connection, channel) = channel(url).await;
    let mut messages = Vec::new();
    while let Some(message) =
        channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.expect("the queue")
    {
        messages.push(message);
    }
    messages
}

fn id(message: &BasicGetMessage) -> String {
    message.properties.message_id().as_ref().expect("an id").to_string()
}

async fn taken_ids(url: &str, queue: &str) -> Vec<String> {
    taken(url, queue).await.iter().map(id).collect()
}

#[tokio::test]
async fn an_id_is_told_as_it_is_and_one_that_the_protocol_cannot_carry_is_a_dead_letter() {
    let url = amqp();
    let (settings, name) = declaring(&url);
    let sink = sink(settings);
    let identified = |number, id: &str| {
        Arc::new(Outgoing { id: id.to_owned(), kind: format!("{id}!"), ..(*record("key", "sbx", number)).clone() })
    };
    // 254 bytes, and with the type's mark 255.
    let longest = "\u{e4}".repeat(127);
    let ids = ["a", " a", "  a ", "a\tb", "%20a", "\u{e4}", &longest];
    for (number, id) in ids.into_iter().enumerate() {
        outcome(sink.send(identified(number, id))).await.expect("confirmed");
    }
    // 255 characters are taken in; 510 bytes are more than a short string holds.
    for id in ["\u{e4}".repeat(128), "\u{e4}".repeat(255)] {
        let sent = outcome(sink.send(identified(0, &id))).await;
        assert!(matches!(sent, Err(SendError::Reject { reason: Reason::TooLarge, .. })), "{sent:?}");
    }
    let long_key = Outgoing { address: "k".repeat(256), ..(*record("key", "sbx", 8)).clone() };
    let sent = outcome(sink.send(Arc::new(long_key))).await;
    assert!(matches!(sent, Err(SendError::Reject { .. })), "{sent:?}");
    outcome(sink.send(identified(9, "last"))).await.expect("the connection is unharmed");
    let messages = taken(&url, &name).await;
    let told: Vec<_> = messages
        .iter()
        .map(|message| {
            let kind = message.properties.kind().as_ref().expect("a type").to_string();
            (id(message), kind)
        })
        .collect();
    let expected: Vec<_> = ids.into_iter().chain(["last"]).map(|id| (id.to_owned(), format!("{id}!"))).collect();
    assert_eq!(told, expected);
}

/// Without the second and later copies of an id.
fn first_copies(ids: &[String]) -> Vec<String> {
    let mut known = BTreeSet::new();
    ids.iter().filter(|id| known.insert((*id).clone())).cloned().collect()
}

#[track_caller]
fn assert_retry(outcome: &Result<(), SendError>, expected_scope: Scope, expected_reason: Reason) -> String {
    let Err(SendError::Retry { scope, reason, message }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((*scope, *reason), (expected_scope, expected_reason), "{message}");
    message.clone()
}

#[tokio::test]
async fn a_queue_holds_each_record_once_with_the_contracts_properties() {
    let url = amqp();
    for queue_type in [None, Some(QueueType::Classic), Some(QueueType::Quorum)] {
        let (mut settings, name) = declaring(&url);
        settings.declare.as_mut().expect("declaring").queue_type = queue_type;
        let sink = sink(settings);
        assert_eq!(sink.order(), Order::OnePerSandbox);
        let probed = sink.probe().await.expect("the broker is there");
        let missing = format!(", no TLS, as relay, exchange {name} to be declared, queue {name} to be declared");
        assert!(probed.starts_with("RabbitMQ ") && probed.ends_with(&missing), "{probed}");
        let records = records(|sandbox| format!("key.{sandbox}"), 50, 10);
        assert_eq!(deliver_all(&sink, &records).await, records.len());
        let probed = sink.probe().await.expect("the broker is there");
        assert!(probed.ends_with(&format!(", exchange {name}, queue {name} (500 messages)")), "{probed}");

        let messages = taken(&url, &name).await;
        let first = messages.iter().find(|message| id(message) == "sbx0-0").expect("the first record");
        assert_eq!(first.routing_key.as_str(), "key.sbx0");
        assert_eq!(first.data, br#"{"id":"sbx0-0"}"#);
        let properties = &first.properties;
        assert_eq!(properties.kind().as_ref().expect("a type").as_str(), "sandbox.lifecycle.created");
        assert_eq!(properties.content_type().as_ref().expect("a content type").as_str(), "application/json");
        assert_eq!(properties.timestamp(), &Some(1_754_513_976));
        assert_eq!(properties.delivery_mode(), &Some(2));
        let further = properties.headers().as_ref().and_then(|headers| headers.inner().get("x-further"));
        assert_eq!(further, Some(&AMQPValue::LongString("kept".into())));
        assert_each_once_in_order(&messages.iter().map(id).collect::<Vec<_>>(), &records);

        sink.close().await;
        assert_retry(&sink.send(records[0].clone()).await, Scope::Sink, Reason::Connect);
    }
}

#[tokio::test]
async fn an_unroutable_record_is_what_the_settings_say() {
    let url = amqp();
    for unroutable in [Unroutable::DeadLetter, Unroutable::Drop, Unroutable::Halt] {
        let (mut settings, name) = declaring(&url);
        settings.declare.as_mut().expect("declaring").binding_key = "key.#".to_owned();
        let sink = sink(Settings { unroutable, ..settings });
        let sent = outcome(sink.send(record("elsewhere", "sbx", 0))).await;
        match (unroutable, &sent) {
            (Unroutable::DeadLetter, Err(SendError::Reject { reason: Reason::Unroutable, .. }))
            | (Unroutable::Drop, Err(SendError::Drop { reason: Reason::Unroutable, .. }))
            | (Unroutable::Halt, Err(SendError::Retry { scope: Scope::Sink, reason: Reason::Unroutable, .. })) => {}
            other => panic!("{other:?}"),
        }
        let message = sent.expect_err("unroutable").to_string();
        assert!(message.contains(&name) && message.contains("elsewhere"), "{message}");
        outcome(sink.send(record("key.x", "sbx", 1))).await.expect("delivered");
        assert_eq!(taken_ids(&url, &name).await, ["sbx-1"]);
    }
}

/// The broker may confirm many at once and a returned message names no confirmation: none may be taken for another.
#[tokio::test]
async fn among_many_side_by_side_exactly_the_unroutable_ones_are_unroutable() {
    let url = amqp();
    let (mut settings, name) = declaring(&url);
    let declare = settings.declare.as_mut().expect("declaring");
    (declare.binding_key, declare.queue_type) = ("key.#".to_owned(), Some(QueueType::Classic));
    let sink = sink(settings);
    let records: Vec<_> = (0..6000)
        .map(|number| record(if number % 3 == 0 { "elsewhere" } else { "key.x" }, &format!("sbx{number}"), 0))
        .collect();
    let outcomes = join_all(records.iter().map(|record| outcome(sink.send(record.clone())))).await;
    for (record, sent) in records.iter().zip(&outcomes) {
        match record.address.as_str() {
            "elsewhere" => {
                assert!(matches!(sent, Err(SendError::Reject { reason: Reason::Unroutable, .. })), "{sent:?}");
            }
            _ => assert_eq!(*sent, Ok(()), "{}", record.id),
        }
    }
    let routable: Vec<_> = records.into_iter().filter(|record| record.address == "key.x").collect();
    assert_each_once_in_order(&taken_ids(&url, &name).await, &routable);
}

#[tokio::test]
async fn a_record_that_the_broker_refuses_is_alone_in_it() {
    let url = amqp();
    let (settings, name) = declaring(&url);
    let sink = sink(settings);
    let mut records = records(|sandbox| format!("key.{sandbox}"), 100, 1);
    // RabbitMQ takes `CC` for further routing keys, wants a list, and closes the channel with 406 on anything else.
    let hostile = Outgoing { headers: vec![("CC".to_owned(), "x".to_owned())], ..(*records[50]).clone() };
    records[50] = Arc::new(hostile);
    let outcomes = join_all(records.iter().map(|record| outcome(sink.send(record.clone())))).await;
    for (number, sent) in outcomes.iter().enumerate() {
        match number {
            50 => assert!(matches!(sent, Err(SendError::Reject { reason: Reason::Rejected, .. })), "{sent:?}"),
            _ => assert_eq!(*sent, Ok(()), "{number}"),
        }
    }
    assert_eq!(taken(&url, &name).await.len(), 99);
}

#[tokio::test]
async fn a_queue_that_is_full_is_tried_again() {
    let url = amqp();
    let (settings, name) = declaring(&url);
    let (_connection, channel) = channel(&url).await;
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongInt(1));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), durable, full).await.expect("declared");
    // The default exchange routes to the queue that the key names.
    let sink = sink(Settings { exchange: String::new(), declare: None, ..settings });
    let probed = sink.probe().await.expect("the broker is there");
    assert!(probed.ends_with(", no TLS, as relay, default exchange"), "{probed}");
    outcome(sink.send(record(&name, "sbx", 0))).await.expect("the first fits");
    assert_eq!(sink.trouble(), None);
    assert_retry(&outcome(sink.send(record(&name, "sbx", 1))).await, Scope::Record, Reason::Rejected);
    assert!(sink.trouble().expect("refused").1.contains("a queue is full"));
    assert_eq!(taken_ids(&url, &name).await, ["sbx-0"]);
    outcome(sink.send(record(&name, "sbx", 1))).await.expect("there is room again");
    assert_eq!(sink.trouble(), None);
}

#[tokio::test]
async fn a_missing_exchange_halts_the_sink_and_says_what_to_do() {
    let (settings, name) = declaring(&amqp());
    let sink = sink(Settings { declare: None, ..settings });
    let message = assert_retry(&outcome(sink.send(record("key", "sbx", 0))).await, Scope::Sink, Reason::Unroutable);
    assert!(message.contains(&name) && message.contains("declare"), "{message}");
    assert!(matches!(sink.probe().await, Err(SendError::Retry { reason: Reason::Unroutable, .. })));
}

#[tokio::test]
async fn an_exchange_of_another_type_halts_the_sink() {
    let url = amqp();
    let (settings, _) = declaring(&url);
    let settings = Settings { exchange: "amq.fanout".to_owned(), ..settings };
    assert_retry(&outcome(sink(settings).send(record("key", "sbx", 0))).await, Scope::Sink, Reason::Rejected);
}

#[tokio::test]
async fn what_the_broker_does_not_allow_is_told_apart() {
    let url = amqp();
    for denied in [format!("amqp://relay:canary@{}/%2f", host(&url)), url.replace("/%2f", "/canary-vhost")] {
        let sink = sink(settings(&denied));
        let message = assert_retry(&outcome(sink.send(record("key", "sbx", 0))).await, Scope::Sink, Reason::Auth);
        assert!(!message.contains("canary@") && !message.contains("relay-secret"), "{message}");
        assert!(matches!(sink.probe().await, Err(SendError::Retry { reason: Reason::Auth, .. })));
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_at_once() {
    // Bound and dropped: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let sink = sink(settings(&format!("amqp://relay:canary@{address}/%2f")));
    let message = assert_retry(&outcome(sink.send(record("key", "sbx", 0))).await, Scope::Sink, Reason::Connect);
    assert!(message.contains(&address.to_string()) && !message.contains("canary"), "{message}");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up_and_its_socket_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("amqp://relay:canary@{}/%2f", listener.local_addr().expect("bound"));
    let sink = sink(Settings { connect_timeout: Duration::from_millis(300), ..settings(&url) });
    let sent = sink.send(record("key", "sbx", 0));
    let (mut peer, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").expect("accepted");
    assert_retry(&outcome(sent).await, Scope::Sink, Reason::Connect);
    let mut received = Vec::new();
    timeout(PATIENCE, peer.read_to_end(&mut received)).await.expect("the socket is closed").expect("in good order");
    assert_eq!(received, b"AMQP\0\0\x09\x01");
}

#[tokio::test]
async fn sends_of_many_sandboxes_run_side_by_side() {
    let url = amqp();
    let proxy = Proxy::start(host(&url), Holds::AmqpConfirmations).await;
    let (settings, name) = declaring(&by_way_of(&url, "amqp", proxy.address()));
    let sink = sink(Settings { ack_timeout: NEVER, ..settings });
    // Not one is confirmed before all 200 are there: with fewer in flight this would never end.
    proxy.hold_answers_until(PUBLISH, 200);
    let records = records(|sandbox| format!("key.{sandbox}"), 200, 1);
    for sent in join_all(records.iter().map(|record| outcome(sink.send(record.clone())))).await {
        sent.expect("confirmed");
    }
    assert_eq!(proxy.seen(), 200);
    assert_each_once_in_order(&taken_ids(&url, &name).await, &records);
}

#[tokio::test]
async fn no_more_than_the_limit_is_unconfirmed() {
    let url = amqp();
    let proxy = Proxy::start(host(&url), Holds::AmqpConfirmations).await;
    let (settings, name) = declaring(&by_way_of(&url, "amqp", proxy.address()));
    let sink = sink(Settings { ack_timeout: NEVER, max_unconfirmed: 5, ..settings });
    proxy.hold_answers_until(PUBLISH, 5);
    let records = records(|sandbox| format!("key.{sandbox}"), 100, 1);
    for sent in join_all(records.iter().map(|record| outcome(sink.send(record.clone())))).await {
        sent.expect("confirmed");
    }
    assert_eq!(proxy.most_unconfirmed(), 5);
    assert_each_once_in_order(&taken_ids(&url, &name).await, &records);
}

#[tokio::test]
async fn a_confirmation_that_does_not_come_ends_by_the_time_out() {
    let url = amqp();
    let proxy = Proxy::start(host(&url), Holds::AmqpConfirmations).await;
    let (settings, name) = declaring(&by_way_of(&url, "amqp", proxy.address()));
    let sink = sink(Settings { ack_timeout: Duration::from_millis(300), ..settings });
    deliver_all(&sink, &[record("key", "sbx", 0)]).await;
    proxy.hold_answers_until(PUBLISH, 2);
    assert_retry(&outcome(sink.send(record("key", "sbx", 1))).await, Scope::Record, Reason::Timeout);
    // The next attempt's confirmation must not be taken for the first one's: that one's channel is gone.
    proxy.cut();
    deliver_all(&sink, &[record("key", "sbx", 1)]).await;
    assert_eq!(first_copies(&taken_ids(&url, &name).await), ["sbx-0", "sbx-1"]);
}

#[tokio::test]
async fn a_cut_connection_ends_what_is_unconfirmed_at_once_and_comes_back() {
    let url = amqp();
    let proxy = Proxy::start(host(&url), Holds::AmqpConfirmations).await;
    let (settings, name) = declaring(&by_way_of(&url, "amqp", proxy.address()));
    let sink = sink(Settings { ack_timeout: NEVER, ..settings });
    proxy.hold_answers_until(PUBLISH, 101);
    let records = records(|sandbox| format!("key.{sandbox}"), 100, 1);
    let sends: Vec<_> = records.iter().map(|record| sink.send(record.clone())).collect();
    proxy.sent(100).await;
    proxy.cut();
    for sent in join_all(sends.into_iter().map(outcome)).await {
        assert_retry(&sent, Scope::Sink, Reason::Connect);
    }
    deliver_all(&sink, &records).await;
    let ids = taken_ids(&url, &name).await;
    assert_each_once_in_order(&first_copies(&ids), &records);
    assert!(ids.len() <= 200, "{} copies of 100 records", ids.len());
}

#[tokio::test]
async fn a_killed_broker_costs_nothing() {
    let broker = Broker::start(Kind::RabbitMq).await;
    let url = broker.address();
    let (settings, name) = declaring(&url);
    let sink = sink(Settings { ack_timeout: NEVER, ..settings });
    let records = records(|sandbox| format!("key.{sandbox}"), 40, 25);
    let (early, late) = records.split_at(400);
    deliver_all(&sink, early).await;
    broker.pause().await;
    let unconfirmed: Vec<_> = late[..40].iter().map(|record| sink.send(record.clone())).collect();
    broker.kill().await;
    for sent in join_all(unconfirmed.into_iter().map(outcome)).await {
        assert_retry(&sent, Scope::Sink, Reason::Connect);
    }
    tokio::join!(deliver_all(&sink, late), broker.restart());
    let ids = taken_ids(&url, &name).await;
    assert_each_once_in_order(&first_copies(&ids), &records);
    assert!(ids.len() <= records.len() + 40, "{} copies of {} records, 40 unconfirmed", ids.len(), records.len());
}

#[tokio::test]
async fn certificates_are_verified_unless_that_is_switched_off() {
    let url = amqp();
    let certificates = Certificates::new();
    let address = certificates.before(host(&url), false).await;
    let (settings, name) = declaring(&by_way_of(&url, "amqps", address));
    let unknown = sink(settings.clone());
    assert_retry(&outcome(unknown.send(record("key", "sbx", 0))).await, Scope::Sink, Reason::Connect);
    let trusted = sink(Settings { ca_file: Some(certificates.ca_file()), ..settings.clone() });
    outcome(trusted.send(record("key", "sbx", 1))).await.expect("the authority is trusted");
    let unverified = sink(Settings { insecure_skip_verify: true, ..settings });
    outcome(unverified.send(record("key", "sbx", 2))).await.expect("nothing is verified");
    assert_eq!(taken_ids(&url, &name).await, ["sbx-1", "sbx-2"]);
}
