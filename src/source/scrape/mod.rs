//! What the sandboxes use, from the provider's metrics API.
//!
//! ```text
//! every interval: live sandboxes, 100 to a call, 8 calls side by side
//!   └─► latest sample ─► known or stale: dropped
//!                     ─► next to the last one: a record, durable, then counted
//!                     ─► a gap over 15 s before it: the gap's samples first, if the round's share of calls allows, else
//!                        its records wait for a later round with what is missing, and its gauges do not
//! ```
//!
//! A sample counts once it is durable: the set's last sample moves after that, and after a kill it is read from the journal
//! again. So none is told twice.
//!
//! # Two clocks of one sample
//! The call for many gives each sample's own time, the call for a span gives the start of the 5 s bucket that it fell into
//! (e2b-dev/infra `packages/clickhouse/pkg/sandbox.go`). One sample could so get two times and two ids. The provider
//! samples a sandbox every 5 s: a bucket holds one sample of it. So a bucket that holds the time of a sample known from the
//! other call, the one before the gap or the one behind it, is that sample, and is left out. Within the gap all times are
//! buckets' starts, and rise; asking twice gives the same times and so the same ids.
//!
//! # Whose sample
//! The API names no execution with a sample; the record names the one that ran at the sample's time *by what was known
//! when it was read*. Where a sandbox was paused and resumed and neither event had come by then, that is the one before,
//! and the sample counts in that one's usage too.

mod record;
mod series;
mod settings;

pub use settings::Settings;

use super::own::{Door, Offered};
use crate::e2b::{Api, ApiError, MAX_SANDBOXES, Sample};
use crate::event::Origin;
use crate::intake::{Intake, MAX_AHEAD};
use crate::metrics::Metrics;
use crate::sandboxes::{Live, Usage, Verdict, Wanted};
use crate::shutdown::Shutdown;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use series::Series;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::MissedTickBehavior;

/// Calls side by side.
const SIDE_BY_SIDE: usize = 8;
/// Of the source's budget of calls, gaps may have one in so many.
const GAPS_SHARE: u32 = 5;
/// Seconds of the provider's buckets.
const BUCKET: i64 = 5;
/// The longest span that still has such buckets; what is missing before it is not fetched. In seconds.
const LONGEST_SPAN: i64 = 3595;
/// An API that refuses the key or has no metrics is asked more rarely by this factor.
const PATIENCE: u32 = 10;

/// What it is made of.
pub struct Parts {
    /// The set.
    pub live: Live,
    /// Where it looks.
    pub api: Api,
    /// How.
    pub settings: Settings,
    /// Of the API, in a minute.
    pub max_calls_per_minute: u32,
    /// The team, if the settings name one.
    pub team_id: Option<String>,
    /// The door.
    pub intake: Arc<Intake>,
    /// Counts.
    pub metrics: Metrics,
    /// True once the set holds what the journal holds.
    pub caught_up: watch::Receiver<bool>,
}

/// One source's.
pub struct Scraper {
    parts: Parts,
    door: Door,
    series: Series,
    /// For calls under way, those for gaps among them.
    calls: Semaphore,
    /// Calls for gaps that are left to this round.
    allowed: AtomicI64,
    /// The last outcome, so that the log tells of changes only.
    outcome: &'static str,
}

/// Why a round did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the store takes no samples for now: scraping pauses")]
    Store { retry_after: Duration },
}

/// What one call for many brought.
struct Batch {
    /// The latest samples, known ones among them.
    taken: Vec<(String, Sample)>,
    /// The API's time, Unix seconds.
    at: i64,
}

impl Scraper {
    /// Nothing is asked yet.
    pub fn new(parts: Parts) -> Self {
        let door = Door {
            source: Arc::clone(parts.live.source()),
            team_id: parts.team_id.clone(),
            intake: Arc::clone(&parts.intake),
        };
        let series = Series::new(parts.settings.max_series);
        Self { parts, door, series, calls: Semaphore::new(SIDE_BY_SIDE), allowed: AtomicI64::new(0), outcome: "" }
    }

