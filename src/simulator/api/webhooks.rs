//! `/events/webhooks`: what is registered. A secret goes in and never comes out.

use super::{Provider, Refusal};
use crate::secret::Secret;
use crate::simulator::hooks::Hook;
use crate::simulator::life::uuid;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    name: String,
    url: String,
    events: Vec<String>,
    #[serde(default = "yes")]
    enabled: bool,
    signature_secret: Secret,
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    name: Option<String>,
    url: Option<String>,
    events: Option<Vec<String>>,
    enabled: Option<bool>,
    signature_secret: Option<Secret>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    id: String,
    team_id: String,
    name: String,
    created_at: Timestamp,
    url: String,
    enabled: bool,
    events: Vec<String>,
}

fn detail(team_id: &str, hook: &Hook) -> Detail {
    Detail {
        id: hook.id.clone(),
        team_id: team_id.to_owned(),
        name: hook.name.clone(),
        created_at: hook.created_at,
        url: hook.url.clone(),
        enabled: hook.enabled,
        events: hook.events.clone(),
    }
}

pub(super) async fn list(State(shared): Provider) -> Json<Vec<Detail>> {
    let team_id = &shared.options.team_id;
    Json(shared.account().hooks.all().iter().map(|hook| detail(team_id, hook)).collect())
}

pub(super) async fn create(State(shared): Provider, body: Bytes) -> Result<(StatusCode, Json<Detail>), Refusal> {
    let Create { name, url, events, enabled, signature_secret: secret } = parse(&body)?;
    let transport = Hook::transport(&url).map_err(|error| Refusal::bad_request(format!("url: {error}")))?;
    let mut account = shared.account();
    let id = uuid(&mut account.random);
    let hook = Hook { id, name, created_at: Timestamp::now(), url, enabled, events, secret, transport };
    check(&hook)?;
    let hook = account.hooks.add(hook).map_err(Refusal::bad_request)?;
    Ok((StatusCode::CREATED, Json(detail(&shared.options.team_id, &hook))))
}

pub(super) async fn get(State(shared): Provider, Path(id): Path<String>) -> Result<Json<Detail>, Refusal> {
    is_uuid(&id)?;
    let account = shared.account();
    let hook = account.hooks.get(&id).ok_or_else(unknown)?;
    Ok(Json(detail(&shared.options.team_id, hook)))
}

pub(super) async fn update(
    State(shared): Provider,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Detail>, Refusal> {
    is_uuid(&id)?;
    let update: Update = parse(&body)?;
    let mut account = shared.account();
    let mut hook = Hook::clone(account.hooks.get(&id).ok_or_else(unknown)?);
    if let Some(url) = update.url {
        hook.transport = Hook::transport(&url).map_err(|error| Refusal::bad_request(format!("url: {error}")))?;
        hook.url = url;
    }
    hook.name = update.name.unwrap_or(hook.name);
    hook.events = update.events.unwrap_or(hook.events);
    hook.enabled = update.enabled.unwrap_or(hook.enabled);
    hook.secret = update.signature_secret.unwrap_or(hook.secret);
    check(&hook)?;
    let hook = account.hooks.replace(hook).ok_or_else(unknown)?;
    Ok(Json(detail(&shared.options.team_id, &hook)))
}

pub(super) async fn delete(State(shared): Provider, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    is_uuid(&id)?;
    if shared.account().hooks.remove(&id) { Ok(StatusCode::OK) } else { Err(unknown()) }
}

/// As the provider's own dashboard has it.
fn check(hook: &Hook) -> Result<(), Refusal> {
    if hook.name.is_empty() {
        return Err(Refusal::bad_request("name: must not be empty"));
    }
    if hook.events.is_empty() {
        return Err(Refusal::bad_request("events: at least one is needed"));
    }
    if hook.secret.expose().len() < 32 {
        return Err(Refusal::bad_request("signatureSecret: at least 32 characters are needed"));
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("Error when parsing request: {error}")))
}

pub(super) fn is_uuid(id: &str) -> Result<(), Refusal> {
    match uuid::Uuid::parse_str(id) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::bad_request("Invalid format for parameter webhookID")),
    }
}

pub(super) fn unknown() -> Refusal {
    Refusal::not_found("Webhook not found")
}
