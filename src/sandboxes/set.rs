//! The set itself: plain data, no clock. Whoever calls tells the time.

use super::data::Data;
use super::execution::{Ended, Execution, Reason, Usage};
use crate::event::usage_id;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Sandboxes of one source; above it the one that was silent for longest makes room.
pub const MAX_SANDBOXES: usize = 100_000;
/// Ids of sandboxes that are gone, remembered so that a late event brings none of them back.
const MAX_GONE: usize = 20_000;
/// Executions whose usage is due, and kills to be verified; above it the oldest are dropped, and counted.
const MAX_DUE: usize = 20_000;
/// So long after the end of an execution its last samples can be read.
const LAST_SAMPLES: SignedDuration = SignedDuration::from_secs(10);
/// So long its usage waits for them.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
/// Samples further apart were missed; the provider takes one every 5 s. In seconds.
const GAP: i64 = 15;

/// What shall be made of a source's set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wants {
    /// Executions that end are to be told.
    pub usage: bool,
    /// Kills are to be verified.
    pub verify_kills: bool,
    /// Samples are read, so that an execution's end waits for the last ones.
    pub metrics: bool,
    /// States that no event told are to be told.
    pub emit: bool,
    /// How long an event may be late before what it would have told is told without it.
    pub grace: SignedDuration,
}

/// Whether a sandbox runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It runs.
    Running,
    /// It is paused.
    Paused,
    /// The API does not know it any more, and no event told its end.
    Missing,
}

/// One that lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Whether it runs.
    pub state: State,
    /// What it was made from.
    pub template_id: Option<String>,
    /// By its `created` event.
    pub created_at: Option<Timestamp>,
    /// By its newest event.
    pub updated_at: Option<Timestamp>,
    /// `event_data` of the newest `updated` event.
    pub update_data: Option<Data>,
    /// When its time is over.
    pub ends_at: Option<Timestamp>,
    /// As the user set it; left out where it is very long.
    pub metadata: Option<Data>,
    /// The present running stretch, or none while it is paused.
    pub execution: Option<Execution>,
    /// When the state became so, by the provider's clock.
    pub(super) changed_at: Timestamp,
    /// The last moment at which it is known to have run.
    pub(super) seen_at: Timestamp,
    /// When its last event arrived, by the host's clock.
    pub(super) touched_at: Option<Timestamp>,
    /// The list shows the state since this time, by the host's clock, and no event told it.
    pub(super) untold_since: Option<Timestamp>,
    /// The list's own text.
    pub(super) listed_start: Option<String>,
    /// The execution that ended last.
    pub(super) last_execution: Option<String>,
    /// Unix seconds of its last sample, of whichever execution.
    #[serde(default)]
    pub(super) last_sample: Option<i64>,
    /// That sample, for operators; after a restart the next one comes within seconds.
    #[serde(skip)]
    pub(super) usage: Option<Usage>,
}

/// A killed event that is to be verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The event.
    pub event_id: String,
    /// Its time.
    pub killed_at: Timestamp,
    /// When the sandbox was first found to be there all the same, by the host's clock.
    pub found_at: Option<Timestamp>,
    /// What it was made from.
    pub template_id: Option<String>,
    /// The execution that was killed.
    pub execution_id: Option<String>,
}

/// One that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    pub(super) sandbox_id: String,
    /// By the provider's clock.
    pub(super) at: Timestamp,
    /// By the host's clock.
    pub(super) noticed_at: Timestamp,
    /// The execution that was killed, where an event told so.
    #[serde(default)]
    pub(super) execution_id: Option<String>,
}

/// A sandbox whose samples are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The sandbox.
    pub sandbox_id: String,
    /// What it was made from.
    pub template_id: Option<String>,
    /// Since when it lives, as far as known; the oldest come first.
    pub since: Timestamp,
    /// Whether it runs; else only its last samples are wanted.
    pub running: bool,
}

/// What a sample is to the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Seen before, or older than the execution: nothing to be done.
    Known,
    /// New, and next to the last one.
    New,
    /// New, and others are missing before it: after `after` and before the sample, Unix seconds.
    Gap {
        /// The last one that is known, or the second before the execution began.
        after: i64,
        /// The sandbox's last sample, which may be one of the execution before.
        known: Option<i64>,
    },
}

/// One source's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Set {
    /// The journal is in it up to this sequence.
    pub(super) applied: u64,
    /// Since when anybody watches: what was missed before is not fetched. Unix seconds.
    pub(super) since: i64,
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    pub(super) ended: VecDeque<Ended>,
    pub(super) gone: VecDeque<Gone>,
    pub(super) kills: BTreeMap<String, Kill>,
    /// Gone without a word, and to be told: sandbox, and when it began by the list's own text.
    #[serde(default)]
    pub(super) vanished: BTreeMap<String, super::list::Vanished>,
    /// Dropped for want of room.
    #[serde(skip)]
    pub(super) dropped: u64,
    #[serde(skip)]
    pub(super) wants: Wants,
}

