//! What sandboxes use: one sample every 5 s of each running stretch.
//!
//! Nothing is stored but the stretches. A sample is a function of its execution and its time, so that whoever asks
//! twice, or asks another seed's twin, gets the same; and that a test can recompute a sum over hours.

use super::faults::{Fault, Faults};
use fastrand::Rng;
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// Seconds from one sample to the next.
pub(super) const INTERVAL: i64 = 5;

/// Seconds from a sample to where it can be read: the provider collects them before it writes.
const VISIBLE_AFTER: i64 = 1;

/// Sandboxes whose samples are remembered, those that live included; above it the oldest are forgotten.
const MAX_SANDBOXES: usize = 50_000;

const MIB: i64 = 1 << 20;

/// Of one sandbox at one time, which is in Unix seconds. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) time: i64,
    pub(super) cpu_count: u32,
    /// Of one CPU: 200 is two CPUs in full use.
    pub(super) cpu_used_pct: f64,
    pub(super) mem_used: i64,
    pub(super) mem_total: i64,
    pub(super) mem_cache: i64,
    pub(super) disk_used: i64,
    pub(super) disk_total: i64,
}

#[derive(Debug, Clone)]
struct Stretch {
    /// Hash of the execution's id.
    number: u64,
    from: i64,
    until: Option<i64>,
    cpu_count: u32,
    memory_mb: u32,
}

/// Of all sandboxes that ever ran.
#[derive(Debug)]
pub(super) struct Samples {
    faults: Faults,
    stretches: BTreeMap<String, Vec<Stretch>>,
    by_age: VecDeque<String>,
}

impl Samples {
    pub(super) fn new(faults: Faults) -> Self {
        Self { faults, stretches: BTreeMap::new(), by_age: VecDeque::new() }
    }

    /// An execution begins.
    pub(super) fn begin(&mut self, sandbox: &super::life::Sandbox) {
        let stretch = Stretch {
            number: hash(&sandbox.execution_id),
            from: sandbox.started_at.as_second(),
            until: None,
            cpu_count: sandbox.vcpu_count,
            memory_mb: sandbox.memory_mb,
        };
        let stretches = self.stretches.entry(sandbox.id.clone()).or_default();
        if stretches.is_empty() {
            self.by_age.push_back(sandbox.id.clone());
        }
        stretches.push(stretch);
        if self.by_age.len() > MAX_SANDBOXES
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.stretches.remove(&oldest);
        }
    }

    /// The sandbox's execution, if there is one, has ended.
    pub(super) fn end(&mut self, sandbox_id: &str, at: Timestamp) {
        if let Some(stretch) = self.stretches.get_mut(sandbox_id).and_then(|stretches| stretches.last_mut()) {
            stretch.until.get_or_insert(at.as_second());
        }
    }

    /// The newest, however old: of a sandbox that is paused or gone, too.
    pub(super) fn latest(&self, sandbox_id: &str, now: Timestamp) -> Option<Sample> {
        self.of(sandbox_id, now).rev().flat_map(|(stretch, ticks)| self.taken(stretch, ticks).rev()).next()
    }

    /// The first one's time and the last one's.
    pub(super) fn span(&self, sandbox_id: &str, now: Timestamp) -> Option<(i64, i64)> {
        let first = self.of(sandbox_id, now).flat_map(|(stretch, ticks)| self.taken(stretch, ticks)).next()?;
        Some((first.time, self.latest(sandbox_id, now)?.time))
    }

    /// From `start` to `end`, both included, ascending, each the greatest values of its bucket and with the bucket's
    /// time: the provider rounds down to `toStartOfInterval` even where a bucket is as short as the interval (e2b-dev/infra
    /// `packages/clickhouse/pkg/sandbox.go`), so that a time from here is not the one that `latest` has.
    pub(super) fn range(&self, sandbox_id: &str, start: i64, end: i64, now: Timestamp) -> Vec<Sample> {
        let step = step(end.saturating_sub(start));
        let samples = self.of(sandbox_id, now).flat_map(|(stretch, (first, last))| {
            let first = if start > first { start + (first - start).rem_euclid(INTERVAL) } else { first };
            self.taken(stretch, (first, last.min(end)))
        });
        let mut buckets: BTreeMap<i64, Sample> = BTreeMap::new();
        for sample in samples {
            let time = sample.time - sample.time.rem_euclid(step);
            let bucket = buckets.entry(time).or_insert(Sample { time, ..sample });
            *bucket = bucket.greatest(&sample);
        }
        buckets.into_values().collect()
    }

    /// Its stretches, each with its first and last tick that can be read.
    fn of(&self, sandbox_id: &str, now: Timestamp) -> impl DoubleEndedIterator<Item = (&Stretch, (i64, i64))> {
        let visible = now.as_second() - VISIBLE_AFTER;
        self.stretches.get(sandbox_id).into_iter().flatten().map(move |stretch| {
            // Every node has its own phase within the interval.
            let phase = i64::try_from(stretch.number % 5).unwrap_or_default();
            let first = stretch.from + (phase - stretch.from).rem_euclid(INTERVAL);
            (stretch, (first, stretch.until.unwrap_or(visible).min(visible)))
        })
    }

    fn taken<'a>(
        &'a self,
        stretch: &'a Stretch,
        (first, last): (i64, i64),
    ) -> impl DoubleEndedIterator<Item = Sample> + 'a {
        let ticks = if last < first { 0 } else { (last - first) / INTERVAL + 1 };
        (0..ticks)
            .map(move |tick| first + tick * INTERVAL)
            .filter(|time| !self.faults.marks(Fault::MissingSamples, stretch.seed(*time)))
            .map(|time| stretch.sample(time))
    }
}

