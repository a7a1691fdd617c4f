use super::*;
use crate::metrics::{FILTERED_REASONS, SINK_REASONS};
use crate::route::fixture::{Fixture, INSTANCE};

fn router(settings: &Settings) -> Router {
    let addressing = Addressing::kafka("e2b.events", "{{ sandbox_id }}").expect("valid");
    Router::new(settings, addressing).expect("valid")
}

fn route(router: &Router, fixture: &Fixture) -> Decision {
    router.route(&fixture.stored, &fixture.record, INSTANCE)
}

#[test]
fn without_conditions_every_record_is_sent() {
    let fixture = Fixture::env("prod");
    let Decision::Send(outgoing) = route(&router(&Settings::default()), &fixture) else { panic!("not sent") };
    assert_eq!(outgoing.address, "e2b.events");
    assert_eq!(outgoing.key, "iz62km2v0zwlow3i7icxv");
    assert_eq!(outgoing.sequence, 4711);
    assert_eq!(outgoing.id, fixture.stored.event.id);
    assert_eq!(outgoing.kind, "sandbox.lifecycle.killed");
    assert_eq!(outgoing.unix_seconds, 1_754_513_976);
    assert_eq!(outgoing.content_type, "application/json");
    let record: serde_json::Value = serde_json::from_slice(&outgoing.payload).expect("json");
    assert_eq!(record["relay"]["instance"], INSTANCE);
}

#[test]
fn types_are_globs_and_any_of_them_suffices() {
    for (types, taken) in [
        (vec!["sandbox.lifecycle.*"], true),
        (vec!["sandbox.*"], true),
        (vec!["*"], true),
        (vec!["sandbox.lifecycle.created", "*.killed"], true),
        (vec!["sandbox.lifecycle.{killed,paused}"], true),
        (vec!["sandbox.lifecycle.created"], false),
        (vec!["sandbox.metrics"], false),
        (vec!["killed"], false),
    ] {
        let settings = Settings { types: types.iter().map(|t| (*t).to_owned()).collect(), ..Settings::default() };
        let decision = route(&router(&settings), &Fixture::env("prod"));
        assert_eq!(decision == Decision::Skip(Skip::Type), !taken, "{types:?}");
    }
    let settings = Settings { types: vec!["[".to_owned()], ..Settings::default() };
    assert!(matches!(Router::new(&settings, Addressing::lines()), Err(RouterError::Types(_))));
}

#[test]
fn sources_are_names() {
    for (sources, taken) in [(vec![], true), (vec!["acme"], true), (vec!["other", "acme"], true), (vec!["ac"], false)] {
        let settings = Settings { sources: sources.iter().map(|s| (*s).to_owned()).collect(), ..Settings::default() };
        let decision = route(&router(&settings), &Fixture::env("prod"));
        assert_eq!(decision == Decision::Skip(Skip::Source), !taken, "{sources:?}");
    }
}

#[test]
fn a_filter_sends_skips_or_rejects() {
    let filter = r#"event_data.sandbox_metadata.env.startsWith("prod")"#;
    let router = router(&Settings { filter: Some(filter.to_owned()), ..Settings::default() });
    assert!(matches!(route(&router, &Fixture::env("prod")), Decision::Send(_)));
    assert_eq!(route(&router, &Fixture::env("dev")), Decision::Skip(Skip::Filter));
    assert_eq!(route(&router, &Fixture::new("null")), Decision::Skip(Skip::FilterAbsent));
    let number = Fixture::new(r#"{"sandbox_metadata":{"env":7}}"#);
    assert!(matches!(route(&router, &number), Decision::Reject { fault: Fault::Filter, .. }));
}

#[test]
fn a_template_without_a_value_rejects() {
    let addressing = Addressing::nats("e2b.{{ event_data.sandbox_metadata.env }}").expect("valid");
    let router = Router::new(&Settings::default(), addressing).expect("valid");
    let decision = route(&router, &Fixture::new("null"));
    let Decision::Reject { fault: Fault::Template, message } = decision else { panic!("{decision:?}") };
    assert!(message.contains("event_data.sandbox_metadata.env"), "{message}");
}

#[test]
fn lines_have_no_address() {
    let settings = Settings { format: Format::Raw, ..Settings::default() };
    let router = Router::new(&settings, Addressing::lines()).expect("valid");
    let Decision::Send(outgoing) = route(&router, &Fixture::env("prod")) else { panic!("not sent") };
    assert_eq!((outgoing.address.as_str(), outgoing.key.as_str()), ("", ""));
    assert!(outgoing.payload.starts_with(b"{\"id\":"));
}

#[test]
fn every_reason_is_a_label_that_stands_at_zero_from_the_start() {
    for skip in [Skip::Type, Skip::Source, Skip::Filter, Skip::FilterAbsent] {
        assert!(FILTERED_REASONS.contains(&skip.as_str()));
    }
    for fault in [Fault::Filter, Fault::Template] {
        assert!(SINK_REASONS.contains(&fault.as_str()));
    }
}
