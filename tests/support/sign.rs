//! Signing as the provider does it, written from its description: the other witness beside `e2b_relay::verify`, with
//! which it shares no line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{KeyInit, Mac};
use sha2::Digest;

/// A signature header: name and value.
pub(crate) type Header = (&'static str, String);

/// `e2b-signature` = base64(SHA-256(secret ‖ body)), without padding, as E2B's cloud sends it.
pub(crate) fn e2b(secret: &str, body: &[u8]) -> Header {
    let digest = sha2::Sha256::digest([secret.as_bytes(), body].concat());
    ("e2b-signature", STANDARD.encode(digest).trim_end_matches('=').to_owned())
}

/// `e2b-signature` = base64(HMAC-SHA256(secret, body)).
pub(crate) fn e2b_hmac(secret: &str, body: &[u8]) -> Header {
    ("e2b-signature", STANDARD.encode(mac(secret, body)))
}

/// `X-E2B-Signature` = hex(HMAC-SHA256(secret, body)), of the self-hosting guide.
pub(crate) fn hmac(secret: &str, body: &[u8]) -> Header {
    ("X-E2B-Signature", mac(secret, body).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn mac(secret: &str, body: &[u8]) -> Vec<u8> {
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}
