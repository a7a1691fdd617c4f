//! `/api/events` and `events`: what the journal has.

use super::{asking, home, run, store};
use crate::simulate::Running;
use crate::support::daemon::reqwest_client;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Every page, one after another.
async fn pages(base: &str, parameters: &str) -> Vec<Value> {
    let (mut events, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let url = format!("{base}/api/events?{parameters}&cursor={cursor}");
        let page: Value = reqwest_client().get(&url).send().await.unwrap().json().await.unwrap();
        events.extend(page["events"].as_array().unwrap_or_else(|| panic!("{url}: {page}")).clone());
        pages += 1;
        assert!(pages < 1_000, "it does not end");
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return events,
        }
    }
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_on_one_page_in_either_order_and_filters_hold() {
    let provider = Running::start(Options::default()).await;
    provider.happen(730, 3600).await;
    let home = home(&provider);
    let daemon = home.start().await;
    run(asking(&home, &daemon, &["backfill"])).await;
    let base = format!("http://{}", daemon.admin);
    let sequence = |event: &Value| event["relay"]["sequence"].as_u64().unwrap();

    let oldest_first = pages(&base, "order=asc&limit=100&since=&type=").await;
    assert!(oldest_first.iter().map(sequence).eq(1..=730));
    for limit in [1000, 100, 7] {
        let mut newest_first = pages(&base, &format!("limit={limit}")).await;
        newest_first.reverse();
        assert_eq!(newest_first, oldest_first, "{limit}");
    }
    let told: BTreeSet<String> = provider.told().into_iter().collect();
    assert_eq!(ids(&oldest_first).into_iter().collect::<BTreeSet<_>>(), told);
    daemon.until("the file has all", |metrics| metrics.sum("sink_lag_events", "audit") == 0.0).await;
    let file = std::fs::read_to_string(home.path().join("audit.ndjson")).unwrap();
    let records: BTreeMap<u64, Value> = file
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|record| (sequence(&record), record))
        .collect();
    assert_eq!(records.into_values().collect::<Vec<_>>(), oldest_first, "as consumers get them");

    let sandbox = oldest_first[300]["sandbox_id"].as_str().unwrap();
    for (parameters, matches) in [
        (format!("sandbox_id={sandbox}"), &(|event: &Value| event["sandbox_id"] == sandbox) as &dyn Fn(&Value) -> bool),
        ("type=sandbox.lifecycle.killed".to_owned(), &|event| event["type"] == "sandbox.lifecycle.killed"),
        ("type=*.p*&limit=9".to_owned(), &|event| event["type"] == "sandbox.lifecycle.paused"),
        ("source=acme&since=1h".to_owned(), &|_| true),
        ("source=beta".to_owned(), &|_| false),
        ("since=2100-01-01T00:00:00Z".to_owned(), &|_| false),
    ] {
        let expected: Vec<&Value> = oldest_first.iter().filter(|event| matches(event)).collect();
        for order in ["asc", "desc"] {
            let mut found = pages(&base, &format!("{parameters}&order={order}")).await;
            if order == "desc" {
                found.reverse();
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{parameters} {order}");
        }
    }
    // Since a moment between two: by when they were received.
    let middle = oldest_first[400]["relay"]["received_at"].as_str().unwrap();
    let since = pages(&base, &format!("order=asc&since={middle}")).await;
    let at = |event: &Value| event["relay"]["received_at"].as_str().unwrap().to_owned();
    assert!(since.iter().all(|event| at(event).as_str() >= middle) && since.len() >= 330 - 64, "{}", since.len());

    for (wrong, word) in [
        ("since=yesterday", "since"),
        ("type=[", "type"),
        ("limit=0", "limit"),
        ("limit=1001", "1000"),
        ("order=up", "order"),
        ("cursor=zz", "cursor"),
        ("cursor=a5", "cursor"),
    ] {
        let reply = reqwest_client().get(format!("{base}/api/events?{wrong}")).send().await.unwrap();
        let (status, body): (_, Value) = (reply.status(), reply.json().await.unwrap());
        assert!(status == 400 && body["error"].as_str().unwrap().contains(word), "{wrong}: {status} {body}");
    }
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_summary_is_the_provider_s_ledger_by_type_and_by_template() {
    let provider = Running::start(Options { sandboxes: 20, ..Options::default() }).await;
    provider.happen(900, 3600).await;
    let home = home(&provider);
    let daemon = home.start().await;
    run(asking(&home, &daemon, &["backfill"])).await;
    let (mut by_type, mut by_template) = (BTreeMap::<String, u64>::new(), BTreeMap::<String, u64>::new());
    for entry in provider.ledger.entries() {
        let body: Value = serde_json::from_slice(&entry.body).unwrap();
        let template = body.get("sandbox_template_id").or_else(|| body.get("sandboxTemplateId")).unwrap();
        *by_type.entry(entry.kind).or_default() += 1;
        *by_template.entry(template.as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(by_type.len() == 6 && by_template.len() == 3);

    let summary =
        run(asking(&home, &daemon, &["events", "--summary", "--since", "2d", "--format", "json"])).await.json();
    assert_eq!(summary["by_type"], json!(by_type));
    assert_eq!(summary["by_template"], json!(by_template));
    assert_eq!((summary["events"].as_u64(), summary["complete"].as_bool()), (Some(900), Some(true)));
    let time = |name: &str| summary[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time("from") == time("asked_since") && time("earliest_event") < time("latest_event"));

    let text = run(asking(&home, &daemon, &["events", "--summary"])).await;
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.out.starts_with("900 events, received from ") && !text.out.contains("not the whole"), "{text:?}");
    for (key, count) in by_type.iter().chain(&by_template) {
        let line = text.out.lines().find(|line| line.starts_with(key.as_str())).expect(key);
        assert_eq!(line.split_whitespace().last(), Some(&*count.to_string()), "{line}");
    }
    let none =
        run(asking(&home, &daemon, &["events", "--summary", "--source", "beta", "--format", "json"])).await.json();
    assert_eq!((none["events"].as_u64(), &none["earliest_event"]), (Some(0), &Value::Null));
    assert!(daemon.terminate().await.success());
}

/// With many segments: what is searched by time, and what is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_found_in_a_journal_of_many_segments_and_a_span_that_is_gone_is_told() {
    many_segments::run().await;
}

mod many_segments {
    use super::{Value, pages, reqwest_client};
    use crate::receiver::harness::Relay;
    use crate::support::stored::{self, Store};
    use e2b_relay::admin::{self, Access, Token};
    use e2b_relay::event::{Arrival, Event, Timestamp};
    use e2b_relay::http::Listener;
    use e2b_relay::shutdown;
    use e2b_relay::store::{Accepted, Parts, Settings, SinkStart, Start};
    use jiff::SignedDuration;
    use std::sync::{Arc, Mutex};

    const EVENTS: i64 = 600;
    /// So that a few fill a segment of 1 MiB.
    const BODY: usize = 60_000;

    fn event(number: i64, at: jiff::Timestamp) -> (Event, Arrival) {
        let (id, timestamp) = (format!("e{number}"), Timestamp::from(at));
        let body = format!(
            r#"{{"id":"{id}","type":"t{}","timestamp":"{timestamp}","sandbox_id":"s{}","note":"{}"}}"#,
            number % 3,
            number % 7,
            "n".repeat(BODY)
        );
        let (kind, sandbox_id) = (format!("t{}", number % 3), format!("s{}", number % 7));
        (Event { id, kind, timestamp, sandbox_id, body: body.into() }, stored::arrival(at))
    }

    pub(super) async fn run() {
        let folder = tempfile::tempdir().unwrap();
        let now = jiff::Timestamp::now();
        // Two minutes from one to the next.
        let at = move |number: i64| now - SignedDuration::from_mins(2 * (EVENTS - number));
        let clock = Arc::new(Mutex::new(at(0)));
        let told = Arc::clone(&clock);
        let settings =
            Settings { path: folder.path().to_owned(), max_size: bytesize::ByteSize::mib(64), ..Settings::default() };
        let parts = Parts { clock: Arc::new(move || *told.lock().unwrap()), ..stored::parts() };
        let store = Arc::new(Store::open(settings, parts).unwrap());
        let start = SinkStart { name: "audit".to_owned(), renamed_from: None, start: Start::Now };
        store.attach(&[start]).await.unwrap();
        let serve = async || {
            let relay = Relay::start().await;
            let listener = Listener::bind_admin(([127, 0, 0, 1], 0).into(), None).await.unwrap();
            let base = format!("http://{}", listener.address());
            let (trigger, shutdown) = shutdown::channel();
            let router = admin::router(crate::admin::parts(
                listener.address(),
                Access::new(&admin::Settings::default(), Token::own(folder.path()).unwrap()),
                &relay,
                &store,
                shutdown.clone(),
            ));
            tokio::spawn(listener.serve(router, shutdown));
            (base, trigger)
        };
        for number in 0..EVENTS {
            *clock.lock().unwrap() = at(number);
            let (event, arrival) = event(number, at(number));
            assert!(matches!(store.accept(event, arrival).await, Ok(Accepted::New { .. })));
        }
        let segments = store.log.marks(false).len();
        assert!(segments > 20, "{segments}");
        let (base, _trigger) = serve().await;
        for back in [0, 1, 17, 100, 599, 600, 700] {
            let since = at(EVENTS - back) - SignedDuration::from_secs(30);
            let expected: Vec<String> =
                (0..EVENTS).filter(|number| at(*number) >= since).map(|number| format!("e{number}")).collect();
            for (order, limit) in [("asc", 1000), ("asc", 50), ("desc", 1000), ("desc", 13)] {
                let mut found = super::ids(&pages(&base, &format!("since={since}&order={order}&limit={limit}")).await);
                if order == "desc" {
                    found.reverse();
                }
                assert_eq!(found, expected, "{back} {order} {limit}");
            }
        }
        // Wherever a segment begins.
        for back in 1..80 {
            let since = at(EVENTS - back) - SignedDuration::from_secs(30);
            let found = pages(&base, &format!("since={since}&order=asc&limit=1000")).await;
            assert_eq!(found.len() as i64, back);
        }
        let found = super::ids(&pages(&base, "sandbox_id=s3&type=t1&limit=2").await);
        let expected: Vec<String> = (0..EVENTS)
            .rev()
            .filter(|number| number % 7 == 3 && number % 3 == 1)
            .map(|number| format!("e{number}"))
            .collect();
        assert_eq!(found, expected);

        let summary = async |since: &str| -> Value {
            let url = format!("{base}/api/events/summary?since={since}");
            reqwest_client().get(url).send().await.unwrap().json().await.unwrap()
        };
        let whole = summary("30d").await;
        assert_eq!((whole["events"].as_i64(), whole["complete"].as_bool()), (Some(EVENTS), Some(true)), "{whole}");

        // Settled, so that room can be made of what is old; then as much again comes.
        let end = store.log.durable().borrow().sequence;
        let progress = e2b_relay::store::Progress { delivered: end, ..store.progress("audit") };
        crate::support::stored::advance(&store, "audit", end, progress);
        for number in EVENTS..2 * EVENTS {
            let (event, arrival) = event(number, now);
            *clock.lock().unwrap() = now;
            assert!(matches!(store.accept(event, arrival).await, Ok(Accepted::New { .. })), "{number}");
        }
        let begins = store.log.marks(false)[0].at;
        let part = summary("30d").await;
        let from: jiff::Timestamp = part["from"].as_str().unwrap().parse().unwrap();
        assert_eq!((part["complete"].as_bool(), from), (Some(false), begins), "{part}");
        assert!(part["events"].as_i64().unwrap() < 2 * EVENTS && from > at(0));
        let recent = summary("1s").await;
        assert_eq!(recent["complete"], true, "{recent}");
    }
}

#[test]
fn an_empty_journal_is_complete() {
    let (_folder, store) = store();
    assert_eq!(store.log.marks(true).len(), 1);
    assert_eq!(store.log.marks(true)[0].after, 0);
}
