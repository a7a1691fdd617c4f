//! `/simulator`: the oracle, and the hand on the story. The provider has nothing like it.

use super::params::Params;
use super::{Provider, Refusal};
use crate::simulator::faults::Fault;
use crate::simulator::ledger::{Entry, Fate, Summary};
use axum::Json;
use axum::extract::State;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Events of one request.
const MAX_EVENTS: usize = 100_000;

#[derive(Serialize)]
pub(super) struct Oracle {
    summary: Summary,
    events: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    id: Option<String>,
    r#type: String,
    sandbox_id: String,
    /// As it was sent, or would have been.
    body: String,
    listed: bool,
    fate: Fate,
}

/// Everything that happened, in that order; `offset` leaves out what is known already.
pub(super) async fn read(State(shared): Provider, params: Params) -> Result<Json<Oracle>, Refusal> {
    let offset = params.count("offset", 0, usize::MAX, 0)?;
    let events = shared.ledger.entries().into_iter().skip(offset).map(line).collect();
    Ok(Json(Oracle { summary: shared.ledger.summary(), events }))
}

fn line(entry: Entry) -> Line {
    Line {
        id: entry.id,
        r#type: entry.kind,
        sandbox_id: entry.sandbox_id,
        body: String::from_utf8_lossy(&entry.body).into_owned(),
        listed: entry.listed,
        fate: entry.fate,
    }
}

/// The next `count` events at once, their times spread over `span` seconds that end `ago` seconds before now. Replies when all are listed and
/// their deliveries have begun.
pub(super) async fn happen(State(shared): Provider, params: Params) -> Result<Json<Summary>, Refusal> {
    let count = params.count("count", 0, MAX_EVENTS, 1)?;
    let span = i64::try_from(params.count("span", 0, 8 * 86_400, 0)?).unwrap_or_default();
    let ago = i64::try_from(params.count("ago", 0, 30 * 86_400, 0)?).unwrap_or_default();
    let start = Timestamp::now() - SignedDuration::from_secs(ago + span);
    let step = span * 1_000_000_000 / i64::try_from(count.max(1)).unwrap_or(i64::MAX);
    let mut at = start;
    for _ in 0..count {
        shared.happen((span > 0 || ago > 0).then_some(at)).await;
        at += SignedDuration::from_nanos(step);
    }
    Ok(Json(shared.ledger.summary()))
}

pub(super) async fn faults(State(shared): Provider) -> Json<BTreeMap<&'static str, f64>> {
    let faults = &shared.options.faults;
    Json(Fault::ALL.into_iter().map(|fault| (fault.name(), faults.part(fault))).collect())
}

/// Changes those that are named; none, if one of them cannot be.
pub(super) async fn change_faults(
    State(shared): Provider,
    Json(parts): Json<BTreeMap<String, f64>>,
) -> Result<Json<BTreeMap<&'static str, f64>>, Refusal> {
    let named = |(name, part): (&String, &f64)| match Fault::named(name) {
        Some(fault) if (0.0..=1.0).contains(part) => Ok((fault, *part)),
        Some(_) => Err(Refusal::bad_request(format!("{name}: must be from 0 to 1"))),
        None => Err(Refusal::bad_request(format!("{name}: no such fault"))),
    };
    let parts: Vec<(Fault, f64)> = parts.iter().map(named).collect::<Result<_, _>>()?;
    for (fault, part) in parts {
        shared.options.faults.set(fault, part).map_err(Refusal::bad_request)?;
    }
    Ok(faults(State(shared)).await)
}
