//! The record as a CloudEvent, version 1.0: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>.

use super::Framing;
use super::view::View;
use crate::event::Origin;
use crate::percent;
use std::fmt::Write as _;

/// Context attributes in the specification's own names, and their values.
fn attributes(view: &View<'_>) -> [(&'static str, String); 7] {
    let stored = view.stored();
    let event = &stored.event;
    // The provider's own words stay apart from what the relay makes of them.
    let kind = match stored.arrival.origin {
        Origin::Webhook | Origin::Backfill => format!("dev.e2b.{}", event.kind),
        Origin::Metrics | Origin::Reconcile | Origin::Relay => format!("e2b-relay.{}", event.kind),
    };
    [
        ("specversion", "1.0".to_owned()),
        ("id", event.id.clone()),
        ("source", source(view)),
        ("type", kind),
        ("subject", event.sandbox_id.clone()),
        ("time", event.timestamp.as_str().to_owned()),
        ("datacontenttype", "application/json".to_owned()),
    ]
}

/// A URI reference, which together with the id names the event among all others. An event that names no team has the
/// relay's word for where it came from.
fn source(view: &View<'_>) -> String {
    match view.text("sandbox_team_id") {
        Some(team) => format!("/e2b/teams/{}", percent::encode(&team, percent::is_unreserved)),
        None => format!("/e2b/sources/{}", view.stored().arrival.source),
    }
}

/// Structured mode: attributes and record in one JSON object.
pub(super) fn structured(view: &View<'_>) -> String {
    let mut json = String::from("{");
    for (name, value) in attributes(view).iter().filter(|(_, value)| !value.is_empty()) {
        // Writing into memory does not fail.
        let _ = write!(json, "\"{name}\":{},", serde_json::Value::from(value.as_str()));
    }
    let _ = write!(json, "\"data\":{}}}", view.json());
    json
}

/// Binary mode: the attributes as headers, beside the record as the message itself. The content type has a place of its
/// own in every protocol.
pub(super) fn headers(view: &View<'_>, framing: Framing) -> Vec<(String, String)> {
    let attributes = attributes(view).into_iter();
    let attributes = attributes.filter(|(name, value)| *name != "datacontenttype" && !value.is_empty());
    match framing {
        Framing::Kafka => attributes.map(|(name, value)| (format!("ce_{name}"), value)).collect(),
        // As in HTTP, whose header values are visible ASCII.
        Framing::Nats => {
            let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"%".contains(&byte);
            attributes.map(|(name, value)| (format!("ce-{name}"), percent::encode(&value, plain))).collect()
        }
        // AMQP 0.9.1 has no binding; these are the names of the one for AMQP 1.0.
        Framing::Amqp => attributes.map(|(name, value)| (format!("cloudEvents:{name}"), value)).collect(),
        Framing::Line => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::fixture::Fixture;
    use serde_json::{Value, json};

    const TEAM: &str = r#""460355b3-4f64-48f9-9a16-4442817f79f5""#;

    fn killed(team: &str) -> Fixture {
        Fixture::with("sandbox.lifecycle.killed", "iz62km2v0zwlow3i7icxv", &[("sandbox_team_id", team)])
    }

    #[test]
    fn a_structured_event_holds_the_record_as_its_data() {
        let fixture = killed(TEAM);
        let text = structured(&fixture.view());
        let event: Value = serde_json::from_str(&text).expect("json");
        let record: Value = serde_json::from_str(&fixture.view().json()).expect("json");
        let expected = json!({
            "specversion": "1.0",
            "id": "f5911677-cb60-498f-afed-f68143b3cc59",
            "source": "/e2b/teams/460355b3-4f64-48f9-9a16-4442817f79f5",
            "type": "dev.e2b.sandbox.lifecycle.killed",
            "subject": "iz62km2v0zwlow3i7icxv",
            "time": "2025-08-06T20:59:36Z",
            "datacontenttype": "application/json",
            "data": record,
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn headers_follow_each_protocols_binding() {
        let fixture = killed(TEAM);
        let names = |framing| {
            let headers = headers(&fixture.view(), framing);
            headers.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(Framing::Kafka), "ce_specversion ce_id ce_source ce_type ce_subject ce_time");
        assert_eq!(names(Framing::Nats), "ce-specversion ce-id ce-source ce-type ce-subject ce-time");
        let amqp = names(Framing::Amqp);
        assert!(amqp.starts_with("cloudEvents:specversion cloudEvents:id "), "{amqp}");
        assert_eq!(names(Framing::Line), "");
    }

    #[test]
    fn what_the_relay_makes_is_not_passed_off_as_the_providers() {
        for (origin, kind) in [
            (Origin::Webhook, "dev.e2b.x"),
            (Origin::Backfill, "dev.e2b.x"),
            (Origin::Metrics, "e2b-relay.x"),
            (Origin::Reconcile, "e2b-relay.x"),
            (Origin::Relay, "e2b-relay.x"),
        ] {
            let mut fixture = Fixture::with("x", "s", &[]);
            fixture.stored.arrival.origin = origin;
            let event: Value = serde_json::from_str(&structured(&fixture.view())).expect("json");
            assert_eq!(event["type"], kind);
        }
    }

    #[test]
    fn a_source_is_a_uri_reference_whatever_the_team_is_called() {
        let source = |team: &str| source(&killed(team).view());
        assert_eq!(source(r#""a b/../ü?#""#), "/e2b/teams/a%20b%2F..%2F%C3%BC%3F%23");
        for none in ["null", r#""""#, "7", "{}"] {
            assert_eq!(source(none), "/e2b/sources/acme", "{none}");
        }
    }

    #[test]
    fn a_nats_header_is_visible_ascii() {
        let fixture = Fixture::with("sandbox.lifecycle.killed", "ü \"100 %\"", &[]);
        let headers = headers(&fixture.view(), Framing::Nats);
        let subject = headers.iter().find(|(name, _)| name == "ce-subject").map(|(_, value)| value.as_str());
        assert_eq!(subject, Some("%C3%BC%20%22100%20%25%22"));
    }
}
