use super::*;
use crate::event::{Origin, RelayPart};
use proptest::prelude::*;
use serde_json::{Value, json};

fn decode(body: &str) -> Result<Decoded, Malformed> {
    delivery(&Verified::unproven(Dialect::E2b, body.to_owned()))
}

/// What consumers get.
fn stored_record(decoded: &Decoded) -> Record<'_> {
    stored(&decoded.event).expect("it was an event before")
}

/// As a consumer gets it, `relay` aside.
fn record(record: &Record<'_>) -> String {
    let relay = RelayPart {
        source: "acme",
        origin: Origin::Webhook,
        sequence: 1,
        instance: "i",
        received_at: jiff::Timestamp::UNIX_EPOCH,
        webhook_id: None,
        delivery_id: None,
    };
    let json = record.to_json(&relay);
    let (fields, _) = json.split_once(",\"relay\":{\"schema\"").expect("has a relay part");
    format!("{fields}}}")
}

const V2: &str = r#"{"id": "f5911677-cb60-498f-afed-f68143b3cc59", "version": "v2", "type": "sandbox.lifecycle.killed",
 "timestamp": "2025-08-06T22:59:36.120+02:00", "event_category": "lifecycle", "event_label": "kill",
 "event_data": {"execution": {"vcpu_count": 2, "memory_mb": 512.0}, "note": "a b"}, "sandbox_id": "iz62",
 "sandbox_execution_id": "1dae", "sandbox_template_id": "rki5", "sandbox_build_id": "a979",
 "sandbox_team_id": "460355b3", "events_ttl_days": 7}"#;

const V1: &str = r#"{"version":"v2","id":"f5911677-cb60-498f-afed-f68143b3cc59","type":"sandbox.lifecycle.killed",
 "timestamp":"2025-08-06T22:59:36.120+02:00","eventCategory":"lifecycle","eventLabel":"kill",
 "eventData":{"execution":{"vcpu_count":2,"memory_mb":512.0},"note":"a b"},"events_ttl_days":7,"sandboxId":"iz62",
 "sandboxTeamId":"460355b3","sandboxExecutionId":"1dae","sandboxTemplateId":"rki5","sandboxBuildId":"a979"}"#;

const RECORD: &str = concat!(
    r#"{"id":"f5911677-cb60-498f-afed-f68143b3cc59","type":"sandbox.lifecycle.killed","version":"v2","#,
    r#""timestamp":"2025-08-06T20:59:36.120Z","event_category":"lifecycle","event_label":"kill","#,
    r#""event_data":{"execution":{"vcpu_count":2,"memory_mb":512.0},"note":"a b"},"sandbox_id":"iz62","#,
    r#""sandbox_execution_id":"1dae","sandbox_template_id":"rki5","sandbox_build_id":"a979","#,
    r#""sandbox_team_id":"460355b3","events_ttl_days":7}"#
);

const SELF_HOSTED: &str = r#"{"eventCategory":"sandbox","eventLabel":"kill","sandboxId":"sbx_abc123","sandboxTeamId":"team_xyz","timestamp":"2025-10-15T12:00:00Z"}"#;

#[test]
fn both_spellings_give_the_same_record() {
    for body in [V2, V1] {
        let decoded = decode(body).expect("an event");
        assert_eq!(record(&stored_record(&decoded)), RECORD);
        assert_eq!(decoded.event.id, "f5911677-cb60-498f-afed-f68143b3cc59");
        assert_eq!(decoded.event.kind, "sandbox.lifecycle.killed");
        assert_eq!(decoded.event.timestamp.as_str(), "2025-08-06T20:59:36.120Z");
        assert_eq!(decoded.event.sandbox_id, "iz62");
        assert_eq!(decoded.event.body, body.as_bytes());
        assert_eq!(decoded.team_id.as_deref(), Some("460355b3"));
    }
}

#[test]
fn a_label_alone_is_mapped_and_gets_an_id_from_the_body() {
    let decoded = delivery(&Verified::unproven(Dialect::Hmac, SELF_HOSTED)).expect("an event");
    // Python: uuid.uuid5(namespace, "body:" + hashlib.sha256(body).hexdigest())
    assert_eq!(decoded.event.id, "c2426de5-cc2d-5f8b-a7d1-2ac1be28dc0d");
    assert_eq!(
        record(&stored_record(&decoded)),
        format!(
            concat!(
                r#"{{"id":"{}","type":"sandbox.lifecycle.killed","version":"v1","timestamp":"2025-10-15T12:00:00Z","#,
                r#""event_category":"sandbox","event_label":"kill","sandbox_id":"sbx_abc123","sandbox_team_id":"team_xyz"}}"#
            ),
            decoded.event.id
        )
    );
    for (label, kind) in [
        ("create", "sandbox.lifecycle.created"),
        ("update", "sandbox.lifecycle.updated"),
        ("pause", "sandbox.lifecycle.paused"),
        ("resume", "sandbox.lifecycle.resumed"),
        ("checkpoint", "sandbox.lifecycle.checkpointed"),
        ("kill", "sandbox.lifecycle.killed"),
        ("fork", "sandbox.lifecycle.fork"),
    ] {
        let body = json!({"event_label": label, "sandbox_id": "s", "timestamp": "2025-10-15T12:00:00Z"}).to_string();
        assert_eq!(decode(&body).expect("an event").event.kind, kind);
    }
}

