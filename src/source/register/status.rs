//! How a source's own webhook is doing, for operators.

/// As of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Of the relay's own webhook, once it is known.
    pub webhook_id: Option<String>,
    /// Whether it is as the settings have it; `None` before the first look, and where the API did not answer.
    pub in_line: Option<bool>,
    /// What is in the way, or stands beside it, in words.
    pub problem: Option<String>,
}
