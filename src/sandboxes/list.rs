//! What the provider's list means for the set.

use super::Live;
use super::data::Data;
use super::execution::Execution;
use super::set::{Gone, Sandbox, Set, State};
use crate::e2b::ListedSandbox;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The list and the events may tell the start of one stretch so far apart.
pub(super) const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// What happened so shortly before the list was read may not be in it; the next reading has it.
const RACE: SignedDuration = SignedDuration::from_secs(5);

/// A sandbox that went without a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vanished {
    pub(super) noticed_at: Timestamp,
    template_id: Option<String>,
    execution_id: Option<String>,
    started_at: String,
}

/// A state that the list shows and no event told in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Untold {
    /// The sandbox.
    pub sandbox_id: String,
    /// `running`, `paused` or `gone`.
    pub state: &'static str,
    /// The list's own text; may be empty where it was never listed.
    pub started_at: String,
    /// When it was noticed, by the host's clock.
    pub noticed_at: Timestamp,
    /// What it was made from.
    pub template_id: Option<String>,
    /// The running stretch, where it is known.
    pub execution_id: Option<String>,
    /// When its time is over.
    pub ends_at: Option<Timestamp>,
    /// As the user set it.
    pub metadata: Option<Data>,
}

impl Set {
    /// Takes one listed sandbox in. `read_at` is when the reading of the list began, by the host's clock.
    pub(super) fn listed(&mut self, listed: &ListedSandbox, read_at: Timestamp, now: Timestamp) {
        let recently = |at: Timestamp| at.saturating_add(RACE).is_ok_and(|then| then >= read_at);
        if self.gone(&listed.id).is_some_and(|gone| recently(gone.noticed_at)) {
            return;
        }
        // A list without times would be of no use here.
        let Ok(started_at) = listed.started_at.parse::<Timestamp>() else { return };
        let running = listed.state == "running";
        let execution = Execution {
            started_at: Some(started_at),
            vcpu_count: listed.cpu_count,
            memory_mb: listed.memory_mb,
            ..Execution::default()
        };
        self.vanished.remove(&listed.id);
        let Some(sandbox) = self.sandboxes.get_mut(&listed.id) else {
            let sandbox = Sandbox {
                state: if running { State::Running } else { State::Paused },
                template_id: Some(listed.template_id.clone()),
                created_at: None,
                updated_at: None,
                update_data: None,
                ends_at: listed.end(),
                metadata: listed.metadata(),
                execution: running.then_some(execution),
                changed_at: started_at,
                seen_at: if running { read_at } else { started_at },
                touched_at: None,
                untold_since: Some(now),
                listed_start: Some(listed.started_at.clone()),
                last_execution: None,
                last_sample: None,
                usage: None,
            };
            return self.insert(&listed.id, sandbox);
        };
        if sandbox.touched_at.is_some_and(recently) {
            return;
        }
        let before = sandbox.state;
        let mut left = None;
        let mut untold = false;
        if running {
            let present = sandbox.execution.take();
            let starts_anew = present
                .as_ref()
                .and_then(|present| present.started_at)
                .is_some_and(|known| known.saturating_add(SLACK).is_ok_and(|known| known < started_at));
            match present {
                Some(present) if !starts_anew => {
                    sandbox.execution = Some(Execution {
                        started_at: present.started_at.or(Some(started_at)),
                        vcpu_count: present.vcpu_count.or(listed.cpu_count),
                        memory_mb: present.memory_mb.or(listed.memory_mb),
                        ..present
                    });
                }
                present => {
                    left = present;
                    sandbox.execution = Some(execution);
                    sandbox.changed_at = sandbox.changed_at.max(started_at);
                    untold = true;
                }
            }
            sandbox.state = State::Running;
            sandbox.seen_at = sandbox.seen_at.max(read_at);
        } else {
            left = sandbox.execution.take();
            untold = before != State::Paused;
            sandbox.state = State::Paused;
        }
        if untold {
            sandbox.untold_since = Some(now);
        }
        sandbox.listed_start = Some(listed.started_at.clone());
        sandbox.ends_at = listed.end().or(sandbox.ends_at);
        sandbox.metadata = listed.metadata().or_else(|| sandbox.metadata.take());
        sandbox.template_id.get_or_insert_with(|| listed.template_id.clone());
        if let Some(left) = left {
            self.leave(&listed.id, left, now);
        }
    }

    /// Sandboxes that should be on a list read from `read_at` on and were not.
    pub(super) fn unlisted(&self, is_listed: impl Fn(&str) -> bool, read_at: Timestamp) -> Vec<String> {
        let settled = |sandbox: &Sandbox| {
            sandbox.touched_at.is_none_or(|at| at.saturating_add(RACE).is_ok_and(|then| then < read_at))
        };
        let missing = self.sandboxes.iter().filter(|(id, sandbox)| !is_listed(id) && settled(sandbox));
        missing.map(|(id, _)| id.clone()).collect()
    }

