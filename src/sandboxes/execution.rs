//! One running stretch of a sandbox, what was measured in it, and its end.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A running stretch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// `sandbox_execution_id`; the provider's list does not tell it.
    pub id: Option<String>,
    /// `None` until an event or the list tells.
    pub started_at: Option<Timestamp>,
    /// Whether an event told the start; else the list did.
    pub start_told: bool,
    /// Virtual CPUs.
    pub vcpu_count: Option<i64>,
    /// MiB.
    pub memory_mb: Option<i64>,
    /// What was measured.
    pub measured: Measured,
}

/// Running maxima and sums over samples; disks that are not reported (0) do not count.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Unix seconds of the last sample.
    pub last: Option<i64>,
    /// How many.
    pub samples: u64,
    cpu_max: f64,
    cpu_sum: f64,
    mem_max: i64,
    mem_sum: i64,
    disk_samples: u64,
    disk_max: i64,
    disk_sum: i64,
}

/// What counts of a sample: CPU in percent, the rest in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Unix seconds.
    #[serde(rename = "unix_seconds")]
    pub time: i64,
    /// Percent.
    pub cpu_used_pct: f64,
    /// Bytes.
    pub mem_used: i64,
    /// Bytes.
    pub mem_total: i64,
    /// Bytes.
    pub disk_used: i64,
    /// Bytes; 0 where the sandbox does not report its disk.
    pub disk_total: i64,
}

impl Measured {
    pub(super) fn add(&mut self, usage: &Usage) {
        self.last = Some(usage.time);
        self.samples += 1;
        self.cpu_max = self.cpu_max.max(usage.cpu_used_pct);
        self.cpu_sum += usage.cpu_used_pct;
        self.mem_max = self.mem_max.max(usage.mem_used);
        self.mem_sum = self.mem_sum.saturating_add(usage.mem_used);
        if usage.disk_total > 0 {
            self.disk_samples += 1;
            self.disk_max = self.disk_max.max(usage.disk_used);
            self.disk_sum = self.disk_sum.saturating_add(usage.disk_used);
        }
    }

    /// Percent: the greatest and the mean.
    pub fn cpu(&self) -> Option<(f64, f64)> {
        (self.samples > 0).then(|| (self.cpu_max, self.cpu_sum / self.samples as f64))
    }

    /// Bytes: the greatest and the mean.
    pub fn memory(&self) -> Option<(i64, i64)> {
        mean(self.mem_sum, self.samples).map(|mean| (self.mem_max, mean))
    }

    /// Likewise.
    pub fn disk(&self) -> Option<(i64, i64)> {
        mean(self.disk_sum, self.disk_samples).map(|mean| (self.disk_max, mean))
    }
}

/// Rounded to whole bytes.
fn mean(sum: i64, count: u64) -> Option<i64> {
    let count = i64::try_from(count).ok()?;
    sum.checked_add(count / 2)?.checked_div(count)
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// By a killed event.
    Killed,
    /// By a paused event.
    Paused,
    /// No event told.
    Vanished,
}

/// What the event of an end tells of its execution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) started_at: Option<Timestamp>,
    pub(super) run_time_ms: Option<i64>,
    pub(super) vcpu_count: Option<i64>,
    pub(super) memory_mb: Option<i64>,
}

/// An execution that ended and whose `sandbox.usage` record is not yet made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Of the sandbox.
    pub sandbox_id: String,
    /// Of the sandbox.
    pub template_id: Option<String>,
    /// What ended.
    pub execution: Execution,
    /// When; for [`Reason::Vanished`] the last moment at which it was known to run.
    pub ended_at: Timestamp,
    /// How.
    pub reason: Reason,
    pub(super) told: Option<Told>,
    /// By the host's clock.
    pub(super) noticed_at: Timestamp,
    /// Its last samples were asked for.
    pub(super) measured_out: bool,
}

/// What a `sandbox.usage` record says.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// Identifies the execution: its id, or where nobody told it the sandbox and its start.
    pub key: String,
    /// `execution`, `events` or `reconcile`: where the figures come from.
    pub basis: &'static str,
    /// RFC 3339.
    pub started_at: Timestamp,
    /// Milliseconds.
    pub run_time_ms: i64,
    /// Where anybody told.
    pub vcpu_count: Option<i64>,
    /// MiB.
    pub memory_mb: Option<i64>,
    /// The rest.
    pub ended: Ended,
}

impl Ended {
    /// The figures; `None` where nobody told when it began.
    pub fn due(&self) -> Option<Due> {
        let told = self.told.clone().unwrap_or_default();
        let started_at = told.started_at.or(self.execution.started_at)?;
        let ran = self.ended_at.duration_since(started_at).as_millis();
        let run_time_ms = told.run_time_ms.unwrap_or_else(|| i64::try_from(ran).unwrap_or(i64::MAX)).max(0);
        let basis = match () {
            () if told.started_at.is_some() => "execution",
            () if self.reason != Reason::Vanished && self.execution.start_told => "events",
            () => "reconcile",
        };
        let key = self.execution.id.clone().unwrap_or_else(|| format!("{}:{started_at}", self.sandbox_id));
        Some(Due {
            key,
            basis,
            started_at,
            run_time_ms,
            vcpu_count: told.vcpu_count.or(self.execution.vcpu_count),
            memory_mb: told.memory_mb.or(self.execution.memory_mb),
            ended: self.clone(),
        })
    }
}
