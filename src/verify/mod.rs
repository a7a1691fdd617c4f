//! The signature dialects: whether a body was signed by who knows the secret. Pure: no clock, no I/O, no tokio.
//!
//! The signature is judged over the raw bytes, before anybody parses them. [`Verified`] is the proof, and the only
//! thing a delivery can be decoded from.

mod diagnose;
mod digest;
mod presented;

pub use diagnose::{Alphabet, Diagnosis, NearMiss};
pub use presented::Presented;

use crate::secret::Secret;
use bytes::Bytes;
use digest::Key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// How a body was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `e2b-signature` = base64(SHA-256(secret ‖ body)), what E2B's cloud sends.
    E2b,
    /// `e2b-signature` = base64(HMAC-SHA256(secret, body)), what E2B's dashboard says it sends.
    E2bHmac,
    /// `X-E2B-Signature` = hex(HMAC-SHA256(secret, body)), of the self-hosting guide.
    Hmac,
}

/// Which dialects a source takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    /// `e2b` or `hmac`, by the header that is there.
    #[default]
    Auto,
    /// `e2b-signature` = base64(SHA-256(secret ‖ body)).
    E2b,
    /// `X-E2B-Signature` = hex(HMAC-SHA256(secret, body)).
    Hmac,
    /// `e2b-signature` = base64(HMAC-SHA256(secret, body)).
    E2bHmac,
}

/// A body whose signature was found right. Made here only.
#[derive(Debug, Clone)]
pub struct Verified {
    body: Bytes,
    dialect: Dialect,
    secret: usize,
}

impl Verified {
    /// The raw bytes, as they were signed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// How they were signed.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Which of the source's secrets signed it, counted from 0 in the settings' order.
    pub fn secret(&self) -> usize {
        self.secret
    }

    /// SHA-256 of the raw body in lower-case hex, from which the id of a delivery without one is derived.
    pub fn sha256_hex(&self) -> String {
        digest::sha256_hex(&self.body)
    }
}

#[cfg(test)]
impl Verified {
    /// For the tests of `decode`, which need no signature.
    pub(crate) fn unproven(dialect: Dialect, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), dialect, secret: 0 }
    }
}

/// Why a body is not [`Verified`]. The messages say nothing that the sender did not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No header of a dialect that the source takes.
    #[error("no signature")]
    Missing,
    /// A signature or version header came more than once, so that it is open which of them counts.
    #[error("a signature header is repeated")]
    Repeated,
    /// `e2b-signature` and `X-E2B-Signature` came together.
    #[error("two signature dialects at once")]
    BothDialects,
    /// `e2b-signature-version` is neither absent nor `v1`.
    #[error("unknown signature version")]
    UnknownVersion,
    /// Not base64 (or hex, in `X-E2B-Signature`) of 32 bytes.
    #[error("malformed signature")]
    Unreadable,
    /// Well formed, but none of the secrets makes it.
    #[error("wrong signature")]
    Wrong,
}

/// The secrets of one source and the dialects that it takes.
pub struct Verifier {
    secrets: Vec<Secret>,
    keys: Vec<Key>,
    accept: Accept,
}

impl Verifier {
    /// Without a secret nothing is ever verified.
    pub fn new(secrets: &[Secret], accept: Accept) -> Self {
        let keys = secrets.iter().map(|secret| Key::new(secret.expose().as_bytes())).collect();
        Self { secrets: secrets.to_vec(), keys, accept }
    }

    /// Judges `body` by what the delivery's header presents.
    pub fn verify(&self, presented: &Presented<'_>, body: Bytes) -> Result<Verified, Refusal> {
        let (dialect, signature) = presented.signature(self.accept)?;
        let secret = self.find(dialect, &signature, &body).ok_or(Refusal::Wrong)?;
        Ok(Verified { body, dialect, secret })
    }

    /// Which secret makes `signature`. Every secret is tried and every comparison takes the same time, whatever
    /// matches, so that neither the bytes of a right signature nor the place of its secret can be measured.
    fn find(&self, dialect: Dialect, signature: &[u8; 32], body: &[u8]) -> Option<usize> {
        let mut found = Choice::from(0);
        let mut place = 0u64;
        for (index, key) in (0u64..).zip(&self.keys) {
            let equal = key.digest(dialect, body).ct_eq(signature);
            place.conditional_assign(&index, equal & !found);
            found |= equal;
        }
        if bool::from(found) { usize::try_from(place).ok() } else { None }
    }
}

/// By which a secret that must not be kept is known again: HMAC-SHA256(secret, `salt`) in lower-case hex.
pub fn fingerprint(secret: &Secret, salt: &str) -> String {
    // What is digested is no JSON: it is nobody's signature of an event.
    let message = format!("fingerprint {salt}");
    digest::hex(&Key::new(secret.expose().as_bytes()).digest(Dialect::Hmac, message.as_bytes()))
}

#[cfg(test)]
mod tests;
