//! What each dialect makes of a secret and a body.

use super::Dialect;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The block of SHA-256 in bytes, which is the size of an HMAC key (RFC 2104, section 2).
const BLOCK: usize = 64;

/// A secret, absorbed once for every body to come.
pub(super) struct Key {
    concatenated: Sha256,
    keyed: Hmac<Sha256>,
}

impl Key {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self { concatenated: Sha256::new_with_prefix(secret), keyed: Hmac::new(&block(secret).into()) }
    }

    pub(super) fn digest(&self, dialect: Dialect, body: &[u8]) -> [u8; 32] {
        match dialect {
            Dialect::E2b => self.concatenated.clone().chain_update(body).finalize().into(),
            Dialect::E2bHmac | Dialect::Hmac => self.keyed.clone().chain_update(body).finalize().into_bytes().into(),
        }
    }
}

/// A key longer than a block is hashed first, a shorter one filled up with zeros. Done here since the crate's way for
/// any length returns an error that cannot occur.
fn block(secret: &[u8]) -> [u8; BLOCK] {
    let hashed: [u8; 32];
    let key = if secret.len() > BLOCK {
        hashed = Sha256::digest(secret).into();
        hashed.as_slice()
    } else {
        secret
    };
    let mut block = [0; BLOCK];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    block
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
