//! What the relay itself tells of a source's sandboxes, each only where it was asked for: states that no event told, the
//! usage of executions that ended, kills that did not come true.

use super::own::{Door, Offered, Own};
use crate::e2b::Api;
use crate::event::{Origin, Timestamp, reconcile_id, unconfirmed_id, usage_id};
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::sandboxes::{Due, Ended, Kill, Live, Untold};
use crate::shutdown::Shutdown;
use futures_util::{StreamExt, stream};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(500);
/// Records offered side by side.
const SIDE_BY_SIDE: usize = 64;
/// Calls to the API side by side, and in one look.
const CALLS: usize = 4;
const MAX_CALLS: usize = 200;
/// A sandbox that is still there so long after it was first found to be is not being killed.
pub const KILL_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// What it is made of.
pub struct Parts {
    /// The set.
    pub live: Live,
    /// For kills; without one none is verified.
    pub api: Option<Api>,
    /// The team, if the settings name one.
    pub team_id: Option<String>,
    /// The door.
    pub intake: Arc<Intake>,
    /// Counts.
    pub metrics: Metrics,
    /// See [`KILL_GRACE`].
    pub kill_grace: SignedDuration,
    /// True once the set holds what the journal holds.
    pub caught_up: watch::Receiver<bool>,
}

/// One source's.
pub struct Reporter {
    parts: Parts,
    door: Door,
}

impl Reporter {
    /// Nothing is told yet.
    pub fn new(parts: Parts) -> Self {
        let door = Door {
            source: Arc::clone(parts.live.source()),
            team_id: parts.team_id.clone(),
            intake: Arc::clone(&parts.intake),
        };
        Self { parts, door }
    }

