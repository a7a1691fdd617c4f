//! `/events/webhooks/{id}/deliveries`: every attempt by event, with a cursor that stays where it was.

use super::params::Params;
use super::webhooks::{is_uuid, unknown};
use super::{Provider, Refusal};
use crate::simulator::hooks::{Group, Logged};
use axum::Json;
use axum::extract::{Path, State};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::time::Duration;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    data: Vec<Entry>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    event_id: String,
    event_type: String,
    sandbox_id: String,
    attempts: Vec<Attempt>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    id: String,
    team_id: String,
    webhook_id: String,
    event_id: String,
    sandbox_id: String,
    event_type: String,
    status: &'static str,
    duration_ms: i32,
    request_body: String,
    request_headers: String,
    request_url: String,
    response_body: Option<String>,
    // The specification allows null, and nothing here reads the receiver's headers.
    response_headers: Option<String>,
    response_http_status_code: Option<u16>,
    error_class: Option<&'static str>,
    error_message: Option<String>,
    timestamp: jiff::Timestamp,
}

pub(super) async fn list(
    State(shared): Provider,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Page>, Refusal> {
    is_uuid(&id)?;
    let limit = params.count("limit", 1, 100, 25)?;
    let ascending = params.flag("orderAsc")?;
    let cursor = params.get("cursor").map(|cursor| place(cursor, ascending)).transpose()?;
    let (start, end) = (params.time("start")?, params.time("end")?);
    let (statuses, types) = (params.joined("deliveryStatus"), params.joined("eventType"));
    if statuses.iter().any(|status| status != "success" && status != "failed") {
        return Err(params.invalid("deliveryStatus"));
    }
    let is_wanted = |logged: &Logged| {
        let at = logged.attempt.started;
        start.is_none_or(|start| at >= start)
            && end.is_none_or(|end| at < end)
            && (statuses.is_empty() || statuses.iter().any(|one| one == status(logged)))
            && (types.is_empty() || types.contains(&logged.happening.kind))
    };
    let mut groups = {
        let account = shared.account();
        account.hooks.get(&id).ok_or_else(unknown)?;
        account.hooks.groups(&id, is_wanted)
    };
    if !ascending {
        groups.reverse();
    }
    let beyond = if ascending { Ordering::Greater } else { Ordering::Less };
    let mut rest =
        groups.into_iter().filter(|group| cursor.as_ref().is_none_or(|from| group.place.cmp(from) == beyond));
    let page: Vec<Group> = rest.by_ref().take(limit).collect();
    let next_cursor = match (rest.next(), page.last()) {
        (Some(_), Some(last)) => Some(encode(last, ascending)),
        _ => None,
    };
    let team_id = &shared.options.team_id;
    Ok(Json(Page { data: page.iter().filter_map(|group| entry(team_id, group)).collect(), next_cursor }))
}

/// The place after which the next page begins. It is valid in one direction only.
fn encode(last: &Group, ascending: bool) -> String {
    let (time, id) = &last.place;
    BASE64_URL_SAFE_NO_PAD.encode(format!("{time}__{id}{}", if ascending { "__asc" } else { "" }))
}

fn place(cursor: &str, ascending: bool) -> Result<(i128, String), Refusal> {
    let decode = || {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let mut parts = text.split("__");
        let place = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
        (parts.next() == ascending.then_some("asc")).then_some(place)
    };
    decode().ok_or_else(|| Refusal::bad_request("Invalid cursor"))
}

fn entry(team_id: &str, group: &Group) -> Option<Entry> {
    let happening = &group.attempts.first()?.happening;
    Some(Entry {
        event_id: happening.id.clone(),
        event_type: happening.kind.clone(),
        sandbox_id: happening.sandbox_id.clone(),
        attempts: group.attempts.iter().map(|logged| attempt(team_id, logged)).collect(),
    })
}

pub(super) fn status(logged: &Logged) -> &'static str {
    if logged.is_success() { "success" } else { "failed" }
}

pub(super) fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn attempt(team_id: &str, logged: &Logged) -> Attempt {
    let happening = &logged.happening;
    let answer = logged.attempt.result.as_ref();
    let headers = logged.attempt.headers.iter().map(|(name, value)| {
        let value = if name.ends_with("e2b-signature") { "[REDACTED]" } else { value };
        ((*name).to_owned(), Value::from(value))
    });
    Attempt {
        id: logged.id.clone(),
        team_id: team_id.to_owned(),
        webhook_id: logged.hook_id.clone(),
        event_id: happening.id.clone(),
        sandbox_id: happening.sandbox_id.clone(),
        event_type: happening.kind.clone(),
        status: status(logged),
        duration_ms: milliseconds(logged.attempt.took),
        request_body: String::from_utf8_lossy(&logged.body).into_owned(),
        request_headers: Value::Object(headers.collect::<Map<_, _>>()).to_string(),
        request_url: logged.url.clone(),
        response_body: answer.ok().map(|answer| answer.body.clone()),
        response_headers: None,
        response_http_status_code: answer.ok().map(|answer| answer.status),
        error_class: match answer {
            Ok(_) => (!logged.is_success()).then_some("http_error"),
            Err(error) => Some(error.class),
        },
        error_message: answer.err().map(|error| error.problem.clone()),
        timestamp: logged.attempt.started,
    }
}
