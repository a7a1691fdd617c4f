//! The NATS sink against real servers, read back by a client of the test's own.

mod ids;
mod secured;
mod streams;

use crate::support::brokers::{Broker, Kind, nats, unique};
use crate::support::proxy::{Holds, Proxy};
use crate::support::sending::{PATIENCE, assert_each_once_in_order, deliver_all, outcome, record, records};
use crate::support::tls::Certificates;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{self, stream};
use e2b_relay::route::Outgoing;
use e2b_relay::secret::Secret;
use e2b_relay::sink::nats::{Nats, Settings, Stream};
use e2b_relay::sink::{Order, Reason, Scope, SendError, Sink};
use futures_util::StreamExt;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// No test is to wait for it.
const NEVER: Duration = Duration::from_secs(3600);

/// `nats://user:password@host:port` → the same by way of `address`, and `host:port`.
fn by_way_of(url: &str, address: impl std::fmt::Display) -> String {
    let (login, _) = url.rsplit_once('@').expect("a URL with a user");
    format!("{login}@{address}")
}

fn host(url: &str) -> &str {
    url.rsplit_once('@').expect("a URL with a user").1
}

fn login(url: &str) -> (String, String) {
    let (user, password) = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'))
        .and_then(|(login, _)| login.split_once(':'))
        .expect("a URL with a login");
    (user.to_owned(), password.to_owned())
}

/// A client that shares nothing with the sink.
async fn client(url: &str) -> async_nats::Client {
    let (user, password) = login(url);
    async_nats::ConnectOptions::with_user_and_password(user, password)
        .connect(host(url))
        .await
        .expect("the server is up")
}

fn settings(url: &str) -> Settings {
    Settings { servers: vec![Secret::new(url)], ..Settings::default() }
}

/// A sink to a stream of its own, which it creates; the stream's subjects begin with its name.
fn with_stream(url: &str) -> (Settings, String) {
    let name = unique("E2B");
    let stream = Stream { name: name.clone(), subjects: vec![format!("{name}.>")], create: true, ..Stream::default() };
    (Settings { stream: Some(stream), ..settings(url) }, name)
}

fn sink(settings: Settings) -> Nats {
    Nats::new(settings, None).expect("valid settings")
}

/// What the stream holds, in its order.
async fn stored(url: &str, name: &str) -> Vec<StreamMessage> {
    let jetstream = jetstream::new(client(url).await);
    let mut stream = jetstream.get_stream(name).await.expect("the stream is there");
    let state = stream.info().await.expect("its state").state.clone();
    join_all((state.first_sequence.max(1)..=state.last_sequence).map(|sequence| {
        let stream = stream.clone();
        async move { stream.get_raw_message(sequence).await.expect("a message") }
    }))
    .await
}

async fn stored_ids(url: &str, name: &str) -> Vec<String> {
    let messages = stored(url, name).await;
    messages.iter().map(|message| message.headers.get("e2b-event-id").expect("the id").to_string()).collect()
}

