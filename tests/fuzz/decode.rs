//! Events of any shape: each way in reads the same, and what consumers get is read as the same event once more.

use super::{EVENTS, Outcome, Target, files};
use crate::support::{sign, stored};
use bytes::Bytes;
use e2b_relay::decode::{self, Decoded, MAX_TEXT, Malformed, Redaction};
use e2b_relay::event::{self, Stored, Timestamp};
use e2b_relay::route::View;
use e2b_relay::secret::Secret;
use e2b_relay::verify::{Accept, Presented, Verified, Verifier};
use fastrand::Rng;
use serde_json::{Map, Value};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The spellings of the first deliveries.
const CAMEL: [(&str, &str); 8] = [
    ("eventCategory", "event_category"),
    ("eventLabel", "event_label"),
    ("eventData", "event_data"),
    ("sandboxId", "sandbox_id"),
    ("sandboxExecutionId", "sandbox_execution_id"),
    ("sandboxTemplateId", "sandbox_template_id"),
    ("sandboxBuildId", "sandbox_build_id"),
    ("sandboxTeamId", "sandbox_team_id"),
];

#[test]
fn what_is_rendered_of_an_event_is_read_as_the_same_event() {
    Target { name: "decode", rounds: 4_000, minutes: 10, seeds: files(EVENTS) }.fuzz(check);
}

fn check(input: &[u8], _: &mut Rng) -> Outcome {
    let body = Bytes::copy_from_slice(input);
    let listed = decode::listed(&body);
    let delivered = verified(Accept::E2b, sign::e2b(SECRET, input), &body);
    let (by_cloud, by_hmac) =
        (decode::delivery(&delivered), decode::delivery(&verified(Accept::Hmac, sign::hmac(SECRET, input), &body)));
    match &listed {
        Err(Malformed::Missing("id")) => {
            for decoded in [&by_cloud, &by_hmac].into_iter().flatten() {
                assert_eq!(decoded.event.id, event::body_id(&delivered.sha256_hex()));
            }
        }
        _ => {
            let listed = listed.as_ref().map(parts);
            assert_eq!((by_cloud.as_ref().map(parts), by_hmac.as_ref().map(parts)), (listed, listed));
        }
    }
    if let Ok(decoded) = &by_cloud {
        assert_eq!(by_hmac.as_ref().map(parts), Ok(parts(decoded)));
    }
    match &by_hmac {
        Err(error) => {
            let said = error.to_string();
            assert!(said.len() < 100, "{said}");
            Err(match error {
                Malformed::NotUtf8 { .. } => "not UTF-8".to_owned(),
                Malformed::NotStrictJson { violation, .. } => format!("{violation:?}"),
                _ => said,
            })
        }
        Ok(decoded) => {
            is_sound(decoded, &body);
            let record = is_rendered_whole(decoded);
            if listed.is_ok() {
                is_the_same_event_without_what_is_redacted(decoded);
            }
            let names: Vec<&str> = record.keys().map(String::as_str).filter(|name| name.contains('_')).collect();
            Ok(format!("{} {}", decoded.event.kind.len().min(40), names.join(" ").chars().take(90).collect::<String>()))
        }
    }
}

fn parts(decoded: &Decoded) -> (&event::Event, Option<&str>) {
    (&decoded.event, decoded.team_id.as_deref())
}

fn verified(accept: Accept, (_, value): sign::Header, body: &Bytes) -> Verified {
    let mut presented = Presented::default();
    match accept {
        Accept::Hmac => presented.x_e2b_signature.push(value.as_bytes()),
        _ => presented.e2b_signature.push(value.as_bytes()),
    }
    Verifier::new(&[Secret::new(SECRET)], accept).verify(&presented, body.clone()).expect("signed")
}

fn is_sound(decoded: &Decoded, body: &Bytes) {
    let event = &decoded.event;
    assert_eq!(event.body, body);
    for text in [&event.id, &event.kind, &event.sandbox_id] {
        assert!(!text.is_empty() && text.chars().count() <= MAX_TEXT + "sandbox.lifecycle.".len(), "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    // The journal keeps it as text.
    assert_eq!(Timestamp::parse(event.timestamp.as_str()).as_ref(), Ok(&event.timestamp));
}

fn rendered(decoded: &Decoded) -> String {
    let stored = Stored {
        sequence: 7,
        arrival: stored::arrival("2026-08-21T10:00:00Z".parse().unwrap()),
        event: decoded.event.clone(),
    };
    let record = decode::stored(&stored.event).expect("it was an event before");
    View::new(&stored, &record, "0b7d2f0e-27c4-4b52-8d52-5fb3b1b9c0de").json()
}

/// Whether the record holds what came, under the contract's names, and is the same event for whoever reads it.
fn is_rendered_whole(decoded: &Decoded) -> Map<String, Value> {
    let json = rendered(decoded);
    match decode::listed(&Bytes::from(json.clone())) {
        Ok(again) => {
            let of = |decoded: &Decoded| {
                let event = decoded.event.clone();
                // A team that is no string stands there as it came, and is compact in a record.
                let team = decoded.team_id.as_ref().map(|team| team.split_whitespace().collect::<String>());
                (event.id, event.kind, event.timestamp, event.sandbox_id, team)
            };
            assert_eq!(of(&again), of(decoded));
        }
        // What came in as `relay` is one level deeper.
        Err(Malformed::NotStrictJson { violation: decode::Violation::TooDeep, .. }) if json.contains("received") => {}
        Err(error) => panic!("{error}: {json}"),
    }
    let (Ok(Value::Object(came)), Ok(Value::Object(mut record))) =
        (serde_json::from_slice(&decoded.event.body), serde_json::from_str(&json))
    else {
        // A number at a double's very end.
        return Map::new();
    };
    let mut expected = Map::new();
    let mut relay = None;
    for (name, value) in came {
        match CAMEL.iter().find(|(camel, _)| *camel == name) {
            Some((_, name)) => drop(expected.insert((*name).to_owned(), value)),
            None if name == "relay" => relay = Some(value),
            None => drop(expected.insert(name, value)),
        }
    }
    let event = &decoded.event;
    for (name, text) in [("id", &event.id), ("type", &event.kind)] {
        expected.insert(name.to_owned(), text.as_str().into());
    }
    expected.insert("timestamp".to_owned(), event.timestamp.as_str().into());
    let version = expected.entry("version").or_insert(Value::Null);
    if version.is_null() {
        *version = "v1".into();
    }
    let own = record.remove("relay").expect("it has a relay part");
    assert_eq!((own.get("received"), &own["sequence"]), (relay.as_ref(), &Value::from(7)));
    assert_eq!(record, expected);
    record
}

fn is_the_same_event_without_what_is_redacted(decoded: &Decoded) {
    let paths = ["event_data", "relay.received", "sandbox_metadata.*"].map(str::to_owned).to_vec();
    let redaction = Redaction::try_from(paths).unwrap();
    let body = redaction.body(decoded.event.body.clone());
    assert_eq!(redaction.body(body.clone()), body, "once is enough");
    let redacted = decode::listed(&body).expect("it is still an event");
    let (a, b) = (&redacted.event, &decoded.event);
    assert_eq!((&a.id, &a.kind, &a.timestamp, &a.sandbox_id), (&b.id, &b.kind, &b.timestamp, &b.sandbox_id));
    assert_eq!(redacted.team_id, decoded.team_id);
    let record: Value = serde_json::from_str(&rendered(&redacted)).unwrap_or_default();
    for value in [record.get("event_data"), record.pointer("/relay/received")].into_iter().flatten() {
        assert_eq!(value, "[redacted]");
    }
}