    /// The API does not know a sandbox: it is gone, unless an event tells otherwise before the grace is over.
    pub(super) fn missing(&mut self, id: &str, asked_at: Timestamp, now: Timestamp) {
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return };
        if sandbox.state == State::Missing || sandbox.touched_at.is_some_and(|at| at >= asked_at) {
            return;
        }
        sandbox.state = State::Missing;
        let execution = sandbox.execution.take();
        let started_at = sandbox.listed_start.clone().or_else(|| {
            let known = execution.as_ref().and_then(|execution| execution.started_at);
            known.map(|start| start.to_string())
        });
        let vanished = Vanished {
            noticed_at: now,
            template_id: sandbox.template_id.clone(),
            execution_id: execution.as_ref().and_then(|execution| execution.id.clone()),
            started_at: started_at.unwrap_or_default(),
        };
        self.vanished.insert(id.to_owned(), vanished);
        if let Some(execution) = execution {
            self.leave(id, execution, now);
        }
    }

    /// What no event told within the grace. Without [`super::Wants::emit`] it counts as told.
    pub(super) fn untold(&mut self, now: Timestamp) -> Vec<Untold> {
        let (grace, emit) = (self.wants.grace, self.wants.emit);
        let is_over = |since: Timestamp| since.saturating_add(grace).is_ok_and(|then| then <= now);
        if !emit {
            let gone: Vec<String> =
                self.vanished.iter().filter(|(_, one)| is_over(one.noticed_at)).map(|(id, _)| id.clone()).collect();
            gone.iter().for_each(|id| self.gone_told(id, now));
            return Vec::new();
        }
        let gone = self.vanished.iter().filter(|(_, one)| is_over(one.noticed_at)).map(|(id, one)| Untold {
            sandbox_id: id.clone(),
            state: "gone",
            started_at: one.started_at.clone(),
            noticed_at: one.noticed_at,
            template_id: one.template_id.clone(),
            execution_id: one.execution_id.clone(),
            ends_at: None,
            metadata: None,
        });
        let there =
            self.sandboxes.iter().filter(|(_, one)| one.untold_since.is_some_and(is_over)).filter_map(|(id, one)| {
                let state = match one.state {
                    State::Running => "running",
                    State::Paused => "paused",
                    State::Missing => return None,
                };
                Some(Untold {
                    sandbox_id: id.clone(),
                    state,
                    started_at: one.listed_start.clone().unwrap_or_default(),
                    noticed_at: one.untold_since?,
                    template_id: one.template_id.clone(),
                    execution_id: one.execution.as_ref().and_then(|execution| execution.id.clone()),
                    ends_at: one.ends_at,
                    metadata: one.metadata.clone(),
                })
            });
        gone.chain(there).collect()
    }

    /// The state is told.
    pub(super) fn told(&mut self, untold: &Untold, now: Timestamp) {
        if untold.state == "gone" {
            return self.gone_told(&untold.sandbox_id, now);
        }
        if let Some(sandbox) = self.sandboxes.get_mut(&untold.sandbox_id)
            && sandbox.untold_since == Some(untold.noticed_at)
        {
            sandbox.untold_since = None;
        }
    }

    fn gone_told(&mut self, id: &str, now: Timestamp) {
        self.vanished.remove(id);
        if self.sandboxes.get(id).is_some_and(|sandbox| sandbox.state == State::Missing) {
            self.remove(Gone { sandbox_id: id.to_owned(), at: now, noticed_at: now, execution_id: None });
        }
    }
}

impl ListedSandbox {
    fn end(&self) -> Option<Timestamp> {
        self.end_at.parse().ok()
    }

    fn metadata(&self) -> Option<Data> {
        Data::of(&serde_json::to_string(self.metadata.as_ref()?).ok()?)
    }
}

impl Live {
    /// See `Set::listed`.
    pub fn listed(&self, listed: &ListedSandbox, read_at: Timestamp, now: Timestamp) {
        self.set().listed(listed, read_at, now);
    }

    /// Ids of sandboxes that a list read from `read_at` on lacks.
    pub fn unlisted(&self, is_listed: impl Fn(&str) -> bool, read_at: Timestamp) -> Vec<String> {
        self.set().unlisted(is_listed, read_at)
    }

    /// The API, asked at `asked_at`, does not know this one.
    pub fn missing(&self, id: &str, asked_at: Timestamp, now: Timestamp) {
        self.set().missing(id, asked_at, now);
    }

    /// What is to be told now.
    pub fn untold(&self, now: Timestamp) -> Vec<Untold> {
        self.set().untold(now)
    }

    /// It was told.
    pub fn told(&self, untold: &Untold, now: Timestamp) {
        self.set().told(untold, now);
    }
}
