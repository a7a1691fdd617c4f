//! What librdkafka says of itself by its error call-back: which kind of trouble that is, and what to do about it.

use super::failure;
use crate::sink::Reason;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of the client's own words; they go into logs and onto the status page.
const MAX_TEXT: usize = 500;

/// How a connection ends that the peer does not want.
const BROKEN: [&str; 3] = ["Broken pipe", "Connection reset", "Disconnected"];

/// The client's last complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) code: Code,
    pub(super) reason: Reason,
    /// The client's words, and the remedy where one is known.
    pub(super) text: String,
}

/// Shared by the producers that follow one another.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Complaint>>);

impl Trouble {
    pub(super) fn get(&self) -> Option<Complaint> {
        self.lock().clone()
    }

    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    /// That all brokers are down follows from what was said of each, and says less.
    pub(super) fn set(&self, code: Code, text: &str) {
        let mut last = self.lock();
        if code != Code::AllBrokersDown || last.is_none() {
            *last = Some(complaint(code, text));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Complaint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The texts are librdkafka's and OpenSSL's, as real brokers made them say; one that is not known here is passed on alone.
fn complaint(code: Code, text: &str) -> Complaint {
    let is_refused_certificate =
        text.contains("alert") && (text.contains("certificate") || text.contains("unknown ca"));
    let (reason, remedy) = if is_refused_certificate {
        let remedy =
            "the brokers want a certificate by an authority that they know: see tls.cert_file and tls.key_file";
        (Reason::Auth, Some(remedy))
    } else if text.contains("certificate verify failed") {
        let remedy = "either no authority in tls.ca_file (default: the system's) has signed the broker's certificate, or \
                      it is for another name than the one in `brokers`";
        (Reason::Connect, Some(remedy))
    } else if text.contains("PLAINTEXT broker listener") {
        (Reason::Connect, Some("leave `tls` out, or use the port where the brokers have TLS"))
    } else if code == Code::AllBrokersDown {
        let remedy = "no broker keeps the connection: if they want TLS or SASL, say so by `tls: {}` or `sasl`";
        return Complaint { code, reason: Reason::Connect, text: remedy.to_owned() };
    } else {
        let reason = failure::reason(code);
        let remedy = match code {
            // The connection ended before the broker had said who it is.
            Code::BrokerTransportFailure
                if text.contains("/bootstrap: ") && BROKEN.iter().any(|broken| text.contains(broken)) =>
            {
                Some("if the brokers want TLS or SASL, say so by `tls: {}` or `sasl`")
            }
            Code::UnsupportedSASLMechanism => Some("see sasl.mechanism"),
            // Of the token endpoint, with its own remedy.
            Code::Authentication | Code::SaslAuthenticationFailed if text.contains("OAUTHBEARER token") => None,
            // RFC 7628, section 3.2.2: how brokers refuse a token.
            Code::Authentication | Code::SaslAuthenticationFailed if text.contains("\"status\"") => {
                Some("the brokers do not take such a token: see sasl.scope and sasl.client_id")
            }
            Code::Authentication | Code::SaslAuthenticationFailed => Some("see sasl.username and sasl.password"),
            _ => None,
        };
        (reason, remedy)
    };
    let mut text: String = text.chars().take(MAX_TEXT).collect();
    if let Some(remedy) = remedy {
        text = format!("{text}; {remedy}");
    }
    Complaint { code, reason, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_less_does_not_replace_what_was_said() {
        let trouble = Trouble::default();
        trouble.set(Code::AllBrokersDown, "1/1 brokers are down");
        assert!(trouble.get().unwrap().text.contains("`tls: {}`"));
        trouble.set(Code::BrokerTransportFailure, "Connection refused");
        trouble.set(Code::AllBrokersDown, "1/1 brokers are down");
        let expected = Complaint {
            code: Code::BrokerTransportFailure,
            reason: Reason::Connect,
            text: "Connection refused".into(),
        };
        assert_eq!(trouble.get(), Some(expected));
        trouble.set(Code::BrokerTransportFailure, "a:9092/bootstrap: Send failed: Broken pipe (after 0ms in state UP)");
        assert!(trouble.get().unwrap().text.contains("`tls: {}`"));
        trouble.clear();
        assert_eq!(trouble.get(), None);
    }

    #[test]
    fn long_words_are_cut_and_the_remedy_is_kept() {
        let complaint = complaint(Code::Authentication, &"x".repeat(10_000));
        assert_eq!(complaint.reason, Reason::Auth);
        assert!(complaint.text.ends_with("sasl.password") && complaint.text.len() < 600, "{}", complaint.text);
    }
}
