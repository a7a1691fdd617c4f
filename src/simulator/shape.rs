//! What a happening looks like on the wire, one serde struct per shape. Shared with `decode` by nothing but the facts.

use super::life::{EventData, Happening};
use serde::Serialize;

/// The shape of a delivery's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// camelCase, as the cloud sent it until November 2025.
    V1,
    /// snake_case, as the cloud sends it today (e2b-dev/infra `packages/shared/pkg/events/sandbox.go`).
    #[default]
    V2,
    /// A label and no id, type or version, as the self-hosting guide has it.
    SelfHosted,
}

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            "self-hosted" => Ok(Self::SelfHosted),
            _ => Err("not a shape; there are v1, v2 and self-hosted".to_owned()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V1<'a> {
    id: &'a str,
    version: &'static str,
    r#type: &'a str,
    event_category: &'static str,
    event_label: &'a str,
    event_data: Option<&'a EventData>,
    timestamp: &'a str,
    sandbox_id: &'a str,
    sandbox_execution_id: &'a str,
    sandbox_template_id: &'a str,
    sandbox_build_id: &'a str,
    sandbox_team_id: &'a str,
}

#[derive(Serialize)]
struct V2<'a> {
    id: &'a str,
    version: &'static str,
    r#type: &'a str,
    timestamp: &'a str,
    event_category: &'static str,
    event_label: &'a str,
    // Left out, not null, where there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_data: Option<&'a EventData>,
    sandbox_id: &'a str,
    sandbox_execution_id: &'a str,
    sandbox_template_id: &'a str,
    sandbox_build_id: &'a str,
    sandbox_team_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SelfHosted<'a> {
    event_category: &'static str,
    event_label: &'a str,
    sandbox_id: &'a str,
    sandbox_team_id: &'a str,
    timestamp: &'a str,
}

impl Shape {
    /// The body as a tree, for whoever wants to change it; the members' order is not kept.
    pub(super) fn tree(self, happening: &Happening) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_str(&self.body(happening)?)
    }

    /// The body, compact, the members in the provider's order.
    pub(super) fn body(self, happening: &Happening) -> Result<String, serde_json::Error> {
        let Happening { id, kind, sandbox_id, team_id, .. } = happening;
        let timestamp = happening.at.to_string();
        let label = label(kind);
        // The cloud has no category or label for its sixth type.
        let category = if label.is_empty() { "" } else { "lifecycle" };
        match self {
            Self::V1 => serde_json::to_string(&V1 {
                id,
                version: "v1",
                r#type: kind,
                event_category: category,
                event_label: label,
                event_data: happening.data.as_ref(),
                timestamp: &timestamp,
                sandbox_id,
                sandbox_execution_id: &happening.execution_id,
                sandbox_template_id: &happening.template_id,
                sandbox_build_id: &happening.build_id,
                sandbox_team_id: team_id,
            }),
            Self::V2 => serde_json::to_string(&V2 {
                id,
                version: "v2",
                r#type: kind,
                timestamp: &timestamp,
                event_category: category,
                event_label: label,
                event_data: happening.data.as_ref(),
                sandbox_id,
                sandbox_execution_id: &happening.execution_id,
                sandbox_template_id: &happening.template_id,
                sandbox_build_id: &happening.build_id,
                sandbox_team_id: team_id,
            }),
            Self::SelfHosted => serde_json::to_string(&SelfHosted {
                event_category: "sandbox",
                event_label: if label.is_empty() { kind.rsplit('.').next().unwrap_or(kind) } else { label },
                sandbox_id,
                sandbox_team_id: team_id,
                timestamp: &timestamp,
            }),
        }
    }
}

/// The provider's verb for a type; checkpointed has none (infra `events/migration.go`).
pub(super) fn label(kind: &str) -> &'static str {
    match kind {
        "sandbox.lifecycle.created" => "create",
        "sandbox.lifecycle.updated" => "update",
        "sandbox.lifecycle.paused" => "pause",
        "sandbox.lifecycle.resumed" => "resume",
        "sandbox.lifecycle.killed" => "kill",
        _ => "",
    }
}
