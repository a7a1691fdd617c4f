//! A record as a NATS message.

use crate::percent;
use crate::route::Outgoing;
use crate::sink::handover::reject;
use crate::sink::{Reason, SendError};
use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};

/// In bytes. A server ends the connection at a protocol line over 4,096 bytes (`max_control_line`); beside the subject
/// the line holds the reply's subject and two sizes.
const MAX_SUBJECT: usize = 3500;

/// Refuses what could mean something else to the server than one plain subject: a second line of defence behind the
/// templates' escaping, since a space or a line break would inject protocol.
pub(super) fn check_subject(subject: &str) -> Result<(), SendError> {
    let problem = if subject.len() > MAX_SUBJECT {
        "is longer than 3500 bytes"
    } else if subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "holds white space or a control character"
    } else if subject.split('.').any(str::is_empty) {
        "has an empty token"
    } else if subject.contains(['*', '>']) {
        "holds a wildcard"
    } else {
        return Ok(());
    };
    // Debug, so that the message itself holds no control character.
    let shown: String = subject.chars().take(80).collect();
    Err(reject(Reason::Template, format!("the subject {shown:?} {problem}")))
}

/// As a header's value: what is visible ASCII, the rest and `%` as `%XX`. Servers and clients trim blanks at its ends, so
/// that two ids would be one.
fn visible(text: &str) -> String {
    percent::encode(text, |byte| byte.is_ascii_graphic() && byte != b'%')
}

/// `[<sink>:]<id>[::<replay>]`. No two of these are the same text: within each part the colon is `%3A`, and none is empty.
fn message_id(prefix: Option<&str>, id: &str, again: Option<&str>) -> String {
    let part = |text: &str| visible(text).replace(':', "%3A");
    let prefix = prefix.map(|prefix| part(prefix) + ":").unwrap_or_default();
    // What is sent once more is to be stored once more, and only once.
    let suffix = again.map(|again| format!("::{}", part(again))).unwrap_or_default();
    format!("{prefix}{}{suffix}", part(id))
}

/// `dedupe_prefix` keeps the ids of two sinks that feed one stream apart.
pub(super) fn headers(
    outgoing: &Outgoing,
    dedupe_prefix: Option<&str>,
    stream: Option<&str>,
) -> Result<HeaderMap, SendError> {
    let message_id = message_id(dedupe_prefix, &outgoing.id, outgoing.again());
    let (id, kind) = (visible(&outgoing.id), visible(&outgoing.kind));
    let own = [
        ("Nats-Msg-Id", Some(message_id.as_str())),
        ("Nats-Expected-Stream", stream),
        ("e2b-event-id", Some(&id)),
        ("e2b-event-type", Some(&kind)),
        ("content-type", Some(outgoing.content_type)),
    ];
    let own = own.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let further = outgoing.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut headers = HeaderMap::new();
    for (name, value) in own.chain(further) {
        // Parsed, because the conversions without an error panic on a line break.
        let invalid = |error: &dyn std::fmt::Display| reject(Reason::Other, format!("header {name:?}: {error}"));
        let parsed: HeaderName = name.parse().map_err(|error| invalid(&error))?;
        let value: HeaderValue = value.parse().map_err(|error| invalid(&error))?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn outgoing(headers: &[(&str, &str)]) -> Outgoing {
        Outgoing {
            sequence: 1,
            id: "id-1".to_owned(),
            kind: "sandbox.lifecycle.created".to_owned(),
            sandbox_id: "sbx".to_owned(),
            address: "e2b".to_owned(),
            key: String::new(),
            payload: Bytes::from_static(b"{}"),
            content_type: "application/json",
            unix_seconds: 0,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_hostile_subject_is_a_dead_letter() {
        let long = "x".repeat(MAX_SUBJECT + 1);
        for subject in [
            "",
            ".",
            "e2b.",
            ".e2b",
            "e2b..x",
            "e2b.x 6",
            "e2b.x\tq",
            "e2b.x 6\r\nPUB evil 0\r\n",
            "e2b.x\n",
            "e2b.\0",
            "e2b.\u{85}x",
            "e2b.\u{2028}x",
            "e2b.*",
            "e2b.>",
            "e2b.a*b",
            &long,
        ] {
            let error = check_subject(subject).expect_err(subject);
            let SendError::Reject { reason: Reason::Template, message } = error else { panic!("{error:?}") };
            assert!(!message.contains(char::is_control) && message.len() < 500, "{message:?}");
        }
        for subject in ["e2b", "e2b.sandbox.lifecycle.created.i%2Ax", "e2b.ü", "$KV.b.k", &"x".repeat(MAX_SUBJECT)] {
            assert_eq!(check_subject(subject), Ok(()));
        }
    }

    #[test]
    fn the_headers_are_the_contracts_and_the_formats() {
        let headers = headers(&outgoing(&[("ce-id", "id-1")]), Some("bus"), Some("E2B")).expect("valid");
        let get = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(get("Nats-Msg-Id").as_deref(), Some("bus:id-1"));
        assert_eq!(get("Nats-Expected-Stream").as_deref(), Some("E2B"));
        assert_eq!(get("e2b-event-id").as_deref(), Some("id-1"));
        assert_eq!(get("e2b-event-type").as_deref(), Some("sandbox.lifecycle.created"));
        assert_eq!(get("content-type").as_deref(), Some("application/json"));
        assert_eq!(get("ce-id").as_deref(), Some("id-1"));
    }

    #[test]
    fn what_is_sent_once_more_has_an_id_of_its_own_for_the_server_alone() {
        let again = outgoing(&[("e2b-relay-replay", "r-1")]);
        let id = |prefix| headers(&again, prefix, None).expect("valid").get("Nats-Msg-Id").map(ToString::to_string);
        assert_eq!((id(None).as_deref(), id(Some("bus")).as_deref()), (Some("id-1::r-1"), Some("bus:id-1::r-1")));
    }

    #[test]
    fn a_header_that_would_inject_protocol_is_a_dead_letter() {
        for (name, value) in [("a", "b\r\nPUB evil 0"), ("a\r\n", "b"), ("a:b", "c")] {
            let error = headers(&outgoing(&[(name, value)]), None, None).expect_err(name);
            assert!(matches!(error, SendError::Reject { .. }), "{error:?}");
        }
    }
}
