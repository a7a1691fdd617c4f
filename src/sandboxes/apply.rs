//! What an event of the journal means for the set.

use super::data::Data;
use super::execution::{Ended, Execution, Reason, Told, Usage};
use super::set::{Gone, Kill, Sandbox, Set, State};
use crate::decode;
use crate::event::{Origin, Stored};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// Type of a sample; like the next ones, one that the relay makes itself.
pub const METRICS: &str = "sandbox.metrics";
const USAGE: &str = "sandbox.usage";
const UNCONFIRMED: &str = "sandbox.kill_unconfirmed";
pub(super) const RECONCILED: &str = "sandbox.reconciled";

/// An event of a sandbox's life, as far as it matters here.
pub(super) struct Happened<'a> {
    id: &'a str,
    kind: &'a str,
    sandbox_id: &'a str,
    at: Timestamp,
    now: Timestamp,
    template_id: Option<String>,
    execution_id: Option<String>,
    /// `event_data`, JSON text.
    data: &'a str,
    members: Members<'a>,
}

/// Of `event_data` what matters here, each as it came; null counts as absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    sandbox_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    set_timeout: Option<&'a RawValue>,
    #[serde(borrow)]
    execution: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    started_at: Option<&'a RawValue>,
}

impl Set {
    /// Takes one event of the journal in; what is in it already changes nothing.
    pub(super) fn apply(&mut self, stored: &Stored) {
        if stored.sequence <= self.applied {
            return;
        }
        self.applied = stored.sequence;
        let event = &stored.event;
        // What no source could have accepted is nobody's life.
        let Ok(record) = decode::stored(event) else { return };
        let data = record.get("event_data").unwrap_or("null");
        let happened = Happened {
            id: &event.id,
            kind: &event.kind,
            sandbox_id: &event.sandbox_id,
            at: event.timestamp.instant(),
            now: stored.arrival.received_at,
            template_id: record.text("sandbox_template_id"),
            execution_id: record.text("sandbox_execution_id"),
            data,
            members: serde_json::from_str(data).unwrap_or_default(),
        };
        match (stored.arrival.origin, event.kind.as_str()) {
            (Origin::Metrics, METRICS) => self.apply_sample(&happened),
            (Origin::Relay, USAGE) => self.usage_told(&event.sandbox_id, Some(&event.id)),
            (Origin::Relay, UNCONFIRMED) => self.kill_settled(&event.sandbox_id),
            (Origin::Reconcile, RECONCILED) => self.apply_reconciled(&happened),
            (Origin::Webhook | Origin::Backfill, _) => self.happened(&happened),
            _ => {}
        }
    }

    fn happened(&mut self, event: &Happened<'_>) {
        match event.kind {
            "sandbox.lifecycle.created" | "sandbox.lifecycle.resumed" => self.began(event),
            "sandbox.lifecycle.updated" | "sandbox.lifecycle.checkpointed" => self.ran(event),
            "sandbox.lifecycle.paused" => self.paused(event),
            "sandbox.lifecycle.killed" => self.killed(event),
            _ => self.touch(event),
        }
    }

    /// A late event of a sandbox that is gone, or of an execution that ended.
    fn is_past(&self, event: &Happened<'_>) -> bool {
        let ended = |sandbox: &Sandbox| event.execution_id.is_some() && sandbox.last_execution == event.execution_id;
        let vanished = self.vanished.get(event.sandbox_id).is_some_and(|vanished| event.at <= vanished.noticed_at);
        match self.sandboxes.get(event.sandbox_id) {
            Some(sandbox) => vanished || ended(sandbox),
            None => self.gone(event.sandbox_id).is_some_and(|gone| event.at <= gone.at || event.at <= gone.noticed_at),
        }
    }