    /// Looks every interval, until told to end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let work = async {
            let _ = self.parts.caught_up.wait_for(|up| *up).await;
            let mut ticks = tokio::time::interval(self.parts.settings.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let rest = self.turn().await;
                tokio::time::sleep(rest).await;
            }
        };
        // Whatever is cut off here is asked for again after the next start.
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = work => {}
        }
        self.series.clear(self.parts.live.source(), &self.parts.metrics);
    }

    /// One round; returns what it must rest beside the interval.
    async fn turn(&mut self) -> Duration {
        let settings = &self.parts.settings;
        let share = f64::from(self.parts.max_calls_per_minute / GAPS_SHARE) * settings.interval.as_secs_f64() / 60.0;
        self.allowed.store((share as i64).max(1), Ordering::Relaxed);
        let ended = self.round().await;
        let outcome = match &ended {
            Ok(()) => "ok",
            Err(Cut::Api(error)) => error.outcome(),
            Err(Cut::Store { .. }) => "store",
        };
        let changed = std::mem::replace(&mut self.outcome, outcome) != outcome;
        let source = self.parts.live.source();
        match &ended {
            Ok(()) if changed => tracing::info!(%source, "the sandboxes' metrics are read"),
            Err(cut) if changed => {
                tracing::warn!(%source, outcome, error = %cut, "the sandboxes' metrics cannot be read")
            }
            _ => {}
        }
        match ended {
            Ok(()) => Duration::ZERO,
            Err(Cut::Store { retry_after }) => retry_after,
            Err(Cut::Api(ApiError::Unauthorized { .. } | ApiError::NotOffered { .. })) => {
                self.parts.settings.interval * PATIENCE
            }
            Err(Cut::Api(error)) => error.retry_after().unwrap_or_default(),
        }
    }

    async fn round(&mut self) -> Result<(), Cut> {
        let wanted = self.parts.live.wanted(self.parts.intake.now());
        let askable: Vec<Wanted> = wanted.iter().filter(|one| short(&one.sandbox_id).is_some()).cloned().collect();
        let mut batches = askable.chunks(MAX_SANDBOXES).map(<[Wanted]>::to_vec).collect::<Vec<_>>().into_iter();
        let (mut taken, mut now) = (Vec::new(), None);
        let mut cut = None;
        // While the log was full last time, one batch finds out whether it still is.
        if self.outcome == "store"
            && let Some(first) = batches.next()
        {
            let batch = self.batch(first).await?;
            taken.extend(batch.taken);
            now = now.max(Some(batch.at));
        }
        let mut calls = Vec::new();
        for batch in batches {
            calls.push(self.batch(batch));
        }
        let mut rest = stream::iter(calls).buffer_unordered(SIDE_BY_SIDE);
        while let Some(ended) = rest.next().await {
            match ended {
                Ok(batch) => {
                    taken.extend(batch.taken);
                    now = now.max(Some(batch.at));
                }
                // Something in one batch is not as expected: that is not the others' trouble.
                Err(error @ Cut::Api(ApiError::Refused { .. } | ApiError::Invalid { .. })) => cut = Some(error),
                Err(error) => {
                    cut = Some(error);
                    break;
                }
            }
        }
        drop(rest);
        self.series.take(&wanted, taken, now);
        let omitted = self.series.publish(self.parts.live.source(), &self.parts.metrics);
        self.parts.metrics.series_omitted(self.parts.live.source(), omitted);
        cut.map_or(Ok(()), Err)
    }

    /// The latest samples of at most 100 sandboxes, and what they lack.
    async fn batch(&self, batch: Vec<Wanted>) -> Result<Batch, Cut> {
        let asked_at = self.parts.intake.now();
        let ids: Vec<&str> = batch.iter().filter_map(|one| short(&one.sandbox_id)).collect();
        let latest = {
            let _turn = self.calls.acquire().await;
            self.parts.api.metrics(&ids).await?
        };
        let at = latest.date.unwrap_or_else(|| self.parts.intake.now()).as_second();
        let mut taken = Vec::new();
        for one in &batch {
            let sample = short(&one.sandbox_id).and_then(|id| latest.value.get(id).copied());
            // One from further ahead would make all that come after it known, and is taken by nobody.
            let sample = sample.filter(|sample| sample.unix_seconds - at <= MAX_AHEAD.as_secs().cast_signed());
            taken.push(self.take_in(one, sample, asked_at));
        }
        // Side by side: the samples of one batch wait for one commit together.
        let taken = join_all(taken).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Batch { taken: taken.into_iter().flatten().collect(), at })
    }

    async fn take_in(
        &self,
        one: &Wanted,
        sample: Option<Sample>,
        asked_at: jiff::Timestamp,
    ) -> Result<Option<(String, Sample)>, Cut> {
        let is_told = match &sample {
            Some(sample) => self.take(one, sample).await?,
            None => true,
        };
        // One that waits for what it lacks waits with its end, too; what it uses now is shown all the same.
        if is_told && !one.running {
            self.parts.live.measured_out(&one.sandbox_id, asked_at);
        }
        Ok(sample.map(|sample| (one.sandbox_id.clone(), sample)))
    }

    /// Takes the latest sample of a sandbox in; `false` if it has to wait for those before it.
    async fn take(&self, one: &Wanted, sample: &Sample) -> Result<bool, Cut> {
        match self.parts.live.judge(&one.sandbox_id, sample.unix_seconds) {
            Verdict::Known => return Ok(true),
            Verdict::New => {}
            Verdict::Gap { after, known } => {
                if self.allowed.fetch_sub(1, Ordering::Relaxed) <= 0 {
                    return Ok(false);
                }
                self.fill(one, (after, known), sample.unix_seconds).await?;
            }
        }
        self.tell(one, sample).await?;
        Ok(true)
    }

    /// Fetches what lies between two times, both left out; `known` is the sandbox's last sample that was told, which may
    /// be of an execution that ended in the same bucket.
    async fn fill(&self, one: &Wanted, (after, known): (i64, Option<i64>), before: i64) -> Result<(), Cut> {
        let from = (after + 1).max(before - LONGEST_SPAN);
        if from > after + 1 {
            self.parts.metrics.metrics_gap(self.parts.live.source());
        }
        let Some(id) = short(&one.sandbox_id) else { return Ok(()) };
        let missed = {
            let _turn = self.calls.acquire().await;
            self.parts.api.sandbox_metrics(id, from, before - 1).await?.value
        };
        for sample in missing(&missed, known, from, before) {
            self.tell(one, &sample).await?;
        }
        Ok(())
    }

    /// Makes it durable, where records are wanted, and then counts it.
    async fn tell(&self, one: &Wanted, sample: &Sample) -> Result<(), Cut> {
        if self.parts.settings.records {
            let execution_id = self.parts.live.execution_id_at(&one.sandbox_id, sample.unix_seconds);
            let record = record::of(one, execution_id.as_deref(), sample);
            match self.door.offer(record, Origin::Metrics).await {
                // One that is refused is too old to be told: it counts as known.
                Offered::Durable | Offered::Refused => {}
                Offered::Later { retry_after } => return Err(Cut::Store { retry_after }),
            }
        }
        let usage = Usage {
            time: sample.unix_seconds,
            cpu_used_pct: sample.cpu_used_pct,
            mem_used: sample.mem_used,
            mem_total: sample.mem_total,
            disk_used: sample.disk_used,
            disk_total: sample.disk_total,
        };
        self.parts.live.sampled(&one.sandbox_id, &usage);
        Ok(())
    }
}

