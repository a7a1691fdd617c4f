//! The contract's table of answers, row by row.

use super::harness::{Behaviour, OTHER_SECRET, PATH, Relay, SECRET, TEAM, event, event_with, post};
use crate::support::sign;
use bytes::Bytes;
use e2b_relay::http::Settings;
use e2b_relay::intake::Refused;
use e2b_relay::verify::Accept;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn what_is_new_is_accepted_and_what_is_known_is_a_duplicate() {
    let relay = Relay::start().await;
    let event = event();
    let body = event.to_string();
    let answer = relay.deliver(body.as_bytes()).await;
    assert_eq!(answer.accepted(), event["id"]);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let again = relay.deliver(body.as_bytes()).await;
    assert_eq!((again.status, again.json()), (200, json!({"success": true, "id": event["id"], "duplicate": true})));
    assert_eq!((relay.count("accepted"), relay.count("duplicate"), relay.kept()), (1, 1, 1));
    let kept = relay.log.kept.lock().unwrap();
    let (kept, arrival) = &kept[0];
    assert_eq!((kept.body.as_ref(), arrival.source.as_ref()), (body.as_bytes(), "acme"));
    let metrics = relay.metrics.encode().unwrap();
    for line in [
        r#"e2b_relay_events_total{origin="webhook",source="acme",type="sandbox.lifecycle.created"} 1"#,
        "e2b_relay_delivery_duration_seconds_count 2",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn every_shape_and_dialect_is_taken_on_one_connection_that_stays_open() {
    let relay = Relay::start().await;
    let mut client = relay.connect().await;
    let v2 = event();
    let v1 = json!({
        "version": "v2", "id": "v1", "type": "sandbox.lifecycle.killed", "timestamp": v2["timestamp"],
        "eventData": null, "sandboxId": "iz62", "sandboxTeamId": TEAM,
    });
    let self_hosted = json!({
        "eventCategory": "sandbox", "eventLabel": "kill", "sandboxId": "sbx_abc123", "sandboxTeamId": TEAM,
        "timestamp": v2["timestamp"],
    });
    for body in [v2, v1, self_hosted] {
        let body = body.to_string();
        let body = body.as_bytes();
        for header in [sign::e2b(SECRET, body), sign::hmac(SECRET, body)] {
            let answer = client.send(&post(PATH, &[header], body)).await;
            assert_eq!((answer.status, &answer.json()["success"]), (200, &json!(true)));
        }
    }
    assert_eq!((relay.count("accepted"), relay.count("duplicate")), (3, 3), "the dialect does not change the id");
    let e2b_hmac = Relay::start_signed(Settings::default(), Accept::E2bHmac).await;
    let body = event().to_string();
    e2b_hmac.post(&[sign::e2b_hmac(SECRET, body.as_bytes())], body.as_bytes()).await.accepted();
}

#[tokio::test]
async fn http_2_without_tls_is_served_on_the_same_port() {
    let relay = Relay::start().await;
    let stream = TokioIo::new(relay.connect().await.0);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut send = |path: &'static str, secret: &str, body: String| {
        let (name, value) = sign::e2b(secret, body.as_bytes());
        let request =
            Request::post(format!("http://relay{path}")).header(name, value).body(Full::<Bytes>::from(body)).unwrap();
        let response = client.send_request(request);
        async move {
            let response = response.await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
        }
    };
    let event = event();
    let accepted = send(PATH, SECRET, event.to_string());
    let unsigned = send(PATH, OTHER_SECRET, event.to_string());
    let unknown = send("/elsewhere", SECRET, event.to_string());
    let too_large = send(PATH, SECRET, " ".repeat(2 << 20));
    let (accepted, unsigned, unknown, too_large) = tokio::join!(accepted, unsigned, unknown, too_large);
    assert_eq!(accepted, (200, json!({"success": true, "id": event["id"]})));
    assert_eq!([unsigned.0, unknown.0, too_large.0], [401, 404, 413]);
    assert_eq!((relay.count("accepted"), relay.count("bad_signature"), relay.count("too_large")), (1, 1, 1));
}

#[tokio::test]
async fn what_is_not_proven_genuine_is_401() {
    let relay = Relay::start().await;
    let body = event().to_string().into_bytes();
    let (name, right) = sign::e2b(SECRET, &body);
    let signature = || (name, right.clone());
    let version = |version: &str| ("e2b-signature-version", version.to_owned());
    let refused = [
        vec![],
        vec![sign::e2b(OTHER_SECRET, &body)],
        vec![sign::e2b(SECRET, b"{}")],
        vec![sign::e2b_hmac(SECRET, &body)],
        vec![(name, String::new())],
        vec![(name, "?".to_owned())],
        vec![(name, right[1..].to_owned())],
        vec![signature(), signature()],
        vec![signature(), sign::hmac(SECRET, &body)],
        vec![signature(), version("v2")],
        vec![signature(), version("v1"), version("v1")],
    ];
    let count = refused.len() as u64;
    for headers in refused {
        let answer = relay.post(&headers, &body).await;
        let message = answer.error(401);
        assert!(!message.contains(SECRET) && !message.contains(&right), "{message}");
    }
    assert_eq!((relay.count("bad_signature"), relay.kept()), (count, 0));
    relay.post(&[signature(), version("v1")], &body).await.accepted();
}

#[tokio::test]
async fn another_teams_event_is_401_though_it_is_signed() {
    let relay = Relay::start().await;
    for team in [json!("another"), json!(""), json!(7), json!(TEAM.to_uppercase())] {
        relay.deliver(&event_with("sandbox_team_id", team)).await.error(401);
    }
    assert_eq!((relay.count("wrong_team"), relay.kept()), (4, 0));
    relay.deliver(&event_with("sandbox_team_id", json!(null))).await.accepted();
    // A source without a team takes any.
    let body = event_with("sandbox_team_id", json!("another"));
    relay.connect().await.send(&post("/beta", &[sign::e2b(OTHER_SECRET, &body)], &body)).await.accepted();
}

#[tokio::test]
async fn what_is_signed_but_no_event_is_400_and_kept_if_it_is_text() {
    let relay = Relay::start().await;
    let event = event().to_string();
    let twice = event.replacen('{', r#"{"id":"other","#, 1);
    let two_spellings = event.replacen('{', r#"{"sandboxId":"other","#, 1);
    let deep = event_with("x", json!(null));
    let deep =
        String::from_utf8(deep).unwrap().replace("\"x\":null", &format!("\"x\":{}{}", "[".repeat(64), "]".repeat(64)));
    let mut malformed: Vec<Vec<u8>> = [
        "".to_owned(),
        "not JSON".to_owned(),
        "[]".to_owned(),
        format!("\u{feff}{event}"),
        format!("{event}{event}"),
        format!("{event}\0"),
        twice,
        two_spellings,
        deep,
        event.replacen("null", "1e999", 1).replacen("\"iz62", "\"\\ud800", 1),
        event.replacen("\"v2\"", "1e999", 1),
    ]
    .map(String::into_bytes)
    .to_vec();
    for name in ["id", "type", "timestamp", "sandbox_id"] {
        for value in [json!(null), json!(""), json!("x".repeat(256)), json!("a\tb"), json!({"a": 1})] {
            if name != "type" || !value.is_null() {
                malformed.push(event_with(name, value));
            }
        }
    }
    for body in &malformed {
        let message = relay.deliver(body).await.error(400);
        assert!(!message.contains("iz62"), "{message}");
    }
    let kept: Vec<Vec<u8>> = relay.log.quarantined.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(kept, malformed);
    assert_eq!((relay.count("malformed"), relay.kept()), (malformed.len() as u64, 0));
    // What is no text is not kept, and neither is what nobody signed.
    let mut extended = event.clone().into_bytes();
    extended.extend([0x80, 0, 0, b'{', b'}']);
    relay.deliver(&extended).await.error(400);
    relay.post(&[], b"not JSON").await.error(401);
    assert_eq!(relay.log.quarantined.lock().unwrap().len(), malformed.len());
    assert!(
        relay.metrics.encode().unwrap().contains(&format!("quarantined_total{{source=\"acme\"}} {}", malformed.len()))
    );
}

#[tokio::test]
async fn a_time_outside_the_window_is_400_with_both_times_and_the_key() {
    let relay = Relay::start().await;
    let message = relay.deliver(&event_with("timestamp", json!("2020-01-01T00:00:00Z"))).await.error(400);
    assert!(message.contains("2020-01-01T00:00:00Z") && message.contains("store.dedupe_window"), "{message}");
    let floor = message.split(' ').find_map(|word| {
        word.trim_end_matches(',').parse::<jiff::Timestamp>().ok().filter(|time| time.as_second() > 1_600_000_000)
    });
    let age = jiff::Timestamp::now().duration_since(floor.expect("the floor"));
    assert_eq!(age.as_hours(), 8 * 24);
    let message = relay.deliver(&event_with("timestamp", json!("2999-01-01T00:00:00Z"))).await.error(400);
    assert!(message.contains("2999-01-01T00:00:00Z") && message.contains("24 h ahead"), "{message}");
    assert_eq!((relay.count("stale"), relay.count("future"), relay.kept()), (1, 1, 0));
    assert!(relay.log.quarantined.lock().unwrap().is_empty());
}

#[tokio::test]
async fn paths_methods_and_encodings_that_are_not_served() {
    let relay = Relay::start().await;
    let body = event().to_string().into_bytes();
    let signature = sign::e2b(SECRET, &body);
    for path in ["/", "/webhooks/e2b/", "/webhooks", "/webhooks/E2B", "/webhooks/%652b", "//webhooks/e2b"] {
        relay.connect().await.send(&post(path, std::slice::from_ref(&signature), &body)).await.error(404);
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer =
            relay.connect().await.send(format!("{method} {PATH} HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes()).await;
        answer.error(405);
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    for encoding in ["gzip", "br", "identity, gzip", "x"] {
        let encoding = ("content-encoding", encoding.to_owned());
        relay.post(&[signature.clone(), encoding], &body).await.error(415);
    }
    assert_eq!(relay.kept(), 0);
    relay.post(&[signature, ("content-encoding", "Identity".to_owned())], &body).await.accepted();
    // A query changes nothing.
    let body = event().to_string().into_bytes();
    relay.connect().await.send(&post(&format!("{PATH}?x=1"), &[sign::e2b(SECRET, &body)], &body)).await.accepted();
}

#[tokio::test]
async fn what_keeps_the_store_from_answering_is_503_with_a_time_to_come_back() {
    let relay = Relay::start().await;
    let body = event().to_string().into_bytes();
    for (refused, outcome) in [
        (Refused::Full { retry_after: Duration::from_millis(29_001) }, "store_full"),
        (Refused::Overloaded, "overloaded"),
        (Refused::Draining, "draining"),
    ] {
        relay.behave(Behaviour::Refuse(refused));
        let answer = relay.deliver(&body).await;
        answer.error(503);
        if matches!(refused, Refused::Full { .. }) {
            assert_eq!(answer.header("retry-after"), Some("30"), "rounded up");
        }
        assert_eq!(relay.count(outcome), 1, "{outcome}");
    }
    relay.behave(Behaviour::Refuse(Refused::Failed));
    relay.deliver(&body).await.error(503);
    relay.behave(Behaviour::Keep);
    relay.deliver(&body).await.accepted();
}

#[tokio::test]
async fn a_daemon_that_is_about_to_end_takes_nothing_new() {
    let relay = Relay::start().await;
    relay.draining.fire();
    relay.deliver(event().to_string().as_bytes()).await.error(503);
    let ready = relay.connect().await.send(b"GET /readyz HTTP/1.1\r\nhost: relay\r\n\r\n").await;
    assert_eq!((ready.status, ready.json()["success"].clone()), (503, json!(false)));
    assert_eq!((relay.count("draining"), relay.kept()), (1, 0));
}

#[tokio::test]
async fn unsigned_ids_are_kept_if_they_are_harmless() {
    let relay = Relay::start().await;
    let long = "x".repeat(128);
    for (webhook_id, expected) in [
        ("f5911677-cb60", Some("f5911677-cb60")),
        (long.as_str(), Some(long.as_str())),
        (&"x".repeat(129), None),
        ("", None),
        ("a b", None),
        ("ü", None),
    ] {
        let body = event().to_string().into_bytes();
        let headers = [
            sign::e2b(SECRET, &body),
            ("e2b-webhook-id", webhook_id.to_owned()),
            ("e2b-delivery-id", "once".to_owned()),
            ("e2b-delivery-id", "twice".to_owned()),
        ];
        relay.post(&headers, &body).await.accepted();
        let kept = relay.log.kept.lock().unwrap();
        let (_, arrival) = kept.last().unwrap();
        assert_eq!((arrival.webhook_id.as_deref(), arrival.delivery_id.as_deref()), (expected, None), "{webhook_id:?}");
    }
}

#[tokio::test]
async fn the_log_says_why_a_signature_is_wrong_and_nothing_secret() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let writer = lines.clone();
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let body = event().to_string().into_bytes();
    for (headers, expected) in [
        (vec![], "no signature header"),
        (vec![sign::e2b(&format!("{SECRET}\n"), &body)], "newline at its end"),
        (vec![sign::e2b_hmac(SECRET, &body)], "would match with signature: e2b-hmac"),
        (vec![sign::e2b(OTHER_SECRET, &body)], "would match with a secret of source `beta`"),
        (
            vec![("e2b-signature", "AAAA".to_owned())],
            "e2b-signature of 4 characters, base64, 3 bytes decoded, version absent",
        ),
    ] {
        // A receiver of its own each, since the log line is rate-limited.
        let relay = Relay::start().await;
        relay.post(&headers, &body).await.error(401);
        relay.post(&headers, &body).await.error(401);
        let text = lines.take();
        assert_eq!(text.matches(": refused a delivery").count(), 1, "{text}");
        assert!(text.contains(expected), "{expected}: {text}");
        for hidden in [SECRET, OTHER_SECRET, "iz62"] {
            assert!(!text.contains(hidden), "{text}");
        }
        for (_, signature) in headers {
            assert!(!text.contains(&signature), "{text}");
        }
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
