//! What E2B's cloud sent before November 2025, and what its events API still answers: camelCase.
//!
//! Source: the provider's specification of events and webhooks, schema `SandboxEvent`.

use super::fields::Field;

/// The record's field that `name` is.
pub(super) fn field(name: &str) -> Option<Field> {
    match name {
        "eventCategory" => Some(Field::EventCategory),
        "eventLabel" => Some(Field::EventLabel),
        "eventData" => Some(Field::EventData),
        "sandboxId" => Some(Field::SandboxId),
        "sandboxExecutionId" => Some(Field::SandboxExecutionId),
        "sandboxTemplateId" => Some(Field::SandboxTemplateId),
        "sandboxBuildId" => Some(Field::SandboxBuildId),
        "sandboxTeamId" => Some(Field::SandboxTeamId),
        _ => None,
    }
}
