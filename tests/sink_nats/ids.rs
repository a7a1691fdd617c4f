//! A stream that takes records for repetitions: whose they are, and when that is news.

use super::*;
use crate::support::daemon::Home;
use crate::support::load::{self, Plan, SECRET};
use e2b_relay::route::REPLAY_HEADER;

#[tokio::test]
async fn a_repetition_of_our_own_is_no_news_and_somebody_elses_id_is() {
    let url = nats();
    let proxy = Proxy::start(host(&url), Holds::Everything).await;
    let (settings, name) = with_stream(&by_way_of(&url, proxy.address()));
    let first = sink(Settings { ack_timeout: Duration::from_millis(300), ..settings.clone() });
    let record = |number| record(&format!("{name}.x"), "sbx", number);
    deliver_all(&first, &[record(1)]).await;
    // Stored, and the acknowledgement is late.
    proxy.hold_answers_until(b"never sent", 1);
    assert_retry(&outcome(first.send(record(2))).await, Scope::Record, Reason::Timeout);
    proxy.release();
    outcome(first.send(record(2))).await.expect("known to the stream");
    // Stored, and the connection is lost before it is told.
    proxy.hold_answers_until(b"never sent", 1);
    let sent = first.send(record(3));
    let mut late = Box::pin(outcome(sent));
    assert!(timeout(Duration::from_millis(100), &mut late).await.is_err(), "it is held back");
    proxy.cut();
    assert_retry(&late.await, Scope::Sink, Reason::Connect);
    deliver_all(&first, &[record(3)]).await;
    assert_eq!(stored_ids(&url, &name).await, ["sbx-1", "sbx-2", "sbx-3"]);
    assert!(first.swallowed().is_empty());

    // Another process, without a name of its own for the ids.
    let second = sink(settings);
    deliver_all(&second, &[record(2), record(4)]).await;
    assert_eq!(second.swallowed(), [2]);
    assert!(second.swallowed().is_empty(), "told once");
}

/// Two relays that feed one stream with the same events: the second one's alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_counts_what_the_stream_has_swallowed_but_not_what_a_restart_repeats() {
    let (url, name) = (nats(), unique("E2B"));
    let home = || {
        Home::new(&format!(
            r#"
sources: {{acme: {{webhook: {{secrets: ["{SECRET}"]}}}}}}
sinks:
  bus: {{type: nats, servers: ["{url}"], subject: "{name}.{{{{ sandbox_id }}}}", max_in_flight: 10, stream: {{name: {name}, subjects: ["{name}.>"], create: true}}}}
"#
        ))
    };
    for (nth, swallowed) in [0.0, 40.0].into_iter().enumerate() {
        let home = home();
        let daemon = home.start().await;
        let webhook = daemon.webhook();
        let plan = Plan { events: 50, sandboxes: 10, seed: 7, ..Plan::default() };
        let sent = load::send(plan, move || webhook.clone()).await;
        assert_eq!(sent.ledger.acknowledged(), 50);
        daemon.until_settled("bus", 50).await;
        // All but the ten that a life before this one could have sent.
        let counted = |metrics: &crate::support::daemon::Metrics| {
            metrics.0.contains("e2b_relay_sink_swallowed_total{sink=\"bus\"}")
                && metrics.sum("sink_swallowed_total", "sink=\"bus\"") == swallowed
        };
        daemon.until(&format!("relay {nth} counts {swallowed}"), counted).await;
        assert!(daemon.terminate().await.success());
    }
    assert_eq!(stored(&url, &name).await.len(), 50);
}

/// A record of that id; `again` is the replay that sends it once more. Its payload tells it from all others.
fn identified(subject: &str, number: usize, id: &str, again: Option<&str>) -> Arc<Outgoing> {
    let mut outgoing = (*record(subject, "sbx", number)).clone();
    outgoing.id = id.to_owned();
    outgoing.headers = again.map(|stamp| (REPLAY_HEADER.to_owned(), stamp.to_owned())).into_iter().collect();
    Arc::new(outgoing)
}

