//! `/events/webhooks/{id}/stats`: how deliveries went, by the hour.

use super::deliveries::milliseconds;
use super::params::Params;
use super::webhooks::{is_uuid, unknown};
use super::{Provider, Refusal};
use crate::simulator::hooks::Logged;
use axum::Json;
use axum::extract::{Path, State};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Seconds of a bucket.
const BUCKET: i64 = 3600;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    buckets: Vec<Bucket>,
    total: i64,
    failed: i64,
    duration_ms: Durations,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    timestamp: Timestamp,
    total: i64,
    failed: i64,
    duration_ms: Durations,
}

#[derive(Serialize)]
struct Durations {
    minimum: f64,
    average: f64,
    maximum: f64,
}

#[derive(Default)]
struct Sum {
    total: i64,
    failed: i64,
    milliseconds: Vec<f64>,
}

impl Sum {
    fn add(&mut self, logged: &Logged) {
        self.total += 1;
        self.failed += i64::from(!logged.is_success());
        self.milliseconds.push(f64::from(milliseconds(logged.attempt.took)));
    }

    /// All 0 where there was no delivery.
    fn durations(&self) -> Durations {
        let count = u32::try_from(self.milliseconds.len()).unwrap_or(u32::MAX).max(1);
        Durations {
            minimum: self.milliseconds.iter().copied().reduce(f64::min).unwrap_or_default(),
            average: self.milliseconds.iter().sum::<f64>() / f64::from(count),
            maximum: self.milliseconds.iter().copied().reduce(f64::max).unwrap_or_default(),
        }
    }
}

pub(super) async fn stats(
    State(shared): Provider,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Stats>, Refusal> {
    is_uuid(&id)?;
    let now = Timestamp::now();
    let end = params.time("end")?.unwrap_or(now);
    let start = params.time("start")?.unwrap_or(now - SignedDuration::from_hours(24));
    let (mut sum, mut hours) = (Sum::default(), BTreeMap::<i64, Sum>::new());
    let account = shared.account();
    account.hooks.get(&id).ok_or_else(unknown)?;
    for logged in account.hooks.attempts(&id) {
        let at = logged.attempt.started;
        if at >= start && at < end {
            sum.add(logged);
            hours.entry(at.as_second().div_euclid(BUCKET) * BUCKET).or_default().add(logged);
        }
    }
    let bucket = |(second, sum): (i64, Sum)| Bucket {
        timestamp: Timestamp::from_second(second).unwrap_or(start),
        total: sum.total,
        failed: sum.failed,
        duration_ms: sum.durations(),
    };
    Ok(Json(Stats {
        buckets: hours.into_iter().map(bucket).collect(),
        total: sum.total,
        failed: sum.failed,
        duration_ms: sum.durations(),
    }))
}