    fn began(&mut self, event: &Happened<'_>) {
        let created = event.kind.ends_with("created");
        if self.is_past(event) {
            return self.learn_creation(event, created);
        }
        let mut execution = Execution {
            id: event.execution_id.clone(),
            started_at: Some(event.at),
            start_told: true,
            ..Execution::default()
        };
        let Some(sandbox) = self.sandboxes.get_mut(event.sandbox_id) else {
            let mut sandbox = event.sandbox(Some(execution));
            sandbox.created_at = created.then_some(event.at);
            return self.insert(event.sandbox_id, sandbox);
        };
        let present = sandbox.execution.as_ref();
        let same = present.is_some_and(|present| present.is(event.execution_id.as_deref(), event.at));
        if !same && event.at < sandbox.changed_at {
            // A stretch that was over before the present one began.
            return self.learn_creation(event, created);
        }
        let left = if same { None } else { sandbox.execution.take() };
        if let Some(present) = sandbox.execution.take() {
            // The list was faster, or tells it again; what it and the samples told stays.
            execution = Execution { vcpu_count: present.vcpu_count, memory_mb: present.memory_mb, ..execution };
            execution.measured = present.measured;
        }
        sandbox.state = State::Running;
        sandbox.changed_at = event.at;
        sandbox.execution = Some(execution);
        if created {
            sandbox.created_at = Some(event.at);
        }
        if let Some(left) = left {
            self.leave(event.sandbox_id, left, event.now);
        }
        self.touch(event);
    }

    fn learn_creation(&mut self, event: &Happened<'_>, created: bool) {
        if let Some(sandbox) = self.sandboxes.get_mut(event.sandbox_id).filter(|_| created) {
            sandbox.created_at = Some(event.at);
        }
        self.touch(event);
    }

    /// Only a sandbox that runs is updated or checkpointed.
    fn ran(&mut self, event: &Happened<'_>) {
        if self.is_past(event) {
            return;
        }
        let unknown = Execution { id: event.execution_id.clone(), ..Execution::default() };
        let Some(sandbox) = self.sandboxes.get_mut(event.sandbox_id) else {
            self.insert(event.sandbox_id, event.sandbox(Some(unknown)));
            return self.touch(event);
        };
        let mut left = None;
        match &mut sandbox.execution {
            Some(present) if present.is(event.execution_id.as_deref(), event.at) => {
                present.id.clone_from(&event.execution_id);
            }
            // The event of this stretch's start is still to come, or was lost.
            _ if event.at > sandbox.changed_at => {
                left = sandbox.execution.replace(unknown);
                sandbox.state = State::Running;
                sandbox.changed_at = event.at;
            }
            _ => return,
        }
        if let Some(left) = left {
            self.leave(event.sandbox_id, left, event.now);
        }
        self.touch(event);
    }

    fn paused(&mut self, event: &Happened<'_>) {
        self.ended(event, Reason::Paused);
        if self.is_past(event) {
            return self.touch(event);
        }
        let Some(sandbox) = self.sandboxes.get_mut(event.sandbox_id) else {
            let mut sandbox = event.sandbox(None);
            sandbox.state = State::Paused;
            sandbox.last_execution.clone_from(&event.execution_id);
            return self.insert(event.sandbox_id, sandbox);
        };
        if event.at >= sandbox.changed_at {
            // If it is another execution that was paused, the present one ended before that began.
            let left = sandbox.execution.take().filter(|left| !left.is(event.execution_id.as_deref(), event.at));
            sandbox.state = State::Paused;
            sandbox.changed_at = event.at;
            sandbox.last_execution.clone_from(&event.execution_id);
            if let Some(left) = left {
                self.leave(event.sandbox_id, left, event.now);
            }
        }
        self.touch(event);
    }

    fn killed(&mut self, event: &Happened<'_>) {
        self.ended(event, Reason::Killed);
        self.vanished.remove(event.sandbox_id);
        let newer = |sandbox: &Sandbox| sandbox.state == State::Running && sandbox.changed_at > event.at;
        if self.sandboxes.get(event.sandbox_id).is_some_and(newer) {
            return;
        }
        let present = self.sandboxes.get_mut(event.sandbox_id).and_then(|sandbox| sandbox.execution.take());
        if let Some(left) = present.filter(|present| !present.is(event.execution_id.as_deref(), event.at)) {
            // It ended before the one that was killed began: the events between are still to come, or were lost.
            self.leave(event.sandbox_id, left, event.now);
        }
        self.remove(event.gone(event.execution_id.clone()));
        let kill = Kill {
            event_id: event.id.to_owned(),
            killed_at: event.at,
            found_at: None,
            template_id: event.template_id.clone(),
            execution_id: event.execution_id.clone(),
        };
        self.note_kill(event.sandbox_id, kill);
    }

