//! What NATS says, as [`SendError`]s.

use super::settings::Stream;
use crate::sink::handover::{record_only, reject, sink_wide};
use crate::sink::{Reason, SendError, peer};
use async_nats::jetstream::context::{
    AccountError, AccountErrorKind, CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind,
};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{ConnectError, ConnectErrorKind, Message, PublishError, PublishErrorKind, StatusCode};

/// An attempt to connect failed.
pub(super) fn connecting(error: &ConnectError, server: &str) -> SendError {
    let reason = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => Reason::Auth,
        ConnectErrorKind::TimedOut
        | ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => Reason::Connect,
    };
    sink_wide(reason, peer::hinted(format!("cannot connect to {server}: {error}")))
}

/// The client would not take a message.
pub(super) fn publishing(error: &PublishError, peer: &str) -> SendError {
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => reject(Reason::TooLarge, format!("too large for {peer}: {error}")),
        PublishErrorKind::InvalidSubject => reject(Reason::Template, error.to_string()),
        PublishErrorKind::Send => sink_wide(Reason::Connect, format!("the connection to {peer} is closed")),
    }
}

/// A record is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Now,
    /// The stream knew its id.
    Before,
}

/// What came back to a record's reply subject.
pub(super) fn acknowledgement(
    message: &Message,
    subject: &str,
    stream: Option<&Stream>,
    peer: &str,
) -> Result<Stored, SendError> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(no_stream(subject, stream, peer));
    }
    match serde_json::from_slice::<Response<PublishAck>>(&message.payload) {
        // A duplicate is stored already, which is what was asked for.
        Ok(Response::Ok(ack)) => Ok(if ack.duplicate { Stored::Before } else { Stored::Now }),
        Ok(Response::Err { error }) => Err(refused(&error, peer)),
        Err(error) => Err(record_only(Reason::Other, format!("not an acknowledgement, from {peer}: {error}"))),
    }
}

/// No server of the account has a stream for the subject, or JetStream is off.
pub(super) fn no_stream(subject: &str, stream: Option<&Stream>, peer: &str) -> SendError {
    let name = stream.map_or("E2B", |stream| stream.name.as_str());
    let subjects = stream.map(|stream| stream.subjects.join(",")).filter(|subjects| !subjects.is_empty());
    let subjects = subjects.as_deref().unwrap_or("e2b.>");
    sink_wide(
        Reason::Unroutable,
        format!(
            "no stream at {peer} takes the subject {subject}: create one, such as with \
             `nats stream add {name} --subjects '{subjects}' --defaults`, or set stream.name, stream.subjects and stream.create"
        ),
    )
}

/// An error that JetStream itself sends. Codes from nats-server's `errors.json`.
fn refused(error: &jetstream::Error, peer: &str) -> SendError {
    let message = format!("{peer} refused the record: {error}");
    match error.error_code() {
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            reject(Reason::TooLarge, message)
        }
        ErrorCode::STREAM_NOT_MATCH | ErrorCode::STREAM_NOT_FOUND | ErrorCode::JETSTREAM_NOT_ENABLED => {
            sink_wide(Reason::Unroutable, message)
        }
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => sink_wide(Reason::Auth, message),
        // Full (`STREAM_STORE_FAILED` is what a stream with `discard: new` answers) or shut: the same for every record.
        ErrorCode::STREAM_STORE_FAILED
        | ErrorCode::STREAM_SEALED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::MEMORY_RESOURCES_EXCEEDED
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::CLUSTER_NOT_AVAILABLE => sink_wide(Reason::Rejected, message),
        // 5xx is the server's trouble, 4xx something in this record.
        _ if error.code() >= 500 => sink_wide(Reason::Rejected, message),
        _ => record_only(Reason::Rejected, message),
    }
}