fn with(name: &str, value: Value) -> String {
    let mut body: Value = serde_json::from_str(V2).expect("valid");
    body[name] = value;
    body.to_string()
}

fn without(name: &str) -> String {
    let mut body: Value = serde_json::from_str(V2).expect("valid");
    body.as_object_mut().expect("an object").remove(name).expect("was there");
    body.to_string()
}

#[test]
fn the_id_may_only_be_missing_where_no_cloud_sends_one() {
    for body in [without("id"), with("id", Value::Null)] {
        assert_eq!(decode(&body).map(|_| ()), Err(Malformed::Missing("id")));
        let derived = delivery(&Verified::unproven(Dialect::Hmac, body.clone())).expect("an event");
        assert_eq!(derived.event.id, event::body_id(&Verified::unproven(Dialect::Hmac, body).sha256_hex()));
        assert_eq!(stored_record(&derived).text("id"), Some(derived.event.id));
    }
    let given = delivery(&Verified::unproven(Dialect::Hmac, V2)).expect("an event");
    assert_eq!(given.event.id, "f5911677-cb60-498f-afed-f68143b3cc59");
}

#[test]
fn the_fields_that_the_relay_rests_on_are_checked() {
    for name in ["id", "type", "timestamp", "sandbox_id"] {
        let broken = |value: Value| decode(&with(name, value)).map(|_| ());
        assert_eq!(broken(json!("")), Err(Malformed::Empty(name)));
        assert_eq!(broken(json!(7)), Err(Malformed::NotText(name)));
        assert_eq!(broken(json!(["x"])), Err(Malformed::NotText(name)));
        assert_eq!(broken(json!("ä".repeat(256))), Err(Malformed::TooLong(name)));
        for control in ["a\0", "\n", "a\u{7f}b", "\u{85}"] {
            assert_eq!(broken(json!(control)), Err(Malformed::ControlCharacter(name)), "{control:?}");
        }
        if name != "timestamp" {
            assert_eq!(broken(json!("ä".repeat(255))), Ok(()));
        }
    }
    assert_eq!(decode(&without("timestamp")).map(|_| ()), Err(Malformed::Missing("timestamp")));
    assert_eq!(decode(&without("sandbox_id")).map(|_| ()), Err(Malformed::Missing("sandbox_id")));
    assert_eq!(
        decode(&with("timestamp", json!("today"))).map(|_| ()),
        Err(Malformed::Timestamp(event::ParseTimestampError))
    );
    assert_eq!(decode("{}").map(|_| ()), Err(Malformed::NoType));
    assert_eq!(decode(r#"{"type":null,"eventLabel":null}"#).map(|_| ()), Err(Malformed::NoType));
    assert_eq!(decode(r#"{"eventLabel":""}"#).map(|_| ()), Err(Malformed::Empty("event_label")));
}

#[test]
fn two_spellings_of_one_field_are_refused() {
    for (snake, camel) in
        [("sandbox_id", "sandboxId"), ("event_data", "eventData"), ("sandbox_team_id", "sandboxTeamId")]
    {
        let body = with(camel, Value::Null);
        assert_eq!(decode(&body).map(|_| ()), Err(Malformed::TwoSpellings(snake)));
    }
}

#[test]
fn what_may_be_absent_stays_absent_and_null_stays_null() {
    let bare =
        r#"{"id":"1","type":"sandbox.lifecycle.checkpointed","timestamp":"2025-10-15T12:00:00Z","sandbox_id":"s"}"#;
    assert_eq!(
        record(&stored_record(&decode(bare).expect("an event"))),
        r#"{"id":"1","type":"sandbox.lifecycle.checkpointed","version":"v1","timestamp":"2025-10-15T12:00:00Z","sandbox_id":"s"}"#
    );
    let decoded = decode(&with("event_data", Value::Null)).expect("an event");
    assert_eq!(stored_record(&decoded).get("event_data"), Some("null"));
    let decoded = decode(&with("sandbox_team_id", Value::Null)).expect("an event");
    assert_eq!((stored_record(&decoded).get("sandbox_team_id"), decoded.team_id.as_deref()), (Some("null"), None));
    assert_eq!(decode(&with("sandbox_team_id", json!(7))).expect("an event").team_id.as_deref(), Some("7"));
    assert_eq!(
        stored_record(&decode(&with("event_label", json!(""))).expect("an event")).get("event_label"),
        Some("\"\"")
    );
}

#[test]
fn a_type_and_fields_not_known_here_pass_through() {
    let body = with("type", json!("sandbox.lifecycle.forked"))
        .replace("\"events_ttl_days\":7", r#""x_parent":{ "a" : 1.0e5 },"eventsTtlDays":7,"relay":"theirs""#);
    let decoded = decode(&body).expect("an event");
    assert_eq!(decoded.event.kind, "sandbox.lifecycle.forked");
    assert_eq!(stored_record(&decoded).get("x_parent"), Some(r#"{"a":1.0e5}"#));
    assert_eq!(stored_record(&decoded).get("eventsTtlDays"), Some("7"));
    assert_eq!(stored_record(&decoded).get("relay"), Some("\"theirs\""));
}

#[test]
fn a_body_extended_behind_its_signature_is_refused() {
    const SECRET_LENGTH: usize = 32;
    // What an attacker can sign without the secret: the body, SHA-256's own padding, and anything he likes.
    for suffix in ["", "}", r#","sandbox_id":"other"}"#, "{}", V2] {
        let mut body = V2.as_bytes().to_vec();
        body.push(0x80);
        while (SECRET_LENGTH + body.len()) % 64 != 56 {
            body.push(0);
        }
        body.extend(((SECRET_LENGTH + V2.len()) as u64 * 8).to_be_bytes());
        body.extend(suffix.as_bytes());
        let refused = delivery(&Verified::unproven(Dialect::E2b, body)).map(|_| ());
        assert_eq!(refused, Err(Malformed::NotUtf8 { offset: V2.len() }));
    }
}

#[test]
fn messages_never_repeat_the_body() {
    let canary = "c4n4ry";
    for body in [
        format!("{{\"{canary}\":1,\"{canary}\":2}}"),
        format!("{{\"{canary}\":{canary}}}"),
        with("timestamp", json!(canary)),
        with("id", json!(format!("{canary}\n"))),
        with("type", json!(canary.repeat(99))),
        with("sandboxId", json!(canary)),
    ] {
        let message = decode(&body).map(|_| ()).expect_err(&body).to_string();
        assert!(!message.contains(canary), "{message}");
    }
}

fn any_member() -> impl Strategy<Value = (String, Value)> {
    let name =
        prop_oneof![any::<String>(), "[a-z_]{1,12}", Just("event_data".to_owned()), Just("eventData".to_owned())];
    let value = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::collection::btree_map(any::<String>(), any::<Vec<String>>(), 0..4).prop_map(|map| json!(map)),
    ];
    (name, value)
}

proptest! {
    #[test]
    fn the_record_holds_every_member_as_serde_json_reads_it(members in prop::collection::vec(any_member(), 0..8), pretty: bool) {
        let mut body: Value = serde_json::from_str(V2).expect("valid");
        body.as_object_mut().expect("an object").remove("event_data");
        for (name, value) in members {
            // Those are checked, and would be refused.
            if body.get(&name).is_none() && !["sandboxId", "eventLabel"].contains(&name.as_str()) {
                body[name] = value;
            }
        }
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.expect("writes");
        // Read once more, since reading a float may round its last digit.
        let body: Value = serde_json::from_str(&text).expect("valid");
        let both = body.get("event_data").is_some() && body.get("eventData").is_some();
        match decode(&text) {
            Err(error) => prop_assert!(both, "{}", error),
            Ok(decoded) => {
                prop_assert!(!both);
                let record = stored_record(&decoded);
                for (name, value) in body.as_object().expect("an object") {
                    let name = if name == "eventData" { "event_data" } else { name };
                    let json = record.get(name).expect("every member is in the record");
                    if name != "timestamp" {
                        prop_assert_eq!(&serde_json::from_str::<Value>(json).expect("JSON"), value);
                    }
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body: Vec<u8>) {
        let _ = delivery(&Verified::unproven(Dialect::Hmac, body.clone()));
        let timestamp = Timestamp::from(jiff::Timestamp::UNIX_EPOCH);
        let event = Event { id: "id".into(), kind: "type".into(), timestamp, sandbox_id: "sbx".into(), body: body.into() };
        let _ = stored(&event);
    }
}