impl Stretch {
    fn seed(&self, time: i64) -> u64 {
        self.number ^ time.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn sample(&self, time: i64) -> Sample {
        let mut random = Rng::with_seed(self.seed(time));
        let mem_total = i64::from(self.memory_mb) * MIB;
        let disk_total = 2560 * MIB;
        Sample {
            time,
            cpu_count: self.cpu_count,
            // Two decimals, as the provider's agent measures.
            cpu_used_pct: f64::from(random.u32(..self.cpu_count * 10_000)) / 100.0,
            mem_used: random.i64(mem_total / 10..mem_total),
            mem_total,
            mem_cache: random.i64(0..mem_total / 10),
            disk_used: random.i64(disk_total / 2..disk_total),
            disk_total,
        }
    }
}

impl Sample {
    fn greatest(&self, other: &Self) -> Self {
        Self {
            time: self.time,
            cpu_count: self.cpu_count.max(other.cpu_count),
            cpu_used_pct: self.cpu_used_pct.max(other.cpu_used_pct),
            mem_used: self.mem_used.max(other.mem_used),
            mem_total: self.mem_total.max(other.mem_total),
            mem_cache: self.mem_cache.max(other.mem_cache),
            disk_used: self.disk_used.max(other.disk_used),
            disk_total: self.disk_total.max(other.disk_total),
        }
    }
}

/// Seconds of a bucket, by the length of what is asked for (e2b-dev/infra `utils/step.go`).
fn step(range: i64) -> i64 {
    match range {
        ..3_600 => INTERVAL,
        3_600..21_600 => 30,
        21_600..43_200 => 60,
        43_200..86_400 => 120,
        86_400..604_800 => 300,
        _ => 900,
    }
}

/// FNV-1a: the same on every machine and in every release.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::life::Life;

    const START: i64 = 1_780_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(START + second).expect("a time")
    }

    fn one() -> (Samples, String, Faults) {
        let mut life = Life::new(1, "team");
        life.settle(1, at(0));
        let faults = Faults::default();
        let mut samples = Samples::new(faults.clone());
        samples.begin(&life.sandboxes()[0]);
        (samples, life.sandboxes()[0].id.clone(), faults)
    }

    #[test]
    fn one_sample_every_five_seconds_while_it_runs() {
        let (mut samples, id, _) = one();
        assert_eq!(samples.latest(&id, at(0)), None, "empty at first");
        samples.end(&id, at(1000));
        assert_eq!(samples.range(&id, START, START + 3000, at(3000)).len(), 200);
        let stale = samples.latest(&id, at(3000)).expect("the last one, though stale");
        assert!((START + 996..=START + 1000).contains(&stale.time));
        assert_eq!(samples.latest("another", at(3000)), None);
    }

    #[test]
    fn a_range_has_the_bucket_s_time_and_its_greatest_values() {
        let (samples, id, _) = one();
        let fine = samples.range(&id, START, START + 3599, at(4000));
        let coarse = samples.range(&id, START, START + 3600, at(4000));
        assert!(fine.iter().all(|sample| sample.time % 5 == 0) && coarse.iter().all(|sample| sample.time % 30 == 0));
        let bucket = &coarse[3];
        let within = fine.iter().filter(|sample| (bucket.time..bucket.time + 30).contains(&sample.time));
        assert_eq!(bucket.mem_used, within.map(|sample| sample.mem_used).max().expect("samples"));
    }

    #[test]
    fn missing_samples_are_missing_for_good() {
        let (samples, id, faults) = one();
        faults.set(Fault::MissingSamples, 0.5).expect("a part");
        let half = samples.range(&id, START, START + 3000, at(3001));
        assert!((200..400).contains(&half.len()), "{}", half.len());
        assert_eq!(half, samples.range(&id, START, START + 3000, at(3002)));
    }
}
