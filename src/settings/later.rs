//! Keys that the public contract names and this version does not have yet. They are refused by name, so that
//! nobody believes that they work.

use super::problem::KeyPath;

/// Keys of sinks.
const SINKS: [&str; 0] = [];

/// Whether the key will be known to a later version.
pub(super) fn is_later_key(key: &KeyPath) -> bool {
    SINKS.iter().any(|name| key.matches(&format!("sinks.*.{name}")))
}
