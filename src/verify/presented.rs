//! The signature headers of one delivery, and the reading of their values.

use super::{Accept, Dialect, Refusal};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT_PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT_PADDING);

/// Every value of each header that has to do with the signature, as received.
#[derive(Debug, Clone, Default)]
pub struct Presented<'a> {
    /// Of `e2b-signature`.
    pub e2b_signature: Vec<&'a [u8]>,
    /// Of `e2b-signature-version`.
    pub e2b_signature_version: Vec<&'a [u8]>,
    /// Of `X-E2B-Signature`.
    pub x_e2b_signature: Vec<&'a [u8]>,
}

impl Presented<'_> {
    /// The one signature in the dialect that `accept` leaves.
    pub(super) fn signature(&self, accept: Accept) -> Result<(Dialect, [u8; 32]), Refusal> {
        let base64 = single(&self.e2b_signature)?;
        let hex = single(&self.x_e2b_signature)?;
        let version = single(&self.e2b_signature_version)?;
        if base64.is_some() && hex.is_some() {
            return Err(Refusal::BothDialects);
        }
        if version.is_some_and(|version| version != b"v1") {
            return Err(Refusal::UnknownVersion);
        }
        let dialect = match accept {
            Accept::Auto if hex.is_some() => Dialect::Hmac,
            Accept::Auto | Accept::E2b => Dialect::E2b,
            Accept::E2bHmac => Dialect::E2bHmac,
            Accept::Hmac => Dialect::Hmac,
        };
        let bytes = match dialect {
            Dialect::E2b | Dialect::E2bHmac => from_base64(base64.ok_or(Refusal::Missing)?),
            Dialect::Hmac => from_hex(hex.ok_or(Refusal::Missing)?),
        };
        let signature = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Refusal::Unreadable)?;
        Ok((dialect, signature))
    }
}

fn single<'a>(values: &[&'a [u8]]) -> Result<Option<&'a [u8]>, Refusal> {
    match values {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        _ => Err(Refusal::Repeated),
    }
}

/// Either alphabet, padded or not: E2B's own documents disagree on both.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

/// Either case.
pub(super) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