/// The stream could neither be found nor created.
pub(super) fn creating(error: &CreateStreamError, stream: &Stream, peer: &str) -> SendError {
    let reason = match error.kind() {
        CreateStreamErrorKind::TimedOut => Reason::Timeout,
        CreateStreamErrorKind::JetStreamUnavailable | CreateStreamErrorKind::NotFound => Reason::Unroutable,
        CreateStreamErrorKind::JetStream(refusal)
            if refusal.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
        {
            Reason::Auth
        }
        CreateStreamErrorKind::JetStream(_) => Reason::Rejected,
        CreateStreamErrorKind::EmptyStreamName
        | CreateStreamErrorKind::InvalidStreamName
        | CreateStreamErrorKind::DomainAndExternalSet
        | CreateStreamErrorKind::Response
        | CreateStreamErrorKind::ResponseParse => Reason::Other,
    };
    sink_wide(reason, format!("cannot create the stream {} at {peer}: {error}", stream.name))
}

/// JetStream knows no such stream.
pub(super) fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// The stream could not be asked for.
pub(super) fn stream(error: &GetStreamError, stream: &Stream, peer: &str) -> SendError {
    match error.kind() {
        GetStreamErrorKind::JetStream(_) if is_missing(error) => {
            let subjects = stream.subjects.join(",");
            no_stream(if subjects.is_empty() { "of this sink" } else { &subjects }, Some(stream), peer)
        }
        GetStreamErrorKind::JetStream(_)
        | GetStreamErrorKind::EmptyName
        | GetStreamErrorKind::Request
        | GetStreamErrorKind::InvalidStreamName => {
            let name = &stream.name;
            sink_wide(Reason::Unroutable, format!("cannot ask {peer} for the stream {name}: {error}"))
        }
    }
}

/// JetStream could not be asked for the account's limits.
pub(super) fn account(error: &AccountError, peer: &str) -> SendError {
    let reason = match error.kind() {
        AccountErrorKind::TimedOut => Reason::Timeout,
        AccountErrorKind::JetStreamUnavailable => Reason::Unroutable,
        AccountErrorKind::JetStream(_) => Reason::Rejected,
        AccountErrorKind::Other => Reason::Other,
    };
    sink_wide(reason, format!("no JetStream at {peer}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Scope;

    fn answered(payload: &str, status: Option<StatusCode>) -> Result<Stored, SendError> {
        let message = Message {
            subject: "_INBOX.x.1".into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: None,
            status,
            description: None,
            length: payload.len(),
        };
        acknowledgement(&message, "e2b.x", None, "nats://n1")
    }

    #[test]
    fn an_acknowledgement_is_success_even_of_a_duplicate() {
        assert_eq!(answered(r#"{"stream":"E2B","seq":1}"#, None), Ok(Stored::Now));
        assert_eq!(answered(r#"{"stream":"E2B","seq":1,"duplicate":true}"#, None), Ok(Stored::Before));
    }

    #[test]
    fn each_refusal_is_as_wide_as_its_cause() {
        let error = |code: u32, err_code: u32| {
            format!(r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"d"}},"stream":"E2B","seq":0}}"#)
        };
        for (answer, status, scope, reason) in [
            (String::new(), Some(StatusCode::NO_RESPONDERS), Some(Scope::Sink), Reason::Unroutable),
            (error(400, 10054), None, None, Reason::TooLarge),
            (error(400, 10097), None, None, Reason::TooLarge),
            (error(503, 10077), None, Some(Scope::Sink), Reason::Rejected),
            (error(400, 10060), None, Some(Scope::Sink), Reason::Unroutable),
            (error(400, 10109), None, Some(Scope::Sink), Reason::Rejected),
            (error(503, 10008), None, Some(Scope::Sink), Reason::Rejected),
            (error(500, 99999), None, Some(Scope::Sink), Reason::Rejected),
            (error(400, 99999), None, Some(Scope::Record), Reason::Rejected),
            ("nonsense".to_owned(), None, Some(Scope::Record), Reason::Other),
            ("{}".to_owned(), None, Some(Scope::Record), Reason::Other),
        ] {
            let outcome = answered(&answer, status).expect_err(&answer);
            let (found_scope, found_reason) = match outcome {
                SendError::Retry { scope, reason, .. } => (Some(scope), reason),
                SendError::Reject { reason, .. } => (None, reason),
                SendError::Drop { .. } => panic!("{answer} dropped"),
            };
            assert_eq!((found_scope, found_reason), (scope, reason), "{answer}");
        }
    }
}
