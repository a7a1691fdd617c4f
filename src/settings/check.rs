//! Checks that need more than one key.
use super::{Problem, Settings};
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}
pub(super) fn check(_settings: &Settings) -> Findings {
    Findings::default()
}
