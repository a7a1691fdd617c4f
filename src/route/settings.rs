//! What every sink can say about which records it takes and as which bytes.

use super::Format;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keys that stand in every sink's section, whatever its type.
///
/// Unknown keys are not refused here, since the keys of the sink's type stand in the same map; the settings room walks
/// both schemas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// Event types that the sink takes, as globs such as `sandbox.lifecycle.*`; `*` spans dots. Empty: all.
    pub types: Vec<String>,
    /// Names of the sources whose events it takes. Empty: all.
    pub sources: Vec<String>,
    /// A CEL expression over the record; only records for which it is true are taken. A record that lacks a key which
    /// the expression reads is not taken; any other failure makes it a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The bytes to send: `json` is the record, `cloudevents` and `cloudevents-binary` are the record as a CloudEvent in
    /// structured or binary mode, `avro` is the record behind the id that its schema has in `schema_registry`, `raw` is the body as it was received. Binary mode needs headers, and Avro is no text:
    /// not in `file` and `stdout`.
    pub format: Format,
}