#[track_caller]
fn assert_retry(outcome: &Result<(), SendError>, expected_scope: Scope, expected_reason: Reason) -> String {
    let Err(SendError::Retry { scope, reason, message }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((*scope, *reason), (expected_scope, expected_reason), "{message}");
    message.clone()
}

#[tokio::test]
async fn a_stream_holds_each_record_once_with_the_contracts_headers() {
    let url = nats();
    let (settings, name) = with_stream(&url);
    let sink = sink(settings);
    assert_eq!(sink.order(), Order::OnePerSandbox);
    let probed = sink.probe().await.expect("the server is there");
    assert!(probed.ends_with(&format!(", no TLS, as relay, JetStream, stream {name} to be created")), "{probed}");
    let records = records(|sandbox| format!("{name}.{sandbox}"), 50, 10);
    deliver_all(&sink, &records).await;
    // A second time: the stream knows the ids again, and says so, which is success.
    deliver_all(&sink, &records).await;

    let messages = stored(&url, &name).await;
    let message = &messages[0];
    let header = |header: &str| message.headers.get(header).map(ToString::to_string).unwrap_or_default();
    assert_eq!(message.subject.as_str(), format!("{name}.sbx0"));
    assert_eq!(message.payload, r#"{"id":"sbx0-0"}"#);
    assert_eq!(header("Nats-Msg-Id"), "sbx0-0");
    assert_eq!(header("e2b-event-id"), "sbx0-0");
    assert_eq!(header("e2b-event-type"), "sandbox.lifecycle.created");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-further"), "kept");
    assert_each_once_in_order(&stored_ids(&url, &name).await, &records);
    let probed = sink.probe().await.expect("the stream is there");
    assert!(
        probed.starts_with("nats-server 2.")
            && probed.ends_with(&format!(", JetStream, stream {name} (subjects {name}.>, duplicate window 120s)")),
        "{probed}"
    );
    sink.close().await;
    assert_retry(&sink.send(records[0].clone()).await, Scope::Sink, Reason::Connect);
}

#[tokio::test]
async fn two_sinks_that_feed_one_stream_are_both_stored() {
    let url = nats();
    let (settings, name) = with_stream(&url);
    let record = record(&format!("{name}.x"), "sbx", 0);
    for prefix in ["bus", "copy"] {
        let sink = Nats::new(settings.clone(), Some(prefix.to_owned())).expect("valid settings");
        outcome(sink.send(record.clone())).await.expect("stored");
    }
    let ids = stored(&url, &name).await;
    let ids: Vec<_> =
        ids.iter().map(|message| message.headers.get("Nats-Msg-Id").expect("an id").to_string()).collect();
    assert_eq!(ids, ["bus:sbx-0", "copy:sbx-0"]);
}

#[tokio::test]
async fn without_jetstream_a_subscriber_gets_each_record() {
    let url = nats();
    let prefix = unique("core");
    let reader = client(&url).await;
    let mut subscription = reader.subscribe(format!("{prefix}.>")).await.expect("subscribed");
    reader.flush().await.expect("subscribed");
    let sink = sink(Settings { jetstream: false, ..settings(&url) });
    let records = records(|sandbox| format!("{prefix}.{sandbox}"), 20, 20);
    deliver_all(&sink, &records).await;
    let mut ids = Vec::new();
    while ids.len() < records.len() {
        let message = timeout(PATIENCE, subscription.next()).await.expect("all arrive").expect("subscribed");
        let headers = message.headers.expect("headers");
        assert_eq!(
            headers.get("e2b-event-type").map(ToString::to_string).as_deref(),
            Some("sandbox.lifecycle.created")
        );
        ids.push(headers.get("e2b-event-id").expect("the id").to_string());
    }
    assert_each_once_in_order(&ids, &records);
    assert!(sink.probe().await.expect("reachable").starts_with("nats-server 2."));
}

#[tokio::test]
async fn a_subject_that_no_stream_takes_halts_the_sink_and_says_what_to_do() {
    let sink = sink(settings(&nats()));
    let sent = outcome(sink.send(record(&unique("nowhere"), "sbx", 0))).await;
    let message = assert_retry(&sent, Scope::Sink, Reason::Unroutable);
    assert!(message.contains("nats stream add") && message.contains("stream.create"), "{message}");
    assert!(!message.contains("relay-secret"), "{message}");
}

#[tokio::test]
async fn a_stream_that_is_deleted_is_created_again_when_that_is_asked_for() {
    let url = nats();
    let (settings, name) = with_stream(&url);
    let sink = sink(settings);
    let records = records(|_| format!("{name}.x"), 1, 2);
    outcome(sink.send(records[0].clone())).await.expect("stored");
    jetstream::new(client(&url).await).delete_stream(&name).await.expect("deleted");
    let lost = outcome(sink.send(records[1].clone())).await;
    assert_retry(&lost, Scope::Sink, Reason::Unroutable);
    outcome(sink.send(records[1].clone())).await.expect("stored in the new stream");
    assert_eq!(stored_ids(&url, &name).await, ["sbx0-1"]);
}

#[tokio::test]
async fn a_hostile_subject_reaches_nobody() {
    let url = nats();
    let reader = client(&url).await;
    let prefix = unique("hostile");
    let mut everything = reader.subscribe(">").await.expect("subscribed");
    reader.flush().await.expect("subscribed");
    let sink = sink(Settings { jetstream: false, ..settings(&url) });
    for hostile in ["x 6\r\nPUB evil 0\r\n", "*", ">", "a..b", "a b", "\t", "\0"] {
        let sent = outcome(sink.send(record(&format!("{prefix}.{hostile}"), "sbx", 0))).await;
        assert!(matches!(sent, Err(SendError::Reject { reason: Reason::Template, .. })), "{hostile:?}: {sent:?}");
    }
    let header = Outgoing {
        headers: vec![("a".to_owned(), "b\r\nPUB evil 0".to_owned())],
        ..(*record(&prefix, "sbx", 0)).clone()
    };
    let sent = outcome(sink.send(Arc::new(header))).await;
    assert!(matches!(sent, Err(SendError::Reject { .. })), "{sent:?}");
    outcome(sink.send(record(&format!("{prefix}.last"), "sbx", 1))).await.expect("delivered");
    // Other tests publish beside this one; what is ours or hostile must be the last record alone.
    loop {
        let message = timeout(PATIENCE, everything.next()).await.expect("the last one arrives").expect("subscribed");
        let subject = message.subject.as_str();
        assert!(!subject.starts_with("evil"), "{subject}");
        if subject.starts_with(&prefix) {
            assert_eq!(subject, format!("{prefix}.last"));
            break;
        }
    }
}

#[tokio::test]
async fn what_is_too_large_for_the_server_or_the_stream_is_a_dead_letter() {
    let url = nats();
    let (settings, name) = with_stream(&url);
    let config = stream::Config {
        max_message_size: 1000,
        subjects: vec![format!("{name}.>")],
        name: name.clone(),
        ..stream::Config::default()
    };
    jetstream::new(client(&url).await).create_stream(config).await.expect("created");
    let sink = sink(settings);
    for size in [2_000, 8 * 1024 * 1024] {
        let large =
            Outgoing { payload: vec![b'x'; size].into(), ..(*record(&format!("{name}.x"), "sbx", size)).clone() };
        let sent = outcome(sink.send(Arc::new(large))).await;
        assert!(matches!(sent, Err(SendError::Reject { reason: Reason::TooLarge, .. })), "{size}: {sent:?}");
    }
    outcome(sink.send(record(&format!("{name}.x"), "sbx", 0))).await.expect("the connection is unharmed");
}

#[tokio::test]
async fn a_full_stream_halts_the_sink() {
    let url = nats();
    let (settings, name) = with_stream(&url);
    let config = stream::Config {
        max_messages: 1,
        discard: stream::DiscardPolicy::New,
        subjects: vec![format!("{name}.>")],
        name: name.clone(),
        ..stream::Config::default()
    };
    jetstream::new(client(&url).await).create_stream(config).await.expect("created");
    let sink = sink(settings);
    outcome(sink.send(record(&format!("{name}.x"), "sbx", 0))).await.expect("the first fits");
    assert_retry(&outcome(sink.send(record(&format!("{name}.x"), "sbx", 1))).await, Scope::Sink, Reason::Rejected);
}

#[tokio::test]
async fn a_record_for_another_stream_than_the_one_named_is_not_stored_there() {
    let url = nats();
    let (_, other) = with_stream(&url);
    let config =
        stream::Config { subjects: vec![format!("{other}.>")], name: other.clone(), ..stream::Config::default() };
    jetstream::new(client(&url).await).create_stream(config).await.expect("created");
    let (settings, _) = with_stream(&url);
    let sent = outcome(sink(settings).send(record(&format!("{other}.x"), "sbx", 0))).await;
    assert_retry(&sent, Scope::Sink, Reason::Unroutable);
    assert_eq!(stored_ids(&url, &other).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_and_not_repeated() {
    let url = nats();
    let sink = sink(settings(&format!("nats://relay:canary@{}", host(&url))));
    let message = assert_retry(&outcome(sink.send(record("e2b.x", "sbx", 0))).await, Scope::Sink, Reason::Auth);
    assert!(!message.contains("canary"), "{message}");
    assert!(matches!(sink.probe().await, Err(SendError::Retry { reason: Reason::Auth, .. })));
    assert!(!sink.peer().contains("canary"));
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_at_once() {
    // Bound and dropped: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let sink = sink(settings(&format!("nats://relay:canary@{address}")));
    let message = assert_retry(&outcome(sink.send(record("e2b.x", "sbx", 0))).await, Scope::Sink, Reason::Connect);
    assert!(message.contains(&address.to_string()) && !message.contains("canary"), "{message}");
}

#[tokio::test]
async fn sends_of_many_sandboxes_run_side_by_side() {
    for jetstream in [true, false] {
        let url = nats();
        let proxy = Proxy::start(host(&url), Holds::Everything).await;
        let (settings, name) = with_stream(&by_way_of(&url, proxy.address()));
        let stream = settings.stream.clone().filter(|_| jetstream);
        let sink = sink(Settings { jetstream, stream, ack_timeout: NEVER, ..settings });
        outcome(sink.send(record(&format!("{name}.x"), "first", 0))).await.expect("connected, and the stream created");
        // Not one is answered before all 300 are there: with fewer in flight this would never end.
        proxy.hold_answers_until(b"HPUB ", 300);
        let records = records(|sandbox| format!("{name}.{sandbox}"), 300, 1);
        for sent in join_all(records.iter().map(|record| outcome(sink.send(record.clone())))).await {
            sent.expect("confirmed");
        }
        assert_eq!(proxy.seen(), 300);
    }
}

#[tokio::test]
async fn an_acknowledgement_that_does_not_come_ends_by_the_time_out() {
    let url = nats();
    let proxy = Proxy::start(host(&url), Holds::Everything).await;
    let (settings, name) = with_stream(&by_way_of(&url, proxy.address()));
    let sink = sink(Settings { ack_timeout: Duration::from_millis(300), ..settings });
    let records = records(|_| format!("{name}.x"), 1, 2);
    deliver_all(&sink, &records[..1]).await;
    proxy.hold_answers_until(b"never sent", 1);
    assert_retry(&outcome(sink.send(records[1].clone())).await, Scope::Record, Reason::Timeout);
    proxy.release();
    // The server has stored it, and knows it again.
    outcome(sink.send(records[1].clone())).await.expect("confirmed");
    assert_eq!(stored_ids(&url, &name).await, ["sbx0-0", "sbx0-1"]);
}

#[tokio::test]
async fn a_cut_connection_ends_what_is_unconfirmed_at_once_and_comes_back() {
    for jetstream in [true, false] {
        let url = nats();
        let proxy = Proxy::start(host(&url), Holds::Everything).await;
        let (settings, name) = with_stream(&by_way_of(&url, proxy.address()));
        let stream = settings.stream.clone().filter(|_| jetstream);
        let sink = sink(Settings { jetstream, stream, ack_timeout: NEVER, ..settings });
        let records = records(|sandbox| format!("{name}.{sandbox}"), 100, 1);
        // The connection, and the stream.
        outcome(sink.send(record(&format!("{name}.x"), "first", 0))).await.expect("confirmed");
        proxy.hold_answers_until(b"HPUB ", 101);
        let sends: Vec<_> = records.iter().map(|record| sink.send(record.clone())).collect();
        proxy.sent(100).await;
        proxy.cut();
        for sent in join_all(sends.into_iter().map(outcome)).await {
            assert_retry(&sent, Scope::Sink, Reason::Connect);
        }
        deliver_all(&sink, &records).await;
        if jetstream {
            assert_each_once_in_order(&stored_ids(&url, &name).await[1..], &records);
        }
    }
}

#[tokio::test]
async fn a_killed_server_costs_nothing() {
    let server = Broker::start(Kind::Nats).await;
    let url = server.address();
    let (settings, name) = with_stream(&url);
    let sink = sink(Settings { ack_timeout: NEVER, ..settings });
    let records = records(|sandbox| format!("{name}.{sandbox}"), 40, 25);
    let (early, late) = records.split_at(400);
    deliver_all(&sink, early).await;
    server.pause().await;
    let unconfirmed: Vec<_> = late[..40].iter().map(|record| sink.send(record.clone())).collect();
    server.kill().await;
    for sent in join_all(unconfirmed.into_iter().map(outcome)).await {
        assert_retry(&sent, Scope::Sink, Reason::Connect);
    }
    tokio::join!(deliver_all(&sink, late), server.restart());
    assert_each_once_in_order(&stored_ids(&url, &name).await, &records);
}

#[tokio::test]
async fn certificates_are_verified_unless_that_is_switched_off() {
    let url = nats();
    let certificates = Certificates::new();
    let address = certificates.before(host(&url), true).await;
    let tls = by_way_of(&url, address).replace("nats://", "tls://");
    let (settings, name) = with_stream(&tls);
    let unknown = sink(settings.clone());
    assert_retry(&outcome(unknown.send(record(&format!("{name}.x"), "sbx", 0))).await, Scope::Sink, Reason::Connect);
    let trusted = sink(Settings { ca_file: Some(certificates.ca_file()), ..settings.clone() });
    outcome(trusted.send(record(&format!("{name}.x"), "sbx", 1))).await.expect("the authority is trusted");
    let unverified = sink(Settings { insecure_skip_verify: true, ..settings });
    outcome(unverified.send(record(&format!("{name}.x"), "sbx", 2))).await.expect("nothing is verified");
    assert_eq!(stored_ids(&url, &name).await, ["sbx-1", "sbx-2"]);
}