    /// The end of an execution, by its event.
    fn ended(&mut self, event: &Happened<'_>, reason: Reason) {
        let told = event.execution();
        if let Some(id) = &event.execution_id
            && let Some(ended) = self.ended_before(event.sandbox_id, id)
        {
            if ended.reason == Reason::Vanished {
                ended.execution.id = Some(id.clone());
                (ended.reason, ended.ended_at, ended.told) = (reason, event.at, told);
            }
            return;
        }
        let Some(sandbox) = self.sandboxes.get(event.sandbox_id) else {
            // Its end is all that is known of it, unless that is known already. An execution other than the one that was
            // killed ended before: its event was overtaken.
            let is_other = |killed: &String| event.execution_id.as_ref().is_some_and(|own| own != killed);
            let gone = self.gone(event.sandbox_id);
            if gone.is_none_or(|gone| gone.execution_id.as_ref().is_some_and(is_other)) {
                self.end_of(event, Execution::default(), reason, told);
            }
            return;
        };
        if event.execution_id.is_some() && sandbox.last_execution == event.execution_id {
            return;
        }
        let present = sandbox.execution.clone();
        let execution = present.filter(|present| present.is(event.execution_id.as_deref(), event.at));
        self.end_of(event, execution.unwrap_or_default(), reason, told);
    }

    fn end_of(&mut self, event: &Happened<'_>, mut execution: Execution, reason: Reason, told: Option<Told>) {
        if event.execution_id.is_some() {
            execution.id.clone_from(&event.execution_id);
        }
        self.end(Ended {
            sandbox_id: event.sandbox_id.to_owned(),
            template_id: event.template_id.clone(),
            execution,
            ended_at: event.at,
            reason,
            told,
            noticed_at: event.now,
            measured_out: false,
        });
    }

    /// An execution is over of which no event told the end; one may still come.
    pub(super) fn leave(&mut self, sandbox_id: &str, execution: Execution, now: Timestamp) {
        let sandbox = self.sandboxes.get(sandbox_id);
        let (seen_at, template_id) = sandbox.map_or((now, None), |one| (one.seen_at, one.template_id.clone()));
        let ended_at = execution.started_at.map_or(seen_at, |started| seen_at.max(started)).min(now);
        self.end(Ended {
            sandbox_id: sandbox_id.to_owned(),
            template_id,
            execution,
            ended_at,
            reason: Reason::Vanished,
            told: None,
            noticed_at: now,
            measured_out: false,
        });
    }

    /// What every event tells of a sandbox that is there.
    fn touch(&mut self, event: &Happened<'_>) {
        let Some(sandbox) = self.sandboxes.get_mut(event.sandbox_id) else { return };
        if sandbox.template_id.is_none() {
            sandbox.template_id.clone_from(&event.template_id);
        }
        sandbox.touched_at = Some(event.now);
        if sandbox.state != State::Missing {
            self.vanished.remove(event.sandbox_id);
        }
        if event.at >= sandbox.changed_at {
            sandbox.untold_since = None;
        }
        if sandbox.updated_at.is_some_and(|newest| newest > event.at) {
            return;
        }
        sandbox.updated_at = Some(event.at);
        sandbox.seen_at = sandbox.seen_at.max(event.at);
        if let Some(metadata) = event.members.sandbox_metadata {
            sandbox.metadata = Data::of(metadata.get());
        }
        if event.kind.ends_with("updated") {
            sandbox.update_data = Data::of(event.data);
            // The provider gives the new end; clones of it give seconds from now.
            let end = match event.members.set_timeout.and_then(read) {
                Some(Value::String(end)) => end.parse().ok(),
                Some(Value::Number(seconds)) => seconds
                    .as_i64()
                    .and_then(|seconds| event.at.checked_add(jiff::SignedDuration::from_secs(seconds)).ok()),
                _ => None,
            };
            sandbox.ends_at = end.or(sandbox.ends_at);
        }
    }

