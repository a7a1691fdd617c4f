//! `POST /api/backfill`: a sweep by hand, told line by line.

use super::reply::{Change, problem};
use super::telling::tell;
use super::time::Since;
use crate::intake::Intake;
use crate::source::backfill::{Handle, Handles, Order, Underway};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The body: what to sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "BackfillRequest")]
pub struct Asked {
    /// Whose list; may be left out where only one source has an API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only this sandbox's events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
    /// How far back, by the events' own times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
    /// Takes events that are older than `store.dedupe_window`, too.
    pub allow_duplicates: bool,
}

/// Who sweeps, and by which clock.
#[derive(Clone)]
pub(super) struct Backfills {
    pub(super) handles: Handles,
    pub(super) intake: Arc<Intake>,
}

pub(super) async fn ask(State(backfills): State<Backfills>, Change(asked): Change<Asked>) -> Response {
    match order(&backfills, &asked) {
        Ok((source, underway)) => {
            tracing::info!(source, ?asked, "a backfill by hand is asked for");
            let progress = underway.progress.clone();
            tell(async move { { underway }.ended().await.map_err(|unfinished| unfinished.to_string()) }, progress)
        }
        Err((status, message)) => problem(status, message),
    }
}

/// Hands the order on, or says what is wrong with it.
fn order(Backfills { handles, intake }: &Backfills, asked: &Asked) -> Result<(String, Underway), (StatusCode, String)> {
    let wrong = |message: String| (StatusCode::BAD_REQUEST, message);
    let (source, handle) = choose(handles.all(), asked.source.as_deref()).map_err(wrong)?;
    let Asked { sandbox_id, since, allow_duplicates, .. } = asked.clone();
    if sandbox_id.as_ref().is_some_and(String::is_empty) {
        return Err(wrong("`sandbox_id` is empty".to_owned()));
    }
    if allow_duplicates && sandbox_id.is_none() && since.is_none() {
        return Err(wrong("`allow_duplicates` needs `since` or `sandbox_id` beside it".to_owned()));
    }
    let now = intake.now();
    let since = since.map(|since| since.from(now));
    let floor = now.checked_sub(intake.dedupe_window()).unwrap_or(jiff::Timestamp::MIN);
    if let Some(since) = since.filter(|since| *since < floor && !allow_duplicates) {
        return Err(wrong(format!(
            "since {since} is before {floor}, as far as store.dedupe_window reaches: ids from before it are forgotten, so \
             that those events may be accepted a second time; --allow-duplicates (`allow_duplicates`) takes them all the same"
        )));
    }
    let order = Order { sandbox_id, since, any_age: allow_duplicates };
    let underway = handle.ask(order).map_err(|_| {
        let message = "several backfills of this source wait already, or the daemon ends; ask again later";
        (StatusCode::SERVICE_UNAVAILABLE, message.to_owned())
    })?;
    Ok((source, underway))
}

fn choose(mut backfills: BTreeMap<String, Handle>, source: Option<&str>) -> Result<(String, Handle), String> {
    let names: Vec<String> = backfills.keys().cloned().collect();
    let found = match (source, names.as_slice()) {
        (_, []) => return Err("no source has an `api` to ask; see sources.<name>.api".to_owned()),
        (Some(name), _) => backfills.remove_entry(name),
        (None, [_]) => backfills.pop_first(),
        (None, _) => return Err(format!("name the source, one of {}", names.join(", "))),
    };
    let missing = || format!("there is no such source with an `api`; there is {}", names.join(", "));
    found.ok_or_else(missing)
}