    /// Tells what is due, until told to end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let work = async {
            let _ = self.parts.caught_up.wait_for(|up| *up).await;
            loop {
                let rest = self.look().await;
                tokio::time::sleep(rest.max(TICK)).await;
            }
        };
        // Whatever is cut off here is due again after the next start.
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = work => {}
        }
    }

    /// Returns how long the store asked to be left alone.
    async fn look(&self) -> Duration {
        let now = self.parts.intake.now();
        let untold = stream::iter(self.parts.live.untold(now)).map(|one| self.tell_state(one));
        let states: Vec<Duration> = untold.buffer_unordered(SIDE_BY_SIDE).collect().await;
        let due = self.parts.live.due(now);
        let usages: Vec<Duration> =
            stream::iter(due).map(|one| self.tell_usage(one)).buffer_unordered(SIDE_BY_SIDE).collect().await;
        let mut kills = Vec::new();
        if let Some(api) = &self.parts.api {
            let due = self.parts.live.kills(now, self.parts.kill_grace).into_iter().take(MAX_CALLS);
            let asked = stream::iter(due).map(|(id, kill)| self.verify(api, id, kill));
            kills = asked.buffer_unordered(CALLS).collect().await;
        }
        states.into_iter().chain(usages).chain(kills).max().unwrap_or_default()
    }

    async fn tell_state(&self, untold: Untold) -> Duration {
        let own = Own {
            id: reconcile_id(&untold.sandbox_id, untold.state, &untold.started_at),
            kind: "sandbox.reconciled",
            timestamp: untold.noticed_at.into(),
            sandbox_id: &untold.sandbox_id,
            execution_id: untold.execution_id.as_deref(),
            template_id: untold.template_id.as_deref(),
            data: json!({
                "state": untold.state,
                "started_at": (!untold.started_at.is_empty()).then_some(&untold.started_at),
                "ends_at": untold.ends_at,
                "sandbox_metadata": untold.metadata,
            }),
        };
        match self.door.offer(own, Origin::Reconcile).await {
            Offered::Later { retry_after } => retry_after,
            Offered::Durable | Offered::Refused => {
                self.parts.live.told(&untold, self.parts.intake.now());
                Duration::ZERO
            }
        }
    }

    async fn tell_usage(&self, ended: Ended) -> Duration {
        let Some(due) = ended.due() else {
            let (source, sandbox) = (self.parts.live.source(), &ended.sandbox_id);
            tracing::debug!(%source, sandbox_id = %sandbox, "an execution ended of which nobody told when it began: no usage is told");
            self.parts.live.usage_told(sandbox, None);
            return Duration::ZERO;
        };
        let id = usage_id(&due.key);
        let own = Own {
            id: id.clone(),
            kind: "sandbox.usage",
            timestamp: Timestamp::from(ended.ended_at),
            sandbox_id: &ended.sandbox_id,
            execution_id: ended.execution.id.as_deref(),
            template_id: ended.template_id.as_deref(),
            data: usage(&due),
        };
        match self.door.offer(own, Origin::Relay).await {
            Offered::Later { retry_after } => retry_after,
            Offered::Durable | Offered::Refused => {
                self.parts.live.usage_told(&ended.sandbox_id, Some(&id));
                Duration::ZERO
            }
        }
    }

    async fn verify(&self, api: &Api, id: String, kill: Kill) -> Duration {
        let Parts { live, intake, metrics, .. } = &self.parts;
        let source = live.source();
        let there = match api.sandbox(&id).await {
            Ok(answer) => answer.value,
            Err(error) => {
                tracing::debug!(%source, sandbox_id = %id, %error, "whether a sandbox is gone cannot be verified yet");
                return error.retry_after().unwrap_or_default();
            }
        };
        let Some(there) = there else {
            tracing::info!(%source, sandbox_id = %id, "sandbox verified removed");
            live.kill_settled(&id);
            return Duration::ZERO;
        };
        if kill.found_at.is_none() {
            live.found_alive(&id, intake.now());
            return Duration::ZERO;
        }
        let own = Own {
            id: unconfirmed_id(&kill.event_id),
            kind: "sandbox.kill_unconfirmed",
            // Of the event, so that it is the same however often it is told.
            timestamp: kill.killed_at.into(),
            sandbox_id: &id,
            execution_id: kill.execution_id.as_deref(),
            template_id: kill.template_id.as_deref(),
            data: json!({"killed_event_id": kill.event_id, "state": there.state}),
        };
        match self.door.offer(own, Origin::Relay).await {
            Offered::Later { retry_after } => retry_after,
            Offered::Durable | Offered::Refused => {
                tracing::warn!(%source, sandbox_id = %id, state = there.state, "a killed sandbox is still there");
                metrics.kill_unconfirmed(source);
                live.kill_settled(&id);
                Duration::ZERO
            }
        }
    }
}

fn usage(due: &Due) -> Value {
    const MIB_PER_GIB: f64 = 1024.0;
    let seconds = due.run_time_ms as f64 / 1000.0;
    let measured = &due.ended.execution.measured;
    let (cpu, memory, disk) = (measured.cpu(), measured.memory(), measured.disk());
    json!({
        "execution_started_at": due.started_at,
        "execution_ended_at": due.ended.ended_at,
        "run_time_ms": due.run_time_ms,
        "vcpu_count": due.vcpu_count,
        "memory_mb": due.memory_mb,
        "vcpu_seconds": due.vcpu_count.map(|count| count as f64 * seconds),
        "memory_gib_seconds": due.memory_mb.map(|mib| mib as f64 / MIB_PER_GIB * seconds),
        "end_reason": due.ended.reason,
        "basis": due.basis,
        "samples": measured.samples,
        "cpu_used_pct_max": cpu.map(|(max, _)| max),
        "cpu_used_pct_mean": cpu.map(|(_, mean)| mean),
        "mem_used_max": memory.map(|(max, _)| max),
        "mem_used_mean": memory.map(|(_, mean)| mean),
        "disk_used_max": disk.map(|(max, _)| max),
        "disk_used_mean": disk.map(|(_, mean)| mean),
    })
}
