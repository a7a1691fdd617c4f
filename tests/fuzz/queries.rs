//! What operators ask the admin API: whatever stands in a URL or a body is answered or refused in JSON, and pages that are
//! asked for one after the other are the whole list.
//!
//! An input is a line, `GET /api/events?limit=3` or the like, and behind it the body.

use super::{Outcome, Target};
use crate::admin::{parts, store};
use crate::receiver::harness::Relay;
use crate::support::stored::{Store, arrival};
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Uri, header};
use bytes::Bytes;
use e2b_relay::admin::{self, Access, Since, Token};
use e2b_relay::decode;
use e2b_relay::event::Arrival;
use e2b_relay::shutdown::{self, Trigger};
use e2b_relay::store::Cause;
use fastrand::Rng;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tower::ServiceExt;

const EVENTS: usize = 40;
const KINDS: [&str; 3] = ["sandbox.lifecycle.created", "sandbox.lifecycle.killed", "other.kind"];
const SOURCES: [&str; 2] = ["acme", "zenith"];
/// When the first one came; the others a second apart.
const BEGIN: i64 = 1_787_000_000;
/// Most that a page has.
const MAX_LIMIT: usize = 1_000;

#[test]
fn every_query_is_answered_or_refused_and_pages_make_the_whole() {
    let served = Served::new();
    Target { name: "queries", rounds: 200, minutes: 1, seeds: Vec::new() }.fuzz(|input, random| {
        served.runtime.block_on(async {
            served.pages_make_the_whole(random).await;
            served.check(input).await
        })
    });
}

struct Served {
    runtime: Runtime,
    router: Router,
    bearer: String,
    _kept: (Relay, Arc<Store>, tempfile::TempDir, Trigger),
}

fn kind(number: usize) -> &'static str {
    KINDS[number % 5 % 3]
}

fn source(number: usize) -> &'static str {
    SOURCES[number % 7 / 4]
}

fn sandbox(number: usize) -> String {
    format!("sandbox-{}", number % 4)
}