impl Set {
    pub(super) fn new(applied: u64, now: Timestamp) -> Self {
        Self { applied, since: now.as_second(), ..Self::default() }
    }

    /// Running, paused, other.
    pub(super) fn counts(&self) -> [u64; 3] {
        let mut counts = [0; 3];
        for sandbox in self.sandboxes.values() {
            let [running, paused, other] = &mut counts;
            *match sandbox.state {
                State::Running => running,
                State::Paused => paused,
                State::Missing => other,
            } += 1;
        }
        counts
    }

    pub(super) fn insert(&mut self, id: &str, sandbox: Sandbox) {
        if self.sandboxes.len() >= MAX_SANDBOXES && !self.sandboxes.contains_key(id) {
            let silent = self.sandboxes.iter().min_by_key(|(_, sandbox)| sandbox.seen_at).map(|(id, _)| id.clone());
            if let Some(silent) = silent {
                self.sandboxes.remove(&silent);
                self.dropped += 1;
            }
        }
        self.sandboxes.insert(id.to_owned(), sandbox);
    }

    /// Takes a sandbox out for good.
    pub(super) fn remove(&mut self, gone: Gone) {
        self.sandboxes.remove(&gone.sandbox_id);
        if self.gone.len() >= MAX_GONE {
            self.gone.pop_front();
        }
        self.gone.push_back(gone);
    }

    pub(super) fn gone(&self, id: &str) -> Option<&Gone> {
        self.gone.iter().rev().find(|gone| gone.sandbox_id == id)
    }

    /// Notes the end of an execution, if its usage is to be told.
    pub(super) fn end(&mut self, mut ended: Ended) {
        if !self.wants.usage {
            return;
        }
        ended.measured_out = !self.wants.metrics;
        if self.ended.len() >= MAX_DUE {
            self.ended.pop_front();
            self.dropped += 1;
        }
        self.ended.push_back(ended);
    }

    /// The execution of a sandbox that ended and is not yet told: the one with that id, or the one that was taken for
    /// vanished and whose id nobody knew.
    pub(super) fn ended_before(&mut self, sandbox_id: &str, execution_id: &str) -> Option<&mut Ended> {
        self.ended.iter_mut().filter(|ended| ended.sandbox_id == sandbox_id).find(|ended| {
            let known = ended.execution.id.as_deref();
            known == Some(execution_id) || (known.is_none() && ended.reason == Reason::Vanished)
        })
    }

    pub(super) fn note_kill(&mut self, sandbox_id: &str, kill: Kill) {
        if !self.wants.verify_kills {
            return;
        }
        if self.kills.len() >= MAX_DUE {
            self.kills.pop_first();
            self.dropped += 1;
        }
        self.kills.insert(sandbox_id.to_owned(), kill);
    }

    /// Whose samples to read now, the oldest first.
    pub(super) fn wanted(&self, now: Timestamp) -> Vec<Wanted> {
        let running = self.sandboxes.iter().filter(|(_, sandbox)| sandbox.state == State::Running);
        let mut wanted: Vec<Wanted> = running
            .map(|(id, sandbox)| Wanted {
                sandbox_id: id.clone(),
                template_id: sandbox.template_id.clone(),
                since: sandbox.since(),
                running: true,
            })
            .collect();
        wanted.sort_by(|a, b| (a.since, &a.sandbox_id).cmp(&(b.since, &b.sandbox_id)));
        let due = |ended: &&Ended| {
            !ended.measured_out && ended.noticed_at.saturating_add(LAST_SAMPLES).is_ok_and(|due| due <= now)
        };
        for ended in self.ended.iter().filter(due) {
            let runs = self.sandboxes.get(&ended.sandbox_id).is_some_and(|sandbox| sandbox.state == State::Running);
            if !runs && !wanted.iter().rev().any(|one| !one.running && one.sandbox_id == ended.sandbox_id) {
                wanted.push(Wanted {
                    sandbox_id: ended.sandbox_id.clone(),
                    template_id: ended.template_id.clone(),
                    since: ended.execution.started_at.unwrap_or(ended.ended_at),
                    running: false,
                });
            }
        }
        wanted
    }

    /// Everything that there was to read at `asked_at` has been read of this sandbox.
    pub(super) fn measured_out(&mut self, sandbox_id: &str, asked_at: Timestamp) {
        for ended in self.ended.iter_mut().filter(|ended| ended.sandbox_id == sandbox_id) {
            ended.measured_out |= ended.noticed_at.saturating_add(LAST_SAMPLES).is_ok_and(|due| due <= asked_at);
        }
    }

