//! What a self-hosted installation sends (and E2B's first webhooks did): no `id`, no `type`, no `version`, only a label.
//!
//! ```json
//! {"eventCategory": "sandbox", "eventLabel": "kill", "sandboxId": "…", "sandboxTeamId": "…", "timestamp": "…"}
//! ```

/// The `type` that a label stands for; one not known here is passed on under the same prefix.
pub(super) fn kind(label: &str) -> String {
    let past = match label {
        "create" => "created",
        "update" => "updated",
        "pause" => "paused",
        "resume" => "resumed",
        "checkpoint" => "checkpointed",
        "kill" => "killed",
        other => other,
    };
    format!("sandbox.lifecycle.{past}")
}