    /// A record of the relay's own, read again: the sample counts, and nobody asks for it again.
    fn apply_sample(&mut self, event: &Happened<'_>) {
        #[derive(Deserialize)]
        struct Sample {
            cpu_used_pct: f64,
            mem_used: i64,
            #[serde(default)]
            mem_total: i64,
            disk_used: i64,
            disk_total: i64,
        }
        let Ok(sample) = serde_json::from_str::<Sample>(event.data) else { return };
        let usage = Usage {
            time: event.at.as_second(),
            cpu_used_pct: sample.cpu_used_pct,
            mem_used: sample.mem_used,
            mem_total: sample.mem_total,
            disk_used: sample.disk_used,
            disk_total: sample.disk_total,
        };
        if !self.sandboxes.contains_key(event.sandbox_id) && !self.is_past(event) {
            // Only the list knew it, and what the list told is not in the journal.
            let execution = Execution { id: event.execution_id.clone(), ..Execution::default() };
            self.insert(event.sandbox_id, event.sandbox(Some(execution)));
        }
        self.sampled(event.sandbox_id, &usage);
    }

    fn apply_reconciled(&mut self, event: &Happened<'_>) {
        let started_at = event.members.started_at.and_then(read::<Timestamp>);
        let state: Option<String> = event.members.state.and_then(read);
        if state.as_deref() == Some("gone") {
            self.vanished.remove(event.sandbox_id);
            if self.sandboxes.get(event.sandbox_id).is_some_and(|sandbox| sandbox.changed_at <= event.at) {
                self.remove(event.gone(None));
            }
            return;
        }
        if let Some(sandbox) = self.sandboxes.get_mut(event.sandbox_id) {
            sandbox.untold_since = None;
        } else if !self.is_past(event) {
            let running = state.as_deref() == Some("running");
            let execution = Execution { id: event.execution_id.clone(), started_at, ..Execution::default() };
            let mut sandbox = event.sandbox(running.then_some(execution));
            sandbox.state = if running { State::Running } else { State::Paused };
            self.insert(event.sandbox_id, sandbox);
        }
    }
}

impl Execution {
    /// Whether it is the one of an event: the ids tell, else the times.
    fn is(&self, id: Option<&str>, at: Timestamp) -> bool {
        match (self.id.as_deref(), id) {
            (Some(own), Some(other)) => own == other,
            _ => self.started_at.is_none_or(|started| started <= at.saturating_add(super::list::SLACK).unwrap_or(at)),
        }
    }
}

impl Happened<'_> {
    /// `event_data.execution`.
    fn execution(&self) -> Option<Told> {
        let execution: Value = self.members.execution.and_then(read)?;
        let number = |name: &str| execution.get(name).and_then(Value::as_i64);
        let started_at = execution.get("started_at").and_then(Value::as_str).and_then(|start| start.parse().ok());
        Some(Told {
            started_at,
            run_time_ms: number("execution_time"),
            vcpu_count: number("vcpu_count"),
            memory_mb: number("memory_mb"),
        })
    }

    /// The sandbox's end; `killed` is the execution that the event ended.
    fn gone(&self, killed: Option<String>) -> Gone {
        Gone { sandbox_id: self.sandbox_id.to_owned(), at: self.at, noticed_at: self.now, execution_id: killed }
    }

    /// A sandbox of which this is the first news.
    fn sandbox(&self, execution: Option<Execution>) -> Sandbox {
        Sandbox {
            state: State::Running,
            template_id: self.template_id.clone(),
            created_at: None,
            updated_at: Some(self.at),
            update_data: None,
            ends_at: None,
            metadata: self.members.sandbox_metadata.and_then(|metadata| Data::of(metadata.get())),
            execution,
            changed_at: self.at,
            seen_at: self.at,
            touched_at: Some(self.now),
            untold_since: None,
            listed_start: None,
            last_execution: None,
            last_sample: None,
            usage: None,
        }
    }
}

fn read<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}
