//! Signatures as the provider makes them. Written apart from `verify`, so that each is a witness against the other.

use crate::secret::Secret;
use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// How deliveries are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// `e2b-signature`: base64 without padding of SHA-256(secret ‖ body), with the standard alphabet, as seen on the
    /// wire (e2b-dev/E2B#1103).
    #[default]
    E2b,
    /// `e2b-signature`: likewise of HMAC-SHA256(secret, body).
    E2bHmac,
    /// `X-E2B-Signature`: hex of HMAC-SHA256(secret, body), as the self-hosting guide has it.
    Hmac,
}

impl std::str::FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "e2b" => Ok(Self::E2b),
            "e2b-hmac" => Ok(Self::E2bHmac),
            "hmac" => Ok(Self::Hmac),
            _ => Err("not a dialect; there are e2b, e2b-hmac and hmac".to_owned()),
        }
    }
}

/// The headers that prove `body`, in the order in which they are sent.
pub fn headers(dialect: Dialect, secret: &Secret, body: &[u8]) -> Vec<(&'static str, String)> {
    let cloud = |signature: [u8; 32]| {
        vec![("e2b-signature-version", "v1".to_owned()), ("e2b-signature", BASE64_STANDARD_NO_PAD.encode(signature))]
    };
    match dialect {
        Dialect::E2b => cloud(Sha256::new().chain_update(secret.expose()).chain_update(body).finalize().into()),
        Dialect::E2bHmac => cloud(hmac(secret, body)),
        Dialect::Hmac => vec![("x-e2b-signature", hex(&hmac(secret, body)))],
    }
}

fn hmac(secret: &Secret, body: &[u8]) -> [u8; 32] {
    // RFC 2104 takes a key of any length; the crate's error stands for key types of a fixed one.
    match Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) {
        Ok(mac) => mac.chain_update(body).finalize().into_bytes().into(),
        Err(_) => [0; 32],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"a":1}"#;

    fn signature(dialect: Dialect) -> String {
        let headers = headers(dialect, &Secret::new("0123456789abcdef0123456789abcdef"), BODY);
        headers.last().expect("a signature").1.clone()
    }

    // printf '0123456789abcdef0123456789abcdef{"a":1}' | openssl dgst -sha256 -binary | base64
    // printf '{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
    #[test]
    fn signatures_are_those_of_openssl() {
        assert_eq!(signature(Dialect::E2b), "Qqqh0Ak5WH4DdxdD70Nvmd0YkBdG7pWl5lWlZapDDoA");
        assert_eq!(signature(Dialect::E2bHmac), "8FRiRtqeI0kQDIRahWEhR4jXXZAPPAhqcvz6A7sfQqs");
        assert_eq!(signature(Dialect::Hmac), "f0546246da9e2349100c845a8561214788d75d900f3c086a72fcfa03bb1f42ab");
    }
}