    /// Which execution a sample belongs to: the running one, or one that ended and is not yet told.
    fn execution_at(&mut self, sandbox_id: &str, time: i64) -> Option<&mut Execution> {
        // A sample's time is cut down to whole seconds.
        let within = |execution: &Execution| execution.started_at.is_none_or(|start| start.as_second() <= time);
        let ended = self.ended.iter_mut().rev().find(|ended| {
            ended.sandbox_id == sandbox_id && within(&ended.execution) && time <= ended.ended_at.as_second()
        });
        if let Some(ended) = ended {
            return Some(&mut ended.execution);
        }
        let running = self.sandboxes.get_mut(sandbox_id).filter(|sandbox| sandbox.state == State::Running)?;
        running.execution.as_mut().filter(|execution| within(execution))
    }

    /// The id of the execution that a sample of this time belongs to.
    pub(super) fn execution_id_at(&mut self, sandbox_id: &str, time: i64) -> Option<String> {
        self.execution_at(sandbox_id, time)?.id.clone()
    }

    /// What a sample of this time is.
    pub(super) fn judge(&mut self, sandbox_id: &str, time: i64) -> Verdict {
        let since = self.since;
        let known = self.sandboxes.get(sandbox_id).and_then(|sandbox| sandbox.last_sample);
        let Some(execution) = self.execution_at(sandbox_id, time) else { return Verdict::Known };
        match execution.measured.last {
            Some(last) if time <= last => Verdict::Known,
            Some(last) if time - last > GAP => Verdict::Gap { after: last, known: Some(last) },
            Some(_) => Verdict::New,
            None => match execution.started_at.map(|start| start.as_second().max(since)) {
                Some(start) if time - start > GAP => Verdict::Gap { after: start - 1, known },
                _ => Verdict::New,
            },
        }
    }

    /// Takes a sample in; `false` if it is none that counts.
    pub(super) fn sampled(&mut self, sandbox_id: &str, usage: &Usage) -> bool {
        let Some(execution) = self.execution_at(sandbox_id, usage.time) else { return false };
        if execution.measured.last.is_some_and(|last| usage.time <= last) {
            return false;
        }
        execution.measured.add(usage);
        if let Some(sandbox) = self.sandboxes.get_mut(sandbox_id)
            && let Ok(time) = Timestamp::from_second(usage.time)
        {
            sandbox.seen_at = sandbox.seen_at.max(time);
            sandbox.last_sample = sandbox.last_sample.max(Some(usage.time));
            sandbox.usage = Some(*usage).filter(|_| sandbox.last_sample == Some(usage.time)).or(sandbox.usage);
        }
        true
    }

    /// Executions whose usage is to be told now.
    pub(super) fn due(&self, now: Timestamp) -> Vec<Ended> {
        let passed = |from: Timestamp, time: SignedDuration| from.saturating_add(time).is_ok_and(|then| then <= now);
        let is_due = |ended: &&Ended| {
            (ended.measured_out || passed(ended.noticed_at, PATIENCE))
                && (ended.reason != Reason::Vanished || passed(ended.noticed_at, self.wants.grace))
        };
        self.ended.iter().filter(is_due).cloned().collect()
    }

    /// The usage of an execution is told by the record of that id; `None`: it cannot be told.
    pub(super) fn usage_told(&mut self, sandbox_id: &str, record_id: Option<&str>) {
        let is_it = |ended: &Ended| {
            let id = ended.due().map(|due| usage_id(&due.key));
            ended.sandbox_id == sandbox_id && id.as_deref() == record_id
        };
        self.ended.retain(|ended| !is_it(ended));
    }

    /// Kills to be verified at `now`, `grace` after the sandbox was first found to be there still.
    pub(super) fn kills(&self, now: Timestamp, grace: SignedDuration) -> Vec<(String, Kill)> {
        let is_due =
            |kill: &Kill| kill.found_at.is_none_or(|at| at.saturating_add(grace).is_ok_and(|then| then <= now));
        self.kills.iter().filter(|(_, kill)| is_due(kill)).map(|(id, kill)| (id.clone(), kill.clone())).collect()
    }

    /// The sandbox was found to be there although it was killed.
    pub(super) fn found_alive(&mut self, sandbox_id: &str, now: Timestamp) {
        if let Some(kill) = self.kills.get_mut(sandbox_id) {
            kill.found_at.get_or_insert(now);
        }
    }

    /// Whether a kill was real is known.
    pub(super) fn kill_settled(&mut self, sandbox_id: &str) {
        self.kills.remove(sandbox_id);
    }

    /// How many were dropped for want of room since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl Sandbox {
    pub(super) fn since(&self) -> Timestamp {
        let started = self.execution.as_ref().and_then(|execution| execution.started_at);
        self.created_at.or(started).unwrap_or(self.changed_at)
    }
}
