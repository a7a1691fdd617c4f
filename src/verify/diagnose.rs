//! What a refused delivery looked like, for the operator's log: enough to find the mistake, never secret or body.

use super::digest::Key;
use super::presented::{from_base64, from_hex};
use super::{Dialect, Presented, Refusal, Verifier};
use std::fmt;
use subtle::ConstantTimeEq;

/// Longest version that is shown, in characters; it is a stranger's text.
const MAX_VERSION: usize = 16;

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// Base64 in which the two alphabets do not differ.
    Base64,
    /// Base64 with `+` or `/`.
    StandardBase64,
    /// Base64 with `-` or `_`.
    UrlSafeBase64,
    /// Hexadecimal.
    Hex,
    /// None of these.
    Unknown,
}

/// What would have been right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NearMiss {
    /// The secret with the newline (or other white space) that its file or console added, or without it.
    WhiteSpaceAtTheEnd,
    /// The same secret in another dialect.
    Dialect(Dialect),
    /// The signature under the other dialect's header or in its spelling.
    Spelling(Dialect),
    /// The secret of the source that is named.
    Source(String),
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Values of `e2b-signature`.
    pub e2b_signatures: usize,
    /// Values of `X-E2B-Signature`.
    pub x_e2b_signatures: usize,
    /// Characters of the first signature.
    pub characters: usize,
    /// Bytes that it decodes to; 32 is right.
    pub decoded_bytes: Option<usize>,
    /// How it is written.
    pub alphabet: Alphabet,
    /// `e2b-signature-version`, if it can be shown.
    pub version: Option<String>,
    /// What would have matched.
    pub near_miss: Option<NearMiss>,
}

impl Verifier {
    /// Looks closer at what [`Verifier::verify`] refused. `others` are the further sources by name. Costs several
    /// digests of the body, so call it only for what will be logged.
    pub fn diagnose<'o>(
        &self,
        presented: &Presented<'_>,
        body: &[u8],
        others: impl Iterator<Item = (&'o str, &'o Verifier)>,
    ) -> Diagnosis {
        let text = presented.e2b_signature.iter().chain(&presented.x_e2b_signature).next().copied();
        let text = text.unwrap_or_default();
        let (alphabet, decoded) = read(text);
        let from_e2b_header = !presented.e2b_signature.is_empty();
        // Where the headers contradict each other or name another version, the secret is not what is wrong.
        let may_be_near = match presented.signature(self.accept) {
            Ok(_) | Err(Refusal::Missing | Refusal::Unreadable | Refusal::Wrong) => true,
            Err(Refusal::Repeated | Refusal::BothDialects | Refusal::UnknownVersion) => false,
        };
        let near_miss = decoded
            .as_deref()
            .filter(|_| may_be_near)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .and_then(|signature| self.near_miss(&signature, from_e2b_header, alphabet, body, others));
        Diagnosis {
            e2b_signatures: presented.e2b_signature.len(),
            x_e2b_signatures: presented.x_e2b_signature.len(),
            characters: text.len(),
            decoded_bytes: decoded.map(|bytes| bytes.len()),
            alphabet,
            version: presented.e2b_signature_version.first().map(|version| printable(version)),
            near_miss,
        }
    }

    fn near_miss<'o>(
        &self,
        signature: &[u8; 32],
        from_e2b_header: bool,
        alphabet: Alphabet,
        body: &[u8],
        mut others: impl Iterator<Item = (&'o str, &'o Verifier)>,
    ) -> Option<NearMiss> {
        let made_by = |verifier: &Verifier| {
            [Dialect::E2b, Dialect::E2bHmac]
                .into_iter()
                .find(|dialect| verifier.find(*dialect, signature, body).is_some())
        };
        if let Some(dialect) = made_by(self) {
            let hex = alphabet == Alphabet::Hex;
            return Some(match (from_e2b_header, hex, dialect) {
                (true, false, dialect) => NearMiss::Dialect(dialect),
                (false, true, Dialect::E2bHmac | Dialect::Hmac) => NearMiss::Dialect(Dialect::Hmac),
                (_, _, dialect) => NearMiss::Spelling(dialect),
            });
        }
        let altered = self.secrets.iter().any(|secret| {
            let secret = secret.expose();
            let with = ["\n", "\r\n"].map(|end| format!("{secret}{end}"));
            let without = secret.trim_end();
            with.iter().map(String::as_str).chain((without != secret).then_some(without)).any(|secret| {
                let key = Key::new(secret.as_bytes());
                [Dialect::E2b, Dialect::E2bHmac]
                    .into_iter()
                    .any(|dialect| bool::from(key.digest(dialect, body).ct_eq(signature)))
            })
        });
        if altered {
            return Some(NearMiss::WhiteSpaceAtTheEnd);
        }
        others.find(|(_, other)| made_by(other).is_some()).map(|(name, _)| NearMiss::Source(name.to_owned()))
    }
}

