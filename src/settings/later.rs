//! Keys and values that the public contract names and this version does not have yet. They are refused by name, so that
//! nobody believes that they work.

use super::problem::KeyPath;
use crate::source;

/// Keys of sinks.
const SINKS: [&str; 1] = ["exactly_once"];

/// Values of keys.
const VALUES: [(&str, &[&str]); 1] = [("sinks.*.format", &["cloudevents", "cloudevents-binary"])];

/// Whether the key will be known to a later version.
pub(super) fn is_later_key(key: &KeyPath) -> bool {
    let sections = [("sources.*", source::NOT_YET), ("sinks.*", &SINKS[..])];
    sections.iter().any(|(section, keys)| keys.iter().any(|name| key.matches(&format!("{section}.{name}"))))
}

/// Whether a later version will know `value` for the key.
pub(super) fn is_later_value(key: &KeyPath, value: &str) -> bool {
    VALUES.iter().any(|(pattern, values)| key.matches(pattern) && values.contains(&value))
}
