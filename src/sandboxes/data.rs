//! What users attach to a sandbox, and what an update tells: kept as text, since hardly ever somebody looks into it.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Longest that is kept of a sandbox, in bytes.
const MAX: usize = 4096;

/// JSON text of one value other than null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(Box<str>);

impl Data {
    /// Of `json`, which is JSON; `None` where it is null or too long to be kept.
    pub(super) fn of(json: &str) -> Option<Self> {
        (json.len() <= MAX && json != "null").then(|| Self(json.into()))
    }

    /// The text.
    pub fn get(&self) -> &str {
        &self.0
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        json.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json: Box<RawValue> = Deserialize::deserialize(deserializer)?;
        Ok(Self(json.into()))
    }
}

impl JsonSchema for Data {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}
