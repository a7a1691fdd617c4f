//! Keys and values that the public contract names and this version does not have yet. They are refused by name, so that
//! nobody believes that they work.

use super::problem::KeyPath;

/// Keys, in the form of [`KeyPath::matches`].
const KEYS: [&str; 9] = [
    "sources.*.api",
    "sources.*.backfill",
    "sources.*.metrics",
    "sources.*.redact",
    "sources.*.register",
    "sources.*.reconcile",
    "sources.*.usage",
    "sources.*.verify_kills",
    "sinks.*.exactly_once",
];

/// Values of keys.
const VALUES: [(&str, &[&str]); 1] = [("sinks.*.format", &["cloudevents", "cloudevents-binary"])];

/// Whether the key will be known to a later version.
pub(super) fn is_later_key(key: &KeyPath) -> bool {
    KEYS.iter().any(|pattern| key.matches(pattern))
}

/// Whether a later version will know `value` for the key.
pub(super) fn is_later_value(key: &KeyPath, value: &str) -> bool {
    VALUES.iter().any(|(pattern, values)| key.matches(pattern) && values.contains(&value))
}
