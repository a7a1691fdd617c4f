//! What librdkafka's errors mean for a record and for the sink.

use crate::sink::{Reason, Scope, SendError};
use rdkafka::error::RDKafkaErrorCode as Code;

/// What has to be known beside the error's code to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// The topic depends on the record, so one that is missing says nothing about other records.
    pub(super) templated: bool,
    /// The record was in no batch with others, so that a refusal of its batch is about it.
    pub(super) alone: bool,
}

/// Whom an error concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The broker refused the batch for what a record of it holds.
    Record(Reason),
    /// The topic is missing or closed to us.
    Topic(Reason),
    /// Every record would meet it.
    Sink(Reason),
}

/// Judges an error; `message` is for people.
pub(super) fn judge(code: Code, circumstances: Circumstances, message: String) -> SendError {
    let retry = |reason, message| SendError::Retry { scope: Scope::Sink, reason, message };
    match kind(code) {
        Kind::Record(reason) if circumstances.alone => SendError::Reject { reason, message },
        // A topic made of a record's own fields must not halt the sink: strangers choose what metadata says.
        Kind::Topic(reason) if circumstances.templated => SendError::Reject { reason, message },
        Kind::Record(reason) | Kind::Topic(reason) | Kind::Sink(reason) => retry(reason, message),
    }
}

/// Whether a batch was refused of which any record may be the cause.
pub(super) fn is_about_a_batch(code: Code) -> bool {
    matches!(kind(code), Kind::Record(_))
}

/// Whether the topic does not exist.
pub(super) fn is_topic_missing(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownTopicId)
}

/// The metrics' word for an error.
pub(super) fn reason(code: Code) -> Reason {
    match kind(code) {
        Kind::Record(reason) | Kind::Topic(reason) | Kind::Sink(reason) => reason,
    }
}

/// The error in librdkafka's words, and what to do where that is known.
pub(super) fn explain(code: Code) -> String {
    let remedy = match code {
        Code::TopicAuthorizationFailed => "the brokers' rules must allow DESCRIBE and WRITE on the topic",
        Code::ClusterAuthorizationFailed => {
            "the brokers' rules must allow WRITE on the topic, and before Kafka 2.8 IDEMPOTENT_WRITE on the cluster or \
             else `idempotence: false`"
        }
        Code::TransactionalIdAuthorizationFailed => {
            "the brokers' rules must allow DESCRIBE and WRITE on the transactional ids that begin with e2b-relay/"
        }
        Code::ProducerFenced | Code::Fenced => {
            "another relay with a copy of this store sends under this sink's name: let only one run"
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition => "make the topic, or correct `topic` or `fallback_topic`",
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than the topic's min.insync.replicas"
        }
        _ => return code.to_string(),
    };
    format!("{code}; {remedy}")
}

/// Every code that a producer of librdkafka 2.12 is known to report, by name. The rest (consumer groups, transactions,
/// administration, codes yet to come) is retried: what is not known may heal, and nothing is lost by it.
fn kind(code: Code) -> Kind {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            Kind::Record(Reason::TooLarge)
        }
        Code::InvalidMessage
        | Code::BadMessage
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::UnsupportedForMessageFormat => Kind::Record(Reason::Rejected),
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::InvalidTopic => Kind::Topic(Reason::Unroutable),
        Code::TopicAuthorizationFailed => Kind::Topic(Reason::Auth),
        Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SecurityDisabled => Kind::Sink(Reason::Auth),
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::SSL
        | Code::NetworkException
        | Code::BrokerNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::DestroyBroker
        | Code::BrokerDestroy => Kind::Sink(Reason::Connect),
        Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::ISRInsufficient
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::QueueFull => Kind::Sink(Reason::Timeout),
        // Another record of the batch was the invalid one; this one goes again.
        Code::InvalidDifferentRecord => Kind::Sink(Reason::Rejected),
        // The producer came to an end with the record in it, or a broker has trouble of its own.
        Code::Fatal
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::OutOfOrderSequenceNumber
        | Code::DuplicateSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerEpoch
        | Code::ProducerFenced
        | Code::KafkaStorageError
        | Code::ThrottlingQuotaExceeded
        | Code::UnsupportedCompressionType
        | Code::InvalidRequiredAcks => Kind::Sink(Reason::Other),
        _ => Kind::Sink(Reason::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: Code, templated: bool, alone: bool) -> SendError {
        judge(code, Circumstances { templated, alone }, String::new())
    }

    fn retry(reason: Reason) -> SendError {
        SendError::Retry { scope: Scope::Sink, reason, message: String::new() }
    }

    fn reject(reason: Reason) -> SendError {
        SendError::Reject { reason, message: String::new() }
    }

    #[test]
    fn a_refused_batch_is_one_records_fault_only_if_it_was_alone() {
        assert_eq!(judged(Code::MessageSizeTooLarge, false, true), reject(Reason::TooLarge));
        assert_eq!(judged(Code::MessageSizeTooLarge, false, false), retry(Reason::TooLarge));
        assert_eq!(judged(Code::InvalidRecord, false, true), reject(Reason::Rejected));
        assert_eq!(judged(Code::InvalidDifferentRecord, false, true), retry(Reason::Rejected));
        assert!(is_about_a_batch(Code::InvalidTimestamp) && !is_about_a_batch(Code::TopicAuthorizationFailed));
    }

    #[test]
    fn a_missing_topic_halts_the_sink_unless_the_record_chose_it() {
        for (code, reason) in [
            (Code::UnknownTopicOrPartition, Reason::Unroutable),
            (Code::UnknownTopic, Reason::Unroutable),
            (Code::TopicAuthorizationFailed, Reason::Auth),
        ] {
            assert_eq!(judged(code, false, true), retry(reason));
            assert_eq!(judged(code, true, true), reject(reason));
        }
    }

    #[test]
    fn trouble_with_brokers_is_never_the_records_fault() {
        for (code, reason) in [
            (Code::AllBrokersDown, Reason::Connect),
            (Code::SaslAuthenticationFailed, Reason::Auth),
            (Code::ClusterAuthorizationFailed, Reason::Auth),
            (Code::MessageTimedOut, Reason::Timeout),
            (Code::QueueFull, Reason::Timeout),
            (Code::Fatal, Reason::Other),
            (Code::RebootstrapRequired, Reason::Other),
        ] {
            assert_eq!(judged(code, true, true), retry(reason));
        }
    }
}
