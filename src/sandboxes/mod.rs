//! Which sandboxes live, per source.
//!
//! ```text
//! journal ─► follow ─► apply ──┐
//! list of the provider ─► list ┼─► Set ─► view (/api/sandboxes), what to scrape, what ended
//! samples ─────────────────────┘    └─► snapshot, with the sequence up to which the journal is in it
//! ```
//!
//! The set is what the journal tells, in its order, corrected by the provider's list. It rests on no answer to a
//! delivery: it reads the journal like a sink does. After a restart it is the last snapshot and what the journal holds
//! beyond it, so that a killed process loses nothing that a record tells of.
//!
//! Events alone are not enough (see e2b-dev/infra, `packages/orchestrator/pkg/server/sandboxes.go`): killing a paused
//! sandbox and a crash emit nothing, a fork's child begins with `resumed`, `updated` comes although nothing changed, and
//! none of them comes in order. So an event older than the state is no news, an execution that ended does not begin again,
//! and what the list shows and no event tells becomes true at once and is *told* only when no event came for a while.

mod apply;
mod data;
mod execution;
mod follow;
mod list;
mod set;
mod snapshot;
mod view;

#[cfg(test)]
mod tests;

pub use apply::METRICS;
pub use data::Data;
pub use execution::{Due, Ended, Execution, Measured, Reason, Usage};
pub use follow::Follower;
pub use list::Untold;
pub use set::{Kill, MAX_SANDBOXES, Sandbox, State, Verdict, Wanted, Wants};
pub use view::{Part, View, ViewedSandbox};

use crate::metrics::Metrics;
use jiff::{SignedDuration, Timestamp};
use set::Set;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The sets of all sources. Cloning shares them.
#[derive(Clone, Default)]
pub struct Sandboxes(Arc<RwLock<Lives>>);

type Lives = Arc<BTreeMap<String, Live>>;

/// The set of one source. Cloning shares it.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    source: Arc<str>,
    file: PathBuf,
    set: Mutex<Set>,
    metrics: Metrics,
}

impl Sandboxes {
    /// Reads what was kept in `folder`, for each source with what is wanted of it. Where nothing was kept, the set
    /// begins behind the sequence `durable`.
    ///
    /// Blocks on the disk.
    pub fn open<'s>(
        folder: &Path,
        sources: impl IntoIterator<Item = (&'s str, Wants)>,
        durable: u64,
        now: Timestamp,
        metrics: &Metrics,
    ) -> Self {
        let this = Self::default();
        this.replace(folder, sources, durable, now, metrics);
        this
    }

    /// From now on there are these sources: the sets of those that were there stay, with what is wanted of them now. Where
    /// there are others than before, the [`Follower`] must have ended, which keeps the sets of those that go, and another
    /// must follow it, since a set that comes back lacks what the journal told last.
    ///
    /// Blocks on the disk.
    pub fn replace<'s>(
        &self,
        folder: &Path,
        sources: impl IntoIterator<Item = (&'s str, Wants)>,
        durable: u64,
        now: Timestamp,
        metrics: &Metrics,
    ) {
        let before = self.all();
        let open = |(name, wants): (&str, Wants)| {
            if let Some(live) = before.get(name) {
                live.set().wants = wants;
                return (name.to_owned(), live.clone());
            }
            let file = folder.join(format!("{name}.json"));
            // A store that was made anew begins at 1 again.
            let kept = snapshot::load(&file).filter(|set| set.applied <= durable);
            let is_new = kept.is_none();
            let mut set = kept.unwrap_or_else(|| Set::new(durable, now));
            set.wants = wants;
            metrics.sandboxes(name, set.counts());
            let inner = Inner { source: name.into(), file, set: Mutex::new(set), metrics: metrics.clone() };
            let live = Live(Arc::new(inner));
            if is_new {
                // So that a kill right now is followed by a reading from here on.
                live.keep();
            }
            (name.to_owned(), live)
        };
        let now: Lives = Arc::new(sources.into_iter().map(open).collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// One source's.
    pub fn of(&self, source: &str) -> Option<Live> {
        self.all().get(source).cloned()
    }

    fn all(&self) -> Lives {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is shown, of one source or of all.
    pub fn view(&self, source: Option<&str>) -> View {
        self.part(source, &Part { after: None, limit: usize::MAX })
    }

    /// The same, a part of it at a time.
    pub fn part(&self, source: Option<&str>, part: &Part) -> View {
        let all = self.all();
        let wanted = all.values().filter(|live| source.is_none_or(|source| *live.0.source == *source));
        view::of(wanted.map(|live| (&*live.0.source, live.set())), part)
    }
}

impl Live {
    /// The source's name.
    pub fn source(&self) -> &Arc<str> {
        &self.0.source
    }

    /// Executions whose usage is to be told now.
    pub fn due(&self, now: Timestamp) -> Vec<Ended> {
        self.set().due(now)
    }

    /// It was told by the record of that id; `None`: it cannot be told.
    pub fn usage_told(&self, sandbox_id: &str, record_id: Option<&str>) {
        self.set().usage_told(sandbox_id, record_id);
    }

    /// Kills to be verified now, or `grace` after the sandbox was first found to be there still.
    pub fn kills(&self, now: Timestamp, grace: SignedDuration) -> Vec<(String, Kill)> {
        self.set().kills(now, grace)
    }

    /// A killed sandbox was found to be there.
    pub fn found_alive(&self, sandbox_id: &str, now: Timestamp) {
        self.set().found_alive(sandbox_id, now);
    }

    /// Whether a kill came true is known.
    pub fn kill_settled(&self, sandbox_id: &str) {
        self.set().kill_settled(sandbox_id);
    }

    /// Whose samples to read now, the oldest first.
    pub fn wanted(&self, now: Timestamp) -> Vec<Wanted> {
        self.set().wanted(now)
    }

    /// The execution that a sample of that time, Unix seconds, belongs to: not the present one where a sandbox was paused
    /// and resumed since.
    pub fn execution_id_at(&self, sandbox_id: &str, time: i64) -> Option<String> {
        self.set().execution_id_at(sandbox_id, time)
    }

    /// What a sample of that time, Unix seconds, is.
    pub fn judge(&self, sandbox_id: &str, time: i64) -> Verdict {
        self.set().judge(sandbox_id, time)
    }

    /// Takes a sample in.
    pub fn sampled(&self, sandbox_id: &str, usage: &Usage) {
        self.set().sampled(sandbox_id, usage);
    }

    /// Whatever there was to read of it at `asked_at` has been read.
    pub fn measured_out(&self, sandbox_id: &str, asked_at: Timestamp) {
        self.set().measured_out(sandbox_id, asked_at);
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.0.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) {
        let (counts, dropped) = {
            let mut set = self.set();
            (set.counts(), set.take_dropped())
        };
        self.0.metrics.sandboxes(&self.0.source, counts);
        self.0.metrics.sandboxes_dropped(&self.0.source, dropped);
    }

    /// Blocks on the disk.
    fn keep(&self) {
        let kept = snapshot::encode(&self.set());
        if let Err(error) = kept.and_then(|text| snapshot::save(&self.0.file, &text)) {
            tracing::warn!(source = %self.0.source, %error, "the live set cannot be kept: after a restart more of the journal is read again");
        }
    }
}
