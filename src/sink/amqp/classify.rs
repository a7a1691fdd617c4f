//! What the broker and the client say, as [`SendError`]s.

use crate::sink::handover::{record_only, reject, sink_wide};
use crate::sink::{Reason, SendError, peer};
use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

/// Connecting, opening a channel or declaring failed: the same for every record.
pub(super) fn connecting(error: &Error, doing: &str, server: &str) -> SendError {
    let reason = match error.kind() {
        ErrorKind::ProtocolError(refusal) => match refusal.kind() {
            AMQPErrorKind::Soft(soft) => soft_reason(soft),
            AMQPErrorKind::Hard(hard) => hard_reason(hard),
        },
        ErrorKind::AuthProviderError(_) => Reason::Auth,
        // What is left is about bytes and sockets, and lapin's list may grow.
        _ => Reason::Connect,
    };
    sink_wide(reason, peer::hinted(format!("cannot {doing} {server}: {error}")))
}

/// No server took us. `failures` are in the order of the attempts.
pub(super) fn all_of(mut failures: Vec<SendError>) -> SendError {
    let refused = |failure: &SendError| matches!(failure, SendError::Retry { reason: Reason::Auth, .. });
    // What somebody has to put right is said before what may come back by itself.
    let reason = if failures.iter().any(refused) { Reason::Auth } else { Reason::Connect };
    match failures.pop() {
        Some(only) if failures.is_empty() => only,
        Some(last) => {
            let all = failures.iter().chain([&last]).map(ToString::to_string);
            sink_wide(reason, all.collect::<Vec<_>>().join("; "))
        }
        None => sink_wide(reason, "no server is named"),
    }
}

/// One record was published on a channel of its own, and that ended otherwise than by a confirmation.
pub(super) fn publishing(error: &Error, exchange: &str, peer: &str) -> SendError {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => refused(refusal, exchange, peer),
        ErrorKind::SerialisationError(_) => reject(Reason::Other, format!("cannot be written as AMQP: {error}")),
        ErrorKind::ChannelsLimitReached => sink_wide(Reason::Rejected, format!("{peer}: {error}")),
        // What is left is about bytes and sockets, and lapin's list may grow.
        _ => sink_wide(Reason::Connect, format!("the connection to {peer} was lost before the confirmation: {error}")),
    }
}

fn refused(refusal: &AMQPError, exchange: &str, peer: &str) -> SendError {
    let message = format!("{peer}: {refusal}");
    match refusal.kind() {
        AMQPErrorKind::Soft(soft) => match soft {
            // The channel was closed, and this record was the only one on it.
            AMQPSoftError::CONTENTTOOLARGE => reject(Reason::TooLarge, message),
            AMQPSoftError::PRECONDITIONFAILED => {
                // RabbitMQ has one code for all that is wrong with a message, its size (`max_message_size`) among them.
                let too_large = refusal.get_message().as_str().contains("size");
                reject(if too_large { Reason::TooLarge } else { Reason::Rejected }, message)
            }
            AMQPSoftError::NOTFOUND => sink_wide(
                Reason::Unroutable,
                format!("{message}; declare the exchange {exchange:?} at the broker, or set declare.exchange_type"),
            ),
            AMQPSoftError::ACCESSREFUSED => sink_wide(Reason::Auth, message),
            AMQPSoftError::NOROUTE | AMQPSoftError::NOCONSUMERS | AMQPSoftError::RESOURCELOCKED => {
                record_only(Reason::Rejected, message)
            }
        },
        // The connection was closed, for all records on it.
        AMQPErrorKind::Hard(hard) => sink_wide(hard_reason(hard), message),
    }
}

fn soft_reason(error: &AMQPSoftError) -> Reason {
    match error {
        AMQPSoftError::ACCESSREFUSED => Reason::Auth,
        AMQPSoftError::NOTFOUND => Reason::Unroutable,
        AMQPSoftError::CONTENTTOOLARGE
        | AMQPSoftError::NOROUTE
        | AMQPSoftError::NOCONSUMERS
        | AMQPSoftError::RESOURCELOCKED
        | AMQPSoftError::PRECONDITIONFAILED => Reason::Rejected,
    }
}

fn hard_reason(error: &AMQPHardError) -> Reason {
    match error {
        // The virtual host is missing, or not for this user.
        AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH => Reason::Auth,
        AMQPHardError::RESOURCEERROR => Reason::Rejected,
        AMQPHardError::CONNECTIONFORCED
        | AMQPHardError::FRAMEERROR
        | AMQPHardError::SYNTAXERROR
        | AMQPHardError::COMMANDINVALID
        | AMQPHardError::CHANNELERROR
        | AMQPHardError::UNEXPECTEDFRAME
        | AMQPHardError::NOTIMPLEMENTED
        | AMQPHardError::INTERNALERROR => Reason::Connect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Scope;

    fn published(kind: AMQPErrorKind, text: &str) -> SendError {
        let error = Error::from(ErrorKind::ProtocolError(AMQPError::new(kind, text.into())));
        publishing(&error, "e2b", "amqp://h")
    }

    #[test]
    fn a_refusal_concerns_the_record_or_all_of_them() {
        for (kind, text, scope, reason) in [
            (AMQPSoftError::PRECONDITIONFAILED.into(), "message size 3 is larger than 2", None, Reason::TooLarge),
            (AMQPSoftError::PRECONDITIONFAILED.into(), "invalid expiration", None, Reason::Rejected),
            (AMQPSoftError::NOTFOUND.into(), "no exchange 'e2b'", Some(Scope::Sink), Reason::Unroutable),
            (AMQPSoftError::ACCESSREFUSED.into(), "no", Some(Scope::Sink), Reason::Auth),
            (AMQPHardError::CONNECTIONFORCED.into(), "shutdown", Some(Scope::Sink), Reason::Connect),
        ] {
            let found = match published(kind, text) {
                SendError::Retry { scope, reason, .. } => (Some(scope), reason),
                SendError::Reject { reason, .. } => (None, reason),
                SendError::Drop { .. } => panic!("{text} dropped"),
            };
            assert_eq!(found, (scope, reason), "{text}");
        }
    }

    #[test]
    fn of_several_servers_each_says_why_it_did_not_take_us() {
        let failures = vec![sink_wide(Reason::Auth, "a: refused"), sink_wide(Reason::Connect, "b: away")];
        assert_eq!(all_of(failures), sink_wide(Reason::Auth, "a: refused; b: away"));
        let only = sink_wide(Reason::Rejected, "a: refused");
        assert_eq!(all_of(vec![only.clone()]), only);
    }

    #[test]
    fn a_lost_connection_and_a_refused_login_are_told_apart() {
        let lost = publishing(&std::io::Error::other("reset").into(), "e2b", "amqp://h");
        assert!(matches!(lost, SendError::Retry { scope: Scope::Sink, reason: Reason::Connect, .. }), "{lost:?}");
        let refusal = AMQPError::new(AMQPSoftError::ACCESSREFUSED.into(), "login was refused".into());
        let refused = connecting(&ErrorKind::ProtocolError(refusal).into(), "connect to", "amqp://h");
        assert!(matches!(refused, SendError::Retry { scope: Scope::Sink, reason: Reason::Auth, .. }), "{refused:?}");
    }
}
