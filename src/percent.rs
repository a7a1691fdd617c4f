//! Percent-encoding (RFC 3986, section 2.1): bytes that may not stand as they are become `%XX`.

use std::fmt::Write as _;

/// Every byte but those that are kept.
pub fn encode(text: &str, is_kept: impl Fn(u8) -> bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if is_kept(byte) {
            encoded.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Means nothing anywhere in a URI (section 2.3).
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}
