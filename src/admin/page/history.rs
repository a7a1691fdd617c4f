//! The last hour, minute by minute, by the counters that a scrape shows; and how fast they rise now.

use crate::metrics::Reading;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Minutes that are kept, the present one aside.
const MINUTES: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// The span over which "now" is taken.
const NOW: Duration = Duration::from_secs(15);
/// Minutes over which the accept latency is taken, the present one aside.
const LATENCY_MINUTES: usize = 5;
/// Sinks that are kept track of; more are not drawn.
const SINKS: usize = 256;

/// How long, at which share of the deliveries.
pub(super) const P50: f64 = 0.5;
pub(super) const P99: f64 = 0.99;

/// Grows to its bounds and no further.
#[derive(Default)]
pub(super) struct History {
    last: Option<Counters>,
    /// Of the last seconds: when, and how many deliveries there had been.
    recent: VecDeque<(Instant, f64)>,
    /// The oldest first.
    minutes: VecDeque<Minute>,
    present: Minute,
    began: Option<Instant>,
}

struct Counters {
    deliveries: f64,
    buckets: Vec<(f64, u64)>,
}

#[derive(Default)]
struct Minute {
    seconds: f64,
    deliveries: f64,
    /// Upper bounds, and what was not above them in this minute.
    buckets: Vec<(f64, u64)>,
    /// The greatest age of a sink's oldest unsent event.
    ages: BTreeMap<String, f64>,
}

impl History {
    /// Takes in what the counters say now.
    pub(super) fn take(&mut self, now: Instant, reading: &Reading) {
        let counters = Counters {
            deliveries: reading.sum("deliveries_total", &[]),
            buckets: reading.buckets("delivery_duration_seconds"),
        };
        let began = *self.began.get_or_insert(now);
        if now.duration_since(began) >= MINUTE {
            self.minutes.push_back(std::mem::take(&mut self.present));
            if self.minutes.len() > MINUTES {
                self.minutes.pop_front();
            }
            self.began = Some(now);
        }
        let last_at = self.recent.back().map_or(now, |(at, _)| *at);
        let minute = &mut self.present;
        minute.seconds += now.duration_since(last_at).as_secs_f64();
        if let Some(last) = &self.last {
            // A source that was taken out takes its counts along.
            minute.deliveries += (counters.deliveries - last.deliveries).max(0.0);
            add(&mut minute.buckets, &risen(&counters.buckets, &last.buckets));
        } else {
            minute.buckets.clone_from(&counters.buckets);
            minute.deliveries = counters.deliveries;
        }
        for (sink, age) in reading.by("sink_oldest_unsent_age_seconds", "sink").into_iter().take(SINKS) {
            let greatest = minute.ages.entry(sink).or_default();
            *greatest = greatest.max(age);
        }
        self.recent.push_back((now, counters.deliveries));
        while self.recent.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= NOW) {
            self.recent.pop_front();
        }
        self.last = Some(counters);
    }

    /// Deliveries per second, now.
    pub(super) fn rate(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.recent.front(), self.recent.back()) else { return 0.0 };
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds > 0.0 { ((after - before) / seconds).max(0.0) } else { 0.0 }
    }

    /// How long a delivery waited for its durable answer at most, at this share of them, in the last minutes; `None` where
    /// there was none.
    pub(super) fn latency(&self, share: f64) -> Option<f64> {
        let mut buckets = self.present.buckets.clone();
        self.minutes.iter().rev().take(LATENCY_MINUTES).for_each(|minute| add(&mut buckets, &minute.buckets));
        quantile(&buckets, share)
    }

    /// Per minute.
    pub(super) fn rates(&self) -> Vec<f64> {
        self.all().map(|minute| if minute.seconds > 0.0 { minute.deliveries / minute.seconds } else { 0.0 }).collect()
    }

    /// Per minute.
    pub(super) fn latencies(&self) -> Vec<f64> {
        self.all().map(|minute| quantile(&minute.buckets, P99).unwrap_or_default()).collect()
    }

    /// Per minute.
    pub(super) fn ages(&self, sink: &str) -> Vec<f64> {
        self.all().map(|minute| minute.ages.get(sink).copied().unwrap_or_default()).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Minute> {
        self.minutes.iter().chain([&self.present])
    }
}

fn risen(now: &[(f64, u64)], before: &[(f64, u64)]) -> Vec<(f64, u64)> {
    now.iter().zip(before).map(|((bound, now), (_, before))| (*bound, now.saturating_sub(*before))).collect()
}

