//! What a delivery's header says of it.

use crate::verify::Presented;
use axum::http::HeaderMap;

/// Longest unsigned id that is kept, in characters.
const MAX_UNSIGNED_ID: usize = 128;

/// Copied, since the header's own values keep the connection's whole read buffer alive while the body arrives.
pub(super) struct Claims {
    e2b_signature: Vec<Vec<u8>>,
    e2b_signature_version: Vec<Vec<u8>>,
    x_e2b_signature: Vec<Vec<u8>>,
    /// Not signed.
    pub(super) webhook_id: Option<String>,
    /// Not signed.
    pub(super) delivery_id: Option<String>,
}

impl Claims {
    pub(super) fn copy(headers: &HeaderMap) -> Self {
        let values = |name: &str| headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect();
        Self {
            e2b_signature: values("e2b-signature"),
            e2b_signature_version: values("e2b-signature-version"),
            x_e2b_signature: values("x-e2b-signature"),
            webhook_id: unsigned_id(headers, "e2b-webhook-id"),
            delivery_id: unsigned_id(headers, "e2b-delivery-id"),
        }
    }

    pub(super) fn presented(&self) -> Presented<'_> {
        Presented {
            e2b_signature: slices(&self.e2b_signature),
            e2b_signature_version: slices(&self.e2b_signature_version),
            x_e2b_signature: slices(&self.x_e2b_signature),
        }
    }
}

fn slices(values: &[Vec<u8>]) -> Vec<&[u8]> {
    values.iter().map(Vec::as_slice).collect()
}

/// An id that nobody has signed: evidence if it is harmless, nothing otherwise.
fn unsigned_id(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.to_str().ok()?;
    let harmless = (1..=MAX_UNSIGNED_ID).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
    harmless.then(|| value.to_owned())
}
