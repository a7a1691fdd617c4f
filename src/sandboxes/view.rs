//! What operators are shown.

use super::set::{Sandbox, Set, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Deref;

/// `GET /api/sandboxes`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct View {
    /// Sandboxes that run.
    pub active_count: usize,
    /// Sandboxes that are paused.
    pub paused_count: usize,
    /// By source and id.
    pub sandboxes: Vec<ViewedSandbox>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ViewedSandbox {
    /// The sandbox's id.
    pub id: String,
    /// `running`, `paused` or `missing`.
    pub state: State,
    /// What it was made from.
    pub template_id: Option<String>,
    /// RFC 3339; `null` where no event told.
    pub created_at: Option<Timestamp>,
    /// Of the newest event, RFC 3339.
    pub updated_at: Option<Timestamp>,
    /// `event_data` of the newest `updated` event.
    pub update_data: Option<Value>,
    /// When its time is over, RFC 3339.
    pub ends_at: Option<Timestamp>,
    /// As the user set it.
    pub metadata: Option<Value>,
    /// The source's name.
    pub source: String,
    /// The running stretch.
    pub execution_id: Option<String>,
    /// Since when it runs, RFC 3339.
    pub started_at: Option<Timestamp>,
    /// Virtual CPUs.
    pub vcpu_count: Option<i64>,
    /// MiB.
    pub memory_mb: Option<i64>,
}

pub(super) fn of<'s, S: Deref<Target = Set>>(sets: impl Iterator<Item = (&'s str, S)>) -> View {
    let mut view = View::default();
    for (source, set) in sets {
        for (id, sandbox) in &set.sandboxes {
            match sandbox.state {
                State::Running => view.active_count += 1,
                State::Paused => view.paused_count += 1,
                State::Missing => {}
            }
            view.sandboxes.push(one(source, id, sandbox));
        }
    }
    view
}

fn one(source: &str, id: &str, sandbox: &Sandbox) -> ViewedSandbox {
    let execution = sandbox.execution.clone().unwrap_or_default();
    ViewedSandbox {
        id: id.to_owned(),
        state: sandbox.state,
        template_id: sandbox.template_id.clone(),
        created_at: sandbox.created_at,
        updated_at: sandbox.updated_at,
        update_data: sandbox.update_data.clone(),
        ends_at: sandbox.ends_at,
        metadata: sandbox.metadata.clone(),
        source: source.to_owned(),
        execution_id: execution.id,
        started_at: execution.started_at,
        vcpu_count: execution.vcpu_count,
        memory_mb: execution.memory_mb,
    }
}
