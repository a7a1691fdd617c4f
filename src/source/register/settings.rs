//! `sources.<name>.register`.

use crate::e2b::EVENT_TYPES;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// What the relay calls its own webhook where nobody says otherwise.
pub const DEFAULT_NAME: &str = "e2b-relay";

/// What all types have in common.
const PREFIX: &str = "sandbox.lifecycle.";

/// The webhook at the provider that the relay keeps in line as its own: it is made where there is none, and brought back
/// where somebody changed it. Needs `webhook`, whose last secret is the one that is registered, and `api`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the provider delivers to: the public URL of `webhook.path`, `http` or `https`.
    pub url: String,
    /// By which the webhook is known at the provider. Each relay needs its own: one of this name that delivers elsewhere
    /// is never taken, unless by `webhooks ensure --adopt`.
    #[serde(default = "default_name")]
    pub name: String,
    /// `all`, or a list of types such as `sandbox.lifecycle.killed`, `killed` for short.
    #[serde(default)]
    pub events: Events,
    /// Between two looks at what is registered.
    #[serde(with = "humantime_serde", default = "default_interval")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub interval: Duration,
}

fn default_name() -> String {
    DEFAULT_NAME.to_owned()
}

fn default_interval() -> Duration {
    Duration::from_secs(10 * 60)
}

/// Which types are delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Events {
    /// Every type that the provider tells of.
    #[default]
    All,
    /// These, as they were written.
    Types(Vec<String>),
}

impl Events {
    /// Their full names; an unknown short one stays as it is.
    pub fn types(&self) -> Vec<String> {
        match self {
            Self::All => EVENT_TYPES.map(str::to_owned).into(),
            Self::Types(types) => types.iter().map(|kind| full_name(kind)).collect(),
        }
    }

    /// Whether a webhook for `types` tells what is wanted. One for all may have further types, which this version does
    /// not know.
    pub fn are_met_by(&self, types: &[String]) -> bool {
        let wanted = self.types();
        let has_all = wanted.iter().all(|kind| types.contains(kind));
        has_all && (*self == Self::All || types.iter().all(|kind| wanted.contains(kind)))
    }
}

/// `killed` is `sandbox.lifecycle.killed`.
fn full_name(kind: &str) -> String {
    let long = format!("{PREFIX}{kind}");
    if EVENT_TYPES.contains(&long.as_str()) { long } else { kind.to_owned() }
}

const ALL: &str = "all";

impl Serialize for Events {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str(ALL),
            Self::Types(types) => types.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(String),
            List(Vec<String>),
        }
        match Written::deserialize(deserializer)? {
            Written::Word(word) if word == ALL => Ok(Self::All),
            Written::Word(_) => Err(D::Error::custom("wants `all` or a list of types")),
            Written::List(types) => Ok(Self::Types(types)),
        }
    }
}

impl JsonSchema for Events {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Events".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "string", "const": ALL}, {"type": "array", "items": {"type": "string"}}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(types: &[&str]) -> Vec<String> {
        types.iter().map(|kind| (*kind).to_owned()).collect()
    }

    #[test]
    fn all_are_met_by_all_and_more_and_a_list_by_itself_in_any_order() {
        let mut all = types(&EVENT_TYPES);
        assert!(Events::All.are_met_by(&all));
        all.push("sandbox.lifecycle.forked".to_owned());
        assert!(Events::All.are_met_by(&all), "a type that is not known here is not taken away");
        assert!(!Events::All.are_met_by(&all[1..]));
        assert!(!Events::All.are_met_by(&[]));
        let some = Events::Types(types(&["killed", "sandbox.lifecycle.created", "a.b"]));
        assert!(some.are_met_by(&types(&["a.b", "sandbox.lifecycle.created", "sandbox.lifecycle.killed"])));
        assert!(!some.are_met_by(&all));
        assert!(!some.are_met_by(&types(&["sandbox.lifecycle.killed"])));
    }
}
