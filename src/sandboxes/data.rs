//! What users attach to a sandbox, and what an update tells: kept as text, since hardly ever somebody looks into it.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
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

    /// The text for people to read and to search: what a sender has escaped without need, as Go does with `&`, stands as it is
    /// meant.
    pub fn text(&self) -> String {
        serde_json::from_str::<Value>(&self.0).map_or_else(|_| self.0.to_string(), |value| value.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_as_it_is_meant_and_kept_as_it_came() {
        let came = r#"{"b":"R\u0026D \u003cK\u00f6ln\u003e","a":1.50}"#;
        let data = Data::of(came).expect("short");
        assert_eq!(data.text(), r#"{"a":1.5,"b":"R&D <Köln>"}"#);
        assert_eq!(serde_json::to_string(&data).expect("JSON"), came);
        assert_eq!(serde_json::from_str::<Option<Data>>(came).expect("JSON"), Some(data.clone()));
        assert_eq!(serde_json::json!({"metadata": data})["metadata"]["b"], "R&D <Köln>");
        assert_eq!((Data::of("null"), Data::of(&format!("\"{}\"", "x".repeat(MAX)))), (None, None));
        assert_eq!(serde_json::from_str::<Option<Data>>("null").expect("JSON"), None);
    }
}
