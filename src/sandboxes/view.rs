//! What operators are shown.

use super::data::Data;
use super::execution::{Execution, Usage};
use super::set::{Sandbox, Set, State};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// `GET /api/sandboxes`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SandboxList")]
pub struct View {
    /// Sandboxes that run.
    pub active_count: usize,
    /// Sandboxes that are paused.
    pub paused_count: usize,
    /// By source and id.
    pub sandboxes: Vec<ViewedSandbox>,
    /// For those after these; `null` where these are all.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Sandbox")]
pub struct ViewedSandbox {
    /// The sandbox's id.
    pub id: String,
    /// `running`, `paused` or `missing`.
    pub state: State,
    /// What it was made from.
    pub template_id: Option<String>,
    /// RFC 3339; `null` where no event told.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created_at: Option<Timestamp>,
    /// Of the newest event, RFC 3339.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub updated_at: Option<Timestamp>,
    /// `event_data` of the newest `updated` event.
    pub update_data: Option<Data>,
    /// When its time is over, RFC 3339.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ends_at: Option<Timestamp>,
    /// As the user set it.
    pub metadata: Option<Data>,
    /// The source's name.
    pub source: String,
    /// The running stretch.
    pub execution_id: Option<String>,
    /// Since when it runs, RFC 3339.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Virtual CPUs.
    pub vcpu_count: Option<i64>,
    /// MiB.
    pub memory_mb: Option<i64>,
    /// While it runs: its last sample, where its source's metrics are read.
    pub usage: Option<Usage>,
}

/// Which of them: behind one, by source and id, and at most so many. The counts are those of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The last one of the part before.
    pub after: Option<(String, String)>,
    /// More than none.
    pub limit: usize,
}

pub(super) fn of<'s, S: Deref<Target = Set>>(sets: impl Iterator<Item = (&'s str, S)>, part: &Part) -> View {
    let mut view = View::default();
    for (source, set) in sets {
        for (id, sandbox) in &set.sandboxes {
            match sandbox.state {
                State::Running => view.active_count += 1,
                State::Paused => view.paused_count += 1,
                State::Missing => {}
            }
            let is_before = part.after.as_ref().is_some_and(|(last, after)| (source, id) <= (last.as_str(), after));
            if is_before {
                continue;
            }
            if view.sandboxes.len() < part.limit {
                view.sandboxes.push(one(source, id, sandbox));
            } else if view.next_cursor.is_none() {
                view.next_cursor = view.sandboxes.last().map(|last| format!("{}:{}", last.source, last.id));
            }
        }
    }
    view
}

fn one(source: &str, id: &str, sandbox: &Sandbox) -> ViewedSandbox {
    // Every field by its name, so that a new one is shown, or said not to be.
    let Sandbox {
        state,
        template_id,
        created_at,
        updated_at,
        update_data,
        ends_at,
        metadata,
        execution,
        changed_at: _,
        seen_at: _,
        touched_at: _,
        untold_since: _,
        listed_start: _,
        last_execution: _,
        last_sample: _,
        usage,
    } = sandbox.clone();
    let is_running = state == State::Running;
    let Execution { id: execution_id, started_at, vcpu_count, memory_mb, measured: _, start_told: _ } =
        execution.unwrap_or_default();
    ViewedSandbox {
        id: id.to_owned(),
        source: source.to_owned(),
        state,
        template_id,
        created_at,
        updated_at,
        update_data,
        ends_at,
        metadata,
        execution_id,
        started_at,
        vcpu_count,
        memory_mb,
        usage: usage.filter(|_| is_running),
    }
}
