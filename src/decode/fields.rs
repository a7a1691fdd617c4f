//! The fields of an event, whatever they were called on the wire.

use super::members::{Member, compact};
use super::{MAX_TEXT, Malformed, v1, v2};
use crate::event::{Record, Timestamp};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A field that the contract names, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Type,
    Version,
    Timestamp,
    EventCategory,
    EventLabel,
    EventData,
    SandboxId,
    SandboxExecutionId,
    SandboxTemplateId,
    SandboxBuildId,
    SandboxTeamId,
}

impl Field {
    pub(super) const ALL: [Self; 12] = [
        Self::Id,
        Self::Type,
        Self::Version,
        Self::Timestamp,
        Self::EventCategory,
        Self::EventLabel,
        Self::EventData,
        Self::SandboxId,
        Self::SandboxExecutionId,
        Self::SandboxTemplateId,
        Self::SandboxBuildId,
        Self::SandboxTeamId,
    ];

    /// As the record spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Type => "type",
            Self::Version => "version",
            Self::Timestamp => "timestamp",
            Self::EventCategory => "event_category",
            Self::EventLabel => "event_label",
            Self::EventData => "event_data",
            Self::SandboxId => "sandbox_id",
            Self::SandboxExecutionId => "sandbox_execution_id",
            Self::SandboxTemplateId => "sandbox_template_id",
            Self::SandboxBuildId => "sandbox_build_id",
            Self::SandboxTeamId => "sandbox_team_id",
        }
    }
}

/// The version of a delivery that names none: only the first shape had none.
const FIRST_VERSION: &str = "\"v1\"";

/// What an object holds, sorted.
pub(super) struct Fields<'a> {
    known: [Option<&'a RawValue>; Field::ALL.len()],
    unknown: Vec<Member<'a>>,
}

impl<'a> Fields<'a> {
    /// Sorts members by what they are. The two spellings may stand side by side, but not of one field.
    pub(super) fn collect(members: Vec<Member<'a>>) -> Result<Self, Malformed> {
        let mut fields = Self { known: Default::default(), unknown: Vec::new() };
        for (name, value) in members {
            let Some(field) = v2::field(&name).or_else(|| v1::field(&name)) else {
                fields.unknown.push((name, value));
                continue;
            };
            if fields.slot(field).is_some_and(|slot| slot.replace(value).is_some()) {
                return Err(Malformed::TwoSpellings(field.name()));
            }
        }
        Ok(fields)
    }

    fn slot(&mut self, field: Field) -> Option<&mut Option<&'a RawValue>> {
        self.known.get_mut(field as usize)
    }

    /// The JSON text of a field that is there and not null.
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        self.known.get(field as usize)?.map(RawValue::get).filter(|json| *json != "null")
    }

    /// A string of 1 to [`MAX_TEXT`] characters without control characters, `None` if it is absent or null.
    pub(super) fn text(&self, field: Field) -> Result<Option<Cow<'a, str>>, Malformed> {
        let Some(json) = self.get(field) else { return Ok(None) };
        let name = field.name();
        let text = unquote(json).ok_or(Malformed::NotText(name))?;
        if text.is_empty() {
            return Err(Malformed::Empty(name));
        }
        if text.len() > MAX_TEXT && text.chars().nth(MAX_TEXT).is_some() {
            return Err(Malformed::TooLong(name));
        }
        if text.chars().any(char::is_control) {
            return Err(Malformed::ControlCharacter(name));
        }
        Ok(Some(text))
    }

    pub(super) fn required_text(&self, field: Field) -> Result<Cow<'a, str>, Malformed> {
        self.text(field)?.ok_or(Malformed::Missing(field.name()))
    }

    /// The fields in the contract's order, then the unknown ones as they came, all of them compact.
    pub(super) fn into_record(self, id: &str, kind: &str, timestamp: &Timestamp) -> Record<'a> {
        let mut fields = Vec::with_capacity(Field::ALL.len() + self.unknown.len());
        for (field, value) in Field::ALL.into_iter().zip(self.known) {
            let json = match field {
                Field::Id => Some(quoted(id, value)),
                Field::Type => Some(quoted(kind, value)),
                Field::Timestamp => Some(quoted(timestamp.as_str(), value)),
                Field::Version if value.is_none_or(|value| value.get() == "null") => Some(Cow::Borrowed(FIRST_VERSION)),
                _ => value.map(compact),
            };
            fields.extend(json.map(|json| (Cow::Borrowed(field.name()), json)));
        }
        fields.extend(self.unknown.into_iter().map(|(name, value)| (name, compact(value))));
        Record::new(fields)
    }
}

/// A text as JSON: borrowed where it came just so.
fn quoted<'a>(text: &str, came: Option<&'a RawValue>) -> Cow<'a, str> {
    match came.map(RawValue::get) {
        Some(json) if matches!(unquote(json), Some(Cow::Borrowed(own)) if own == text) => Cow::Borrowed(json),
        _ => Cow::Owned(Value::from(text).to_string()),
    }
}

/// The text of a JSON string, `None` for any other value. Borrowed unless it has an escape.
pub(super) fn unquote(json: &str) -> Option<Cow<'_, str>> {
    if let Some(text) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
        && !text.contains('\\')
    {
        return Some(Cow::Borrowed(text));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}