/// A server trims what stands blank before a header's value, and its clients what stands behind it.
#[tokio::test]
async fn ids_that_differ_in_blanks_or_escapes_alone_are_stored_each_once_and_told_whole() {
    let url = nats();
    let (settings, name) = with_stream(&url);
    let sink = sink(settings);
    let long = "\u{1f980}".repeat(255);
    let ids = [
        ("a", "a"),
        (" a", "%20a"),
        ("  a", "%20%20a"),
        ("a ", "a%20"),
        ("a b", "a%20b"),
        ("\ta", "%09a"),
        ("a\tb", "a%09b"),
        ("%20a", "%2520a"),
        ("%2520a", "%252520a"),
        ("\u{e4}", "%C3%A4"),
        ("\u{a0}a", "%C2%A0a"),
        ("a\u{2003}", "a%E2%80%83"),
        ("a\u{7f}", "a%7F"),
        ("5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90", "5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90"),
        (&long, &"%F0%9F%A6%80".repeat(255)),
    ];
    let subject = format!("{name}.x");
    let sent: Vec<_> = (0..).zip(ids).map(|(number, (id, _))| identified(&subject, number, id, None)).collect();
    for _ in 0..2 {
        // The second time each is known to the stream.
        deliver_all(&sink, &sent).await;
    }
    let told = |message: StreamMessage| {
        let header = |name: &str| message.headers.get(name).expect("a header").to_string();
        let ids = (header("Nats-Msg-Id"), header("e2b-event-id"));
        (message.payload, ids.0, ids.1)
    };
    let found: Vec<_> = stored(&url, &name).await.into_iter().map(told).collect();
    let expected =
        sent.iter().zip(ids).map(|(sent, (_, told))| (sent.payload.clone(), told.to_owned(), told.to_owned()));
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn no_sinks_name_and_no_replays_makes_one_id_into_another() {
    let url = nats();
    let (settings, name) = with_stream(&url);
    // Sink, id, replay: pairs that would be one and the same if they were only put together.
    let triples = [
        (None, "a:b", None),
        (Some("a"), "b", None),
        (None, "a", Some("b")),
        (Some("a"), "b:c", None),
        (Some("a"), "b", Some("c")),
        (None, "a:b:c", None),
        (None, "a:b", Some("c")),
        (None, "a::b", None),
        (None, "a:", Some("b")),
        (Some("a"), ":b", None),
        (None, "a%3Ab", None),
        (Some("a"), "b ", None),
        (Some("a"), "b%20", None),
    ];
    for (number, (prefix, id, again)) in triples.into_iter().enumerate() {
        let sink = Nats::new(settings.clone(), prefix.map(str::to_owned)).expect("valid settings");
        deliver_all(&sink, &[identified(&format!("{name}.x"), number, id, again)]).await;
        sink.close().await;
    }
    let found = stored(&url, &name).await;
    let ids: Vec<_> =
        found.iter().map(|message| message.headers.get("Nats-Msg-Id").expect("an id").to_string()).collect();
    assert_eq!(found.len(), triples.len(), "{ids:?}");
    assert_eq!(ids[1], "a:b", "the contract's form");
}

#[test]
fn ids_carry_the_sinks_name_only_where_a_stream_may_be_shared() {
    let sinks = |first: &str, second: &str| {
        let sink = |rest: &str| format!("{{\"type\": \"nats\", \"servers\": [\"nats://n1\"]{rest}}}");
        let text = format!("{{\"a\": {}, \"b\": {}}}", sink(first), sink(second));
        serde_json::from_str(&text).expect("two sinks")
    };
    let of = |name: &str| format!(", \"stream\": {{\"name\": \"{name}\"}}");
    for (first, second, shared) in [
        (of("E2B"), of("E2B"), true),
        // The server holds each to its own.
        (of("E2B"), of("OTHER"), false),
        // Which stream takes the subject, only the server knows.
        (of("E2B"), String::new(), true),
        (String::new(), String::new(), true),
        (String::new(), ", \"jetstream\": false".to_owned(), false),
    ] {
        let sinks = sinks(&first, &second);
        let found = ["a", "b"].map(|name| e2b_relay::app::shares_stream(name, &sinks));
        assert_eq!(found, [shared; 2], "{first} and {second}");
    }
}