impl Served {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (router, bearer, kept) = runtime.block_on(async {
            let (folder, store) = store();
            for number in 0..EVENTS {
                let body = json!({
                    "id": format!("event-{number}"), "type": kind(number), "sandbox_id": sandbox(number),
                    "timestamp": "2026-08-21T10:00:00Z",
                });
                let event = decode::listed(&Bytes::from(body.to_string())).unwrap().event;
                let at = jiff::Timestamp::from_second(BEGIN + number as i64).unwrap();
                store.accept(event, Arrival { source: source(number).into(), ..arrival(at) }).await.unwrap();
                store.quarantine.keep(source(number), "no `type`", b"{}").unwrap();
            }
            let cause =
                |number: usize| Cause { reason: ["rejected", "too_large"][number % 2].into(), message: "no".into() };
            let events = crate::support::stored::events_after(&store, 0).into_iter().enumerate();
            let letters: Vec<_> = events.map(|(number, stored)| (Arc::new(stored), cause(number))).collect();
            store.park("lake", &letters).unwrap();
            let relay = Relay::start().await;
            let token = Token::own(folder.path()).unwrap();
            let bearer = format!("Bearer {}", token.secret().expose());
            let (trigger, shutdown) = shutdown::channel();
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            let access = Access::new(&admin::Settings::default(), token);
            let router = admin::router(parts(listen, access, &relay, &store, shutdown));
            (router, bearer, (relay, store, folder, trigger))
        });
        Self { runtime, router, bearer, _kept: kept }
    }

    /// Status and JSON; `None` where it is no request.
    async fn ask(&self, method: &str, target: &str, body: &[u8]) -> Option<(u16, Value)> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", &self.bearer)
            .body(Body::from(body.to_vec()))
            .ok()?;
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((Ipv4Addr::LOCALHOST, 2))));
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if !is_json {
            // Lines that go on for as long as somebody listens.
            assert!(status == 200 && target.starts_with("/api/"), "{status} without JSON");
            return Some((status, Value::Null));
        }
        let bytes = axum::body::to_bytes(answer.into_body(), 16 << 20).await.unwrap();
        Some((status, serde_json::from_slice(&bytes).expect("JSON")))
    }

    async fn check(&self, input: &[u8]) -> Outcome {
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
        let line = String::from_utf8_lossy(&input[..end]).into_owned();
        line.split(['=', '&', ' ']).for_each(a_time_reads_back_as_it_is_written);
        let no_request = || "no request".to_owned();
        let (method, target) = line.split_once(' ').ok_or_else(no_request)?;
        let uri: Uri = target.parse().map_err(|_| no_request())?;
        // The level is the whole process's, and what is dropped can be listed no more.
        let is_meant =
            uri.path().starts_with("/api/") && !["/api/log-level", "/api/dead-letters/drop"].contains(&uri.path());
        if !is_meant || method == "HEAD" {
            return Err("not to be asked".to_owned());
        }
        let body = input.get(end + 1..).unwrap_or_default();
        let (status, answer) = self.ask(method, target, body).await.ok_or_else(no_request)?;
        assert!(status < 500 || (status == 503 && uri.path() == "/api/tap"), "{status}: {answer}");
        if status >= 400 {
            let error = answer["error"].as_str().expect("an error says what is wrong");
            assert!(!error.is_empty(), "{answer}");
            return Err(format!("{status} {}", error.split([':', '"', '`']).next().unwrap_or_default()));
        }
        for list in ["events", "dead_letters", "quarantined"] {
            assert!(answer[list].as_array().is_none_or(|list| list.len() <= MAX_LIMIT));
        }
        Ok(format!("{status} {} {}", uri.path(), answer.to_string().len() / 200))
    }

    /// Every event that is asked for, once and in order, however small the pages are.
    async fn pages_make_the_whole(&self, random: &mut Rng) {
        type Takes = fn(&str) -> bool;
        let types: [(&str, Takes); 5] = [
            ("", |_| true),
            ("sandbox.lifecycle.killed", |kind| kind == KINDS[1]),
            ("sandbox.*", |kind| kind.starts_with("sandbox.")),
            ("*.kind", |kind| kind.ends_with(".kind")),
            ("nothing", |_| false),
        ];
        let (glob, takes) = types[random.usize(..types.len())];
        let from_source = *random.choice(["", "acme", "zenith", "nobody"].iter()).unwrap();
        let of_sandbox = *random.choice(["", "sandbox-1", "sandbox-3", "nobody"].iter()).unwrap();
        let since = random.bool().then(|| random.usize(..EVENTS));
        let (limit, is_ascending) = (random.usize(1..=EVENTS), random.bool());
        let mut expected: Vec<String> = (since.unwrap_or(0)..EVENTS)
            .filter(|number| takes(kind(*number)))
            .filter(|number| from_source.is_empty() || from_source == source(*number))
            .filter(|number| of_sandbox.is_empty() || of_sandbox == sandbox(*number))
            .map(|number| format!("event-{number}"))
            .collect();
        if !is_ascending {
            expected.reverse();
        }
        let since = since.map(|number| jiff::Timestamp::from_second(BEGIN + number as i64).unwrap().to_string());
        let order = if is_ascending { "asc" } else { "desc" };
        let query = format!(
            "/api/events?type={glob}&source={from_source}&sandbox_id={of_sandbox}&since={}&order={order}&limit={limit}",
            since.unwrap_or_default()
        );
        let ids = self.walk(&query, "events", limit, |event| event["id"].as_str().unwrap().to_owned()).await;
        assert_eq!(ids, expected, "{query}");

        let reason = *random.choice(["", "rejected", "too_large", "other"].iter()).unwrap();
        let query = format!("/api/dead-letters?sink=lake&reason={reason}&limit={limit}");
        let ids = self.walk(&query, "dead_letters", limit, |letter| letter["id"].as_str().unwrap().to_owned()).await;
        let is_of = |number: &usize| reason.is_empty() || ["rejected", "too_large"][number % 2] == reason;
        let expected: Vec<String> = (0..EVENTS).filter(is_of).map(|number| format!("event-{number}")).collect();
        assert_eq!(ids, expected, "{query}");
    }

    async fn walk(&self, query: &str, list: &str, limit: usize, id: impl Fn(&Value) -> String) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        loop {
            let (status, page) = self.ask("GET", &format!("{query}&cursor={cursor}"), b"").await.expect("a request");
            assert_eq!(status, 200, "{query}: {page}");
            let items = page[list].as_array().unwrap();
            assert!(items.len() <= limit, "{query}");
            ids.extend(items.iter().map(&id));
            assert!(ids.len() <= EVENTS, "{query}: {ids:?}");
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return ids,
            }
        }
    }
}

fn a_time_reads_back_as_it_is_written(text: &str) {
    let Ok(since) = text.parse::<Since>() else { return };
    let now: jiff::Timestamp = "2026-08-21T10:00:00Z".parse().unwrap();
    let again = since.to_string().parse::<Since>().unwrap_or_else(|error| panic!("{since}: {error}"));
    assert_eq!(again.from(now), since.from(now), "{text}: {since}");
}
