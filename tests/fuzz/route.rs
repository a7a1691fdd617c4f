//! Addresses and filters: whatever an operator writes, and whatever a stranger puts into a record.
//!
//! An input is one line, the template or the filter, and behind it the body of an event.

use super::{Outcome, Target};
use crate::support::stored;
use bytes::Bytes;
use e2b_relay::decode;
use e2b_relay::event::Stored;
use e2b_relay::route::{Escape, Filter, FilterError, Template, TemplateError, Verdict, View};
use fastrand::Rng;

const KINDS: [Escape; 4] = [Escape::KafkaTopic, Escape::KafkaKey, Escape::NatsSubject, Escape::AmqpRoutingKey];
/// For bodies that are no events.
const PLAIN: &str = r#"{"id":"1","type":"sandbox.lifecycle.killed","timestamp":"2026-08-06T20:59:36Z","sandbox_id":"iz62",
    "event_data":{"sandbox_metadata":{"env":"prod"},"list":[1,"a",null],"n":2.5}}"#;

#[test]
fn an_address_is_one_that_the_broker_takes_and_that_the_record_cannot_bend() {
    Target { name: "templates", rounds: 2_000, minutes: 1, seeds: Vec::new() }.fuzz(templates);
}

#[test]
fn a_filter_answers_or_says_what_is_wrong() {
    Target { name: "filters", rounds: 1_200, minutes: 1, seeds: Vec::new() }.fuzz(filters);
}

/// The line, and the event.
fn split(input: &[u8]) -> (String, Stored) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let line = String::from_utf8_lossy(&input[..end]).into_owned();
    let body = input.get(end + 1..).unwrap_or_default();
    let decoded = decode::listed(&Bytes::copy_from_slice(body));
    let decoded = decoded.unwrap_or_else(|_| decode::listed(&Bytes::from_static(PLAIN.as_bytes())).unwrap());
    let arrival = stored::arrival("2026-08-21T10:00:00Z".parse().unwrap());
    (line, Stored { sequence: 7, arrival, event: decoded.event })
}

fn with_view<T>(stored: &Stored, look: impl FnOnce(&View<'_>) -> T) -> T {
    let record = decode::stored(&stored.event).unwrap();
    look(&View::new(stored, &record, "0b7d2f0e-27c4-4b52-8d52-5fb3b1b9c0de"))
}

fn templates(input: &[u8], random: &mut Rng) -> Outcome {
    let (text, stored) = split(input);
    let kind = KINDS[random.usize(..KINDS.len())];
    let template = match Template::parse(&text, kind) {
        Ok(template) => template,
        Err(error) => return Err(is_refused_at_a_place(&error, &text)),
    };
    assert_eq!(template.is_literal(), !text.contains("{{"), "{text}");
    let rendered = with_view(&stored, |view| template.render(view));
    let plain = with_view(&split(b"").1, |view| template.render(view));
    match &rendered {
        Ok(address) => {
            is_an_address(kind, address);
            assert!(address.starts_with(template.literal_prefix()), "{address}");
            assert!(!template.is_literal() || *address == text, "{address}");
            // However many levels it has, no record adds one; but the type is written as the levels that it has.
            if let (Ok(plain), false) = (&plain, template.reads("type")) {
                assert_eq!(address.matches('.').count(), plain.matches('.').count(), "{address}, {plain}");
            }
        }
        Err(TemplateError::Syntax { .. } | TemplateError::Unsuitable { .. }) => panic!("{rendered:?} of a record"),
        Err(error) => assert!(error.to_string().len() <= text.len() + 200, "{error}"),
    }
    let what = rendered.as_ref().map_or_else(word, |address| address.len().min(64).to_string());
    Ok(format!("{kind:?} {what} {}", text.matches(['{', '|', '[', '(']).count()))
}

fn is_refused_at_a_place(error: &TemplateError, text: &str) -> String {
    match error {
        TemplateError::Syntax { column, problem } => {
            assert!((1..=text.chars().count() + 1).contains(column), "column {column} of {text:?}");
            assert!(!problem.is_empty());
        }
        TemplateError::Unsuitable { .. } | TemplateError::TooLong { .. } => {}
        other => panic!("{other} before there was a record"),
    }
    word(error)
}

/// Without what it quotes.
fn word(error: &impl ToString) -> String {
    let text = error.to_string();
    let own: String = text.split('`').step_by(2).collect();
    own.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == ' ').take(60).collect()
}

fn is_an_address(kind: Escape, address: &str) {
    assert!(address.len() <= kind.max_bytes(), "{} bytes", address.len());
    match kind {
        Escape::KafkaTopic => {
            let is_taken = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
            assert!(!["", ".", ".."].contains(&address) && address.chars().all(is_taken), "{address:?}");
        }
        Escape::NatsSubject => {
            let breaks = |letter: char| letter.is_whitespace() || letter.is_control() || matches!(letter, '*' | '>');
            assert!(address.split('.').all(|token| !token.is_empty()) && !address.contains(breaks), "{address:?}");
        }
        Escape::AmqpRoutingKey => assert!(!address.contains(char::is_control), "{address:?}"),
        Escape::KafkaKey => {}
    }
}

fn filters(input: &[u8], _: &mut Rng) -> Outcome {
    let (text, stored) = split(input);
    // What lies behind a stray quote is not counted by the filter itself; where it is long, it ends the process.
    if text.matches(['+', '-', '*', '/', '%']).count() > 120 {
        return Err("a sum without end".to_owned());
    }
    let filter = match Filter::parse(&text) {
        Ok(filter) => filter,
        Err(FilterError::Syntax { column, problem }) => {
            assert!((1..=text.chars().count() + 1).contains(&column), "column {column} of {text:?}");
            return Err(word(&problem));
        }
        Err(FilterError::Unsuitable(problem)) => return Err(word(&problem)),
    };
    assert_eq!(filter.text(), text);
    let ask = || with_view(&stored, |view| filter.matches(view));
    let verdict = ask();
    assert_eq!(verdict, ask(), "the same record, asked again");
    // The opposite is the opposite, and what is absent is absent.
    if let Ok(opposite) = Filter::parse(&format!("!({text})")) {
        let expected = verdict.as_ref().ok().map(|verdict| match verdict {
            Verdict::Match => Verdict::NoMatch,
            Verdict::NoMatch => Verdict::Match,
            Verdict::Absent => Verdict::Absent,
        });
        assert_eq!(with_view(&stored, |view| opposite.matches(view)).ok(), expected, "not of {verdict:?}");
    }
    Ok(match verdict {
        Ok(verdict) => format!("{verdict:?} {}", text.len().min(64)),
        Err(fault) => word(&fault),
    })
}
