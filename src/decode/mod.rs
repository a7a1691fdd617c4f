//! The provider's wire shapes → [`Event`] and [`Record`]. Pure: no clock, no I/O, no tokio.
//!
//! ```text
//! Verified ─► strict (is it one object, and only one reading of it?) ─► members ─► fields ─► Event
//! the API  ─► likewise
//! journal  ────────────────────────────────────────────────────────────► members ─► fields ─► Record
//! ```
//!
//! `strict` is what defeats the length extension of SHA-256(secret ‖ body): whoever has seen one signed body can sign
//! body ‖ glue ‖ anything, but the glue begins with the byte 0x80, which no UTF-8 text has there.

mod fields;
mod members;
mod redact;
mod self_hosted;
mod strict;
mod v1;
mod v2;

pub use redact::{Redaction, RedactionError};
pub use strict::{MAX_DEPTH, Violation};

use crate::event::{self, Event, Record, Timestamp};
use crate::verify::{Dialect, Verified};
use bytes::Bytes;
use fields::{Field, Fields};
use std::borrow::Cow;

/// Longest id, type, label, time or sandbox id, in characters.
pub const MAX_TEXT: usize = 255;

/// A delivery, understood.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// For the log. Consumers get what [`stored`] makes of it.
    pub event: Event,
    /// `sandbox_team_id`: absent or null is `None`; what is no string stands here as its JSON text, so that it is
    /// equal to no team.
    pub team_id: Option<String>,
}

/// Why a body is no event. The messages name places and known fields, and never repeat the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A byte sequence that is no character.
    #[error("not UTF-8 from byte {offset} on")]
    NotUtf8 {
        /// Counted from 0.
        offset: usize,
    },
    /// Not one JSON object that every parser reads alike.
    #[error("{violation} at byte {offset}")]
    NotStrictJson {
        /// What is wrong.
        violation: Violation,
        /// Counted from 0.
        offset: usize,
    },
    /// Both spellings of a field.
    #[error("`{0}` is there in two spellings")]
    TwoSpellings(&'static str),
    /// Absent or null.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Neither `type` nor a label.
    #[error("neither `type` nor `event_label` is there")]
    NoType,
    /// Not a string.
    #[error("`{0}` is not a string")]
    NotText(&'static str),
    /// The string without characters.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// Over [`MAX_TEXT`].
    #[error("`{0}` has more than {max} characters", max = MAX_TEXT)]
    TooLong(&'static str),
    /// U+0000 to U+001F, U+007F to U+009F.
    #[error("`{0}` has a control character")]
    ControlCharacter(&'static str),
    /// Not RFC 3339.
    #[error("`timestamp` is {0}")]
    Timestamp(event::ParseTimestampError),
}

/// Reads a signed delivery of any shape.
pub fn delivery(verified: &Verified) -> Result<Decoded, Malformed> {
    read(verified.body(), |has_type| {
        let derivable = !has_type || verified.dialect() == Dialect::Hmac;
        derivable.then(|| event::body_id(&verified.sha256_hex()))
    })
}

/// Reads what the provider's API gave, which nobody signed but whoever holds the key asked for: an event of its list, or
/// the body of a delivery that failed. It has the id that the delivery has or had; without one it is no event, since
/// none could be derived that is the same on either road.
pub fn listed(body: &Bytes) -> Result<Decoded, Malformed> {
    read(body, |_| None)
}

/// `derived_id` is asked where there is no id, and told whether there is a type.
fn read(body: &Bytes, derived_id: impl FnOnce(bool) -> Option<String>) -> Result<Decoded, Malformed> {
    let text = std::str::from_utf8(body).map_err(|error| Malformed::NotUtf8 { offset: error.valid_up_to() })?;
    strict::check(text)?;
    let fields = Fields::collect(members::read(text)?)?;
    let given_type = fields.text(Field::Type)?;
    let has_type = given_type.is_some();
    let kind = match given_type {
        Some(kind) => kind.into_owned(),
        None => self_hosted::kind(&fields.text(Field::EventLabel)?.ok_or(Malformed::NoType)?),
    };
    let id = match fields.text(Field::Id)? {
        Some(id) => id.into_owned(),
        None => derived_id(has_type).ok_or(Malformed::Missing(Field::Id.name()))?,
    };
    let timestamp = fields.required_text(Field::Timestamp)?;
    let timestamp = Timestamp::parse(&timestamp).map_err(Malformed::Timestamp)?;
    let sandbox_id = fields.required_text(Field::SandboxId)?.into_owned();
    let team_id = fields.get(Field::SandboxTeamId);
    let team_id = team_id.map(|json| fields::unquote(json).map_or_else(|| json.to_owned(), Cow::into_owned));
    let event = Event { id, kind, timestamp, sandbox_id, body: Bytes::clone(body) };
    Ok(Decoded { event, team_id })
}

/// The record of an event that was found sound when it was accepted. What was proven then is not proven again.
pub fn stored(event: &Event) -> Result<Record<'_>, Malformed> {
    let text = std::str::from_utf8(&event.body).map_err(|error| Malformed::NotUtf8 { offset: error.valid_up_to() })?;
    let fields = Fields::collect(members::read(text)?)?;
    Ok(fields.into_record(&event.id, &event.kind, &event.timestamp))
}

#[cfg(test)]
mod tests;
