//! `/sandboxes` and `/v2/sandboxes`: what lives, by start time, in pages whose token goes in a header.

use super::params::Params;
use super::{Provider, Refusal, odd};
use crate::simulator::life::{Life, Sandbox};
use crate::simulator::samples::hash;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// As the list has it; here an id is spelled `ID`.
#[derive(Serialize)]
pub(super) struct Listed {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(rename = "sandboxID")]
    sandbox_id: String,
    #[serde(rename = "clientID")]
    client_id: String,
    #[serde(rename = "startedAt")]
    started_at: Timestamp,
    #[serde(rename = "endAt")]
    end_at: Timestamp,
    #[serde(rename = "cpuCount")]
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory_mb: u32,
    #[serde(rename = "diskSizeMB")]
    disk_size_mb: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<BTreeMap<String, String>>,
    state: &'static str,
    #[serde(rename = "envdVersion")]
    envd_version: &'static str,
}

/// One alone says more, a secret included that nobody may pass on.
#[derive(Serialize)]
pub(super) struct Detail {
    #[serde(flatten)]
    listed: Listed,
    #[serde(rename = "envdAccessToken")]
    envd_access_token: String,
    domain: Option<String>,
    lifecycle: Lifecycle,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    auto_resume: bool,
    on_timeout: &'static str,
}

fn state(sandbox: &Sandbox) -> &'static str {
    if sandbox.running { "running" } else { "paused" }
}

fn listed(life: &Life, sandbox: &Sandbox) -> Listed {
    let (template_id, alias) = life.template(sandbox);
    // What still runs past its time was kept alive without an event.
    let soon = Timestamp::now() + SignedDuration::from_mins(1);
    let end_at = if sandbox.running { sandbox.ends_at.max(soon) } else { sandbox.ends_at };
    Listed {
        template_id: template_id.to_owned(),
        alias,
        sandbox_id: sandbox.id.clone(),
        client_id: format!("{:08x}", hash(&sandbox.execution_id) >> 32),
        started_at: microseconds(sandbox.started_at),
        end_at: microseconds(end_at),
        cpu_count: sandbox.vcpu_count,
        memory_mb: sandbox.memory_mb,
        disk_size_mb: 2560,
        metadata: sandbox.metadata.clone(),
        state: state(sandbox),
        envd_version: "0.5.9",
    }
}

/// The provider's database keeps no finer time.
fn microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// The old list: running ones only, all in one reply.
pub(super) async fn running(State(shared): Provider, params: Params) -> Result<Json<Vec<Listed>>, Refusal> {
    let metadata = params.nested("metadata")?;
    let account = shared.account();
    let life = &account.life;
    let wanted = life.sandboxes().iter().filter(|sandbox| sandbox.running && has(sandbox, &metadata));
    Ok(Json(wanted.map(|sandbox| listed(life, sandbox)).collect()))
}

pub(super) async fn page(State(shared): Provider, params: Params) -> Result<(HeaderMap, Json<Vec<Value>>), Refusal> {
    let limit = params.count("limit", 1, 100, 100)?;
    let states = params.joined("state");
    if states.iter().any(|state| state != "running" && state != "paused") {
        return Err(params.invalid("state"));
    }
    let ascending = match params.get("order") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(params.invalid("order")),
    };
    let token = params.get("nextToken").map(|token| place(token, ascending)).transpose()?;
    let (metadata, after) = (params.nested("metadata")?, params.time("startedAfter")?);
    let template = params.get("template");

    let account = shared.account();
    let life = &account.life;
    let is_template = |sandbox: &Sandbox| {
        let (id, alias) = life.template(sandbox);
        template.is_none_or(|wanted| wanted == id || alias.as_deref() == Some(wanted))
    };
    let mut wanted: Vec<&Sandbox> = life
        .sandboxes()
        .iter()
        .filter(|sandbox| states.is_empty() || states.iter().any(|wanted| wanted == state(sandbox)))
        .filter(|sandbox| after.is_none_or(|after| sandbox.started_at >= after))
        .filter(|sandbox| has(sandbox, &metadata) && is_template(sandbox))
        .collect();
    wanted.sort_by(|a, b| key(a).cmp(&key(b)));
    if !ascending {
        wanted.reverse();
    }
    let running = wanted.iter().filter(|sandbox| sandbox.running).count();
    let is_beyond = |sandbox: &&Sandbox| match &token {
        None => true,
        Some((time, id)) if ascending => key(sandbox) > (*time, id),
        Some((time, id)) => key(sandbox) < (*time, id),
    };
    let mut rest = wanted.into_iter().filter(is_beyond);
    let page: Vec<&Sandbox> = rest.by_ref().take(limit).collect();

    let mut headers = HeaderMap::new();
    if let (Some(_), Some(last)) = (rest.next(), page.last())
        && let Ok(token) = HeaderValue::from_str(&encode(last, ascending))
    {
        headers.insert(HeaderName::from_static("x-next-token"), token);
    }
    if states.is_empty() || states.iter().any(|state| state == "running") {
        headers.insert(HeaderName::from_static("x-total-running"), HeaderValue::from(running));
    }
    let row = |sandbox: &Sandbox| {
        let row = serde_json::to_value(listed(life, sandbox));
        row.map(|row| odd::row(&shared, &sandbox.id, row)).map_err(|error| Refusal::bad_request(error.to_string()))
    };
    let rows: Result<Vec<Value>, Refusal> = page.into_iter().map(row).collect();
    Ok((headers, Json(rows?)))
}

pub(super) async fn one(State(shared): Provider, Path(id): Path<String>) -> Result<Json<Detail>, Refusal> {
    let account = shared.account();
    let sandbox = account.life.sandboxes().iter().find(|sandbox| sandbox.id == id).ok_or_else(|| unknown(&id))?;
    Ok(Json(Detail {
        listed: listed(&account.life, sandbox),
        envd_access_token: format!("canary-{:016x}", hash(&sandbox.id)),
        domain: None,
        lifecycle: Lifecycle { auto_resume: false, on_timeout: "kill" },
    }))
}

pub(super) async fn kill(State(shared): Provider, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    shared.by_hand(&id, Life::end).await.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| unknown(&id))
}

pub(super) async fn pause(State(shared): Provider, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    match shared.by_hand(&id, Life::suspend).await {
        Some(true) => Ok(StatusCode::NO_CONTENT),
        Some(false) => Err(Refusal(StatusCode::CONFLICT, format!("sandbox \"{id}\" is already paused"))),
        None => Err(unknown(&id)),
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::not_found(format!("sandbox \"{id}\" doesn't exist or you don't have access to it"))
}

fn has(sandbox: &Sandbox, wanted: &[(String, String)]) -> bool {
    wanted.iter().all(|(name, value)| sandbox.metadata.as_ref().and_then(|data| data.get(name)) == Some(value))
}

fn key(sandbox: &Sandbox) -> (Timestamp, &String) {
    (sandbox.started_at, &sandbox.id)
}

/// As the provider makes it (e2b-dev/infra `utils/pagination.go`); whoever takes it apart is wrong all the same.
fn encode(last: &Sandbox, ascending: bool) -> String {
    let order = if ascending { "__asc" } else { "" };
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}__{}{order}", last.started_at, last.id))
}

fn place(token: &str, ascending: bool) -> Result<(Timestamp, String), Refusal> {
    let decode = || {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let mut parts = text.split("__");
        let place = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
        (parts.next() == ascending.then_some("asc")).then_some(place)
    };
    decode().ok_or_else(|| Refusal::bad_request("Invalid next token"))
}