fn add(sum: &mut Vec<(f64, u64)>, more: &[(f64, u64)]) {
    if sum.is_empty() {
        sum.extend(more);
        return;
    }
    sum.iter_mut().zip(more).for_each(|((_, sum), (_, more))| *sum += more);
}

/// As Prometheus' `histogram_quantile`: linear within a bucket; above the last bound, that bound.
fn quantile(buckets: &[(f64, u64)], share: f64) -> Option<f64> {
    let all = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
    let rank = share * all as f64;
    let place = buckets.iter().position(|(_, count)| *count as f64 >= rank)?;
    let (lower, below) = place.checked_sub(1).and_then(|before| buckets.get(before)).copied().unwrap_or((0.0, 0));
    let (upper, count) = *buckets.get(place)?;
    if upper.is_infinite() {
        return Some(lower);
    }
    let within = if count > below { (rank - below as f64) / (count - below) as f64 } else { 1.0 };
    Some(lower + (upper - lower) * within)
}

/// Points of a line within 60 × 20, the newest at the right, the greatest at the top; empty for what was zero throughout.
pub(super) fn line(values: &[f64]) -> String {
    let greatest = values.iter().copied().fold(0.0, f64::max);
    if greatest <= 0.0 {
        return String::new();
    }
    let first = (MINUTES + 1).saturating_sub(values.len());
    let place = |value: f64| (19.0 - 18.0 * value / greatest).round() as i64;
    let heights: Vec<i64> = values.iter().map(|value| place(*value)).collect();
    let mut points = Vec::new();
    for (index, height) in heights.iter().enumerate() {
        let beside = [index.checked_sub(1), index.checked_add(1)];
        let flat = beside.iter().all(|place| place.and_then(|place| heights.get(place)) == Some(height));
        if !flat {
            points.push(format!("{},{height}", first + index));
        }
    }
    if let ([only], [_]) = (points.as_slice(), values) {
        return format!("59,{} {only}", only.rsplit(',').next().unwrap_or_default());
    }
    points.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{DeliveryOutcome, Metrics};

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_and_no_more() {
        let metrics = Metrics::new("0", "0").unwrap();
        metrics.source("acme");
        let mut history = History::default();
        for second in 0..2 * 3600 {
            metrics.delivery("acme", DeliveryOutcome::Accepted);
            metrics.delivery("acme", DeliveryOutcome::BadSignature);
            let took = if second < 6900 { 1500 } else { 15 };
            metrics.delivery_answered(Duration::from_millis(took));
            metrics.sink_lag("lake", 1, Duration::from_secs(if second % 60 == 7 { 30 } else { 0 }));
            history.take(Instant::now(), &metrics.read());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(history.minutes.len(), MINUTES);
        assert!(history.recent.len() <= 16, "{}", history.recent.len());
        assert!((history.rate() - 2.0).abs() < 1e-9, "{}", history.rate());
        assert!(history.rates().iter().take(60).all(|rate| (rate - 2.0).abs() < 0.05), "{:?}", history.rates());
        assert!(history.ages("lake").iter().all(|age| *age == 30.0), "a peak between two minutes is seen");
        assert!(history.latency(P99).unwrap() > 1.0, "six minutes, of which the first was slow");
        assert!(history.latencies().iter().rev().take(3).all(|p99| *p99 < 0.02));
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let buckets = [(1.0, 50), (2.0, 90), (4.0, 100), (f64::INFINITY, 100)];
        assert_eq!(quantile(&buckets, 0.5), Some(1.0));
        assert_eq!(quantile(&buckets, 0.7), Some(1.5));
        assert_eq!(quantile(&buckets, 0.99), Some(3.8));
        assert_eq!(quantile(&[(1.0, 0), (f64::INFINITY, 4)], 0.5), Some(1.0));
        assert_eq!(quantile(&[(1.0, 0), (f64::INFINITY, 0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_line_ends_at_the_right_and_flat_stretches_cost_nothing() {
        assert_eq!(line(&[]), "");
        assert_eq!(line(&[0.0, 0.0]), "");
        assert_eq!(line(&[5.0]), "59,1 60,1");
        assert_eq!(line(&[0.0, 0.0, 0.0, 2.0]), "57,19 59,19 60,1");
        assert_eq!(line(&[1.0; 61]), "0,1 60,1");
    }
}