/// 64 hex digits would be base64 of 48 bytes too; hex is what they are meant as.
fn read(text: &[u8]) -> (Alphabet, Option<Vec<u8>>) {
    if text.len() == 64
        && let Some(bytes) = from_hex(text)
    {
        return (Alphabet::Hex, Some(bytes));
    }
    match from_base64(text) {
        None => (Alphabet::Unknown, None),
        Some(bytes) if text.iter().any(|byte| matches!(byte, b'+' | b'/')) => (Alphabet::StandardBase64, Some(bytes)),
        Some(bytes) if text.iter().any(|byte| matches!(byte, b'-' | b'_')) => (Alphabet::UrlSafeBase64, Some(bytes)),
        Some(bytes) => (Alphabet::Base64, Some(bytes)),
    }
}

fn printable(version: &[u8]) -> String {
    if version.len() <= MAX_VERSION && version.iter().all(u8::is_ascii_graphic) {
        String::from_utf8_lossy(version).into_owned()
    } else {
        "unprintable".to_owned()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.e2b_signatures, self.x_e2b_signatures) {
            (0, 0) => f.write_str("no signature header")?,
            (1, 0) => f.write_str("e2b-signature")?,
            (0, 1) => f.write_str("X-E2B-Signature")?,
            (e2b, x_e2b) => write!(f, "{e2b} × e2b-signature and {x_e2b} × X-E2B-Signature")?,
        }
        if self.e2b_signatures + self.x_e2b_signatures > 0 {
            let alphabet = match self.alphabet {
                Alphabet::Base64 => "base64",
                Alphabet::StandardBase64 => "base64 with the standard alphabet",
                Alphabet::UrlSafeBase64 => "base64 with the URL-safe alphabet",
                Alphabet::Hex => "hex",
                Alphabet::Unknown => "neither base64 nor hex",
            };
            write!(f, " of {} characters, {alphabet}", self.characters)?;
            if let Some(bytes) = self.decoded_bytes {
                write!(f, ", {bytes} bytes decoded")?;
            }
        }
        write!(f, ", version {}", self.version.as_deref().unwrap_or("absent"))?;
        match &self.near_miss {
            None => Ok(()),
            Some(NearMiss::WhiteSpaceAtTheEnd) => f.write_str(
                "; would match if the secret had, or had not, a newline at its end: register it anew without one",
            ),
            Some(NearMiss::Dialect(dialect)) => write!(f, "; would match with signature: {}", name(*dialect)),
            Some(NearMiss::Spelling(dialect)) => {
                write!(f, "; the secret matches, but the header or its spelling is not that of {}", name(*dialect))
            }
            Some(NearMiss::Source(source)) => write!(f, "; would match with a secret of source `{source}`"),
        }
    }
}

fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::E2b => "e2b",
        Dialect::E2bHmac => "e2b-hmac",
        Dialect::Hmac => "hmac",
    }
}