/// The samples of a span that are not the ones before and behind it, ascending, each with a time within the span.
fn missing(listed: &[Sample], known: Option<i64>, from: i64, before: i64) -> Vec<Sample> {
    let bucket = |time: i64| time - time.rem_euclid(BUCKET);
    let known = [known.map(bucket), Some(bucket(before))];
    let mut missing: Vec<Sample> = listed
        .iter()
        .filter(|sample| !known.contains(&Some(sample.unix_seconds)))
        .map(|sample| Sample { unix_seconds: sample.unix_seconds.max(from), ..*sample })
        .filter(|sample| sample.unix_seconds < before)
        .collect();
    missing.sort_by_key(|sample| sample.unix_seconds);
    missing.dedup_by_key(|sample| sample.unix_seconds);
    missing
}

/// What the API calls the sandbox: an old id may have `-` and the client's id behind it, which replies leave out. `None`:
/// one id that the API cannot read has it refuse the whole batch (e2b-dev/infra `packages/api/internal/utils/split.go`).
fn short(id: &str) -> Option<&str> {
    let is_sound = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (short, client) = id.split_once('-').map_or((id, None), |(short, client)| (short, Some(client)));
    (is_sound(short) && client.is_none_or(is_sound)).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_seconds: i64) -> Sample {
        Sample {
            unix_seconds,
            cpu_count: 1,
            cpu_used_pct: 1.0,
            mem_used: 1,
            mem_total: 1,
            mem_cache: None,
            disk_used: 1,
            disk_total: 1,
        }
    }

    #[test]
    fn a_bucket_that_holds_a_known_sample_is_that_sample() {
        let times = |known, from, before, listed: &[i64]| {
            let listed: Vec<Sample> = listed.iter().copied().map(at).collect();
            missing(&listed, known, from, before).iter().map(|sample| sample.unix_seconds).collect::<Vec<_>>()
        };
        // True times 103, 108, …, 128; known are 103 and 128.
        assert_eq!(times(Some(103), 104, 128, &[100, 105, 110, 115, 120, 125]), [105, 110, 115, 120]);
        // On the bucket's edge: 100, 105, …, 120.
        assert_eq!(times(Some(100), 101, 120, &[105, 110, 115]), [105, 110, 115]);
        // The start of an execution at 103 is no sample: the first bucket is cut.
        assert_eq!(times(None, 103, 119, &[100, 105, 110]), [103, 105, 110]);
        // Unless the execution before it ended in that bucket, after its sample at 101.
        assert_eq!(times(Some(101), 103, 119, &[100, 105, 110]), [105, 110]);
        assert_eq!(times(None, 100, 119, &[110, 105, 105, 100]), [100, 105, 110]);
    }

    #[test]
    fn ids_are_short_and_those_that_would_spoil_a_batch_are_left_out() {
        assert_eq!(short("iz62km2v0zwlow3i7icxv"), Some("iz62km2v0zwlow3i7icxv"));
        assert_eq!(short("iz62km2v0zwlow3i7icxv-6532622b"), Some("iz62km2v0zwlow3i7icxv"));
        for id in ["", "-", "a-", "-a", "a-b-c", "a,b", "é", "a b"] {
            assert_eq!(short(id), None, "{id}");
        }
    }
}
