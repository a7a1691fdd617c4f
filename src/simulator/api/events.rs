//! `/events/sandboxes`: pages by offset over a list that shifts under them.

use super::params::Params;
use super::{Provider, Refusal};
use crate::simulator::Shape;
use crate::simulator::faults::Fault;
use crate::simulator::life::{EventData, Happening};
use crate::simulator::provider::Shared;
use crate::simulator::rows::Query;
use crate::simulator::shape::label;
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// As the provider lists one: camelCase, though its version is "v2".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    id: &'a str,
    version: &'static str,
    r#type: &'a str,
    event_category: &'static str,
    event_label: &'static str,
    /// An object without members where there is nothing to say: the provider's table has it so.
    event_data: EventData,
    timestamp: Timestamp,
    sandbox_id: &'a str,
    sandbox_execution_id: &'a str,
    sandbox_template_id: &'a str,
    sandbox_build_id: &'a str,
    sandbox_team_id: &'a str,
}

pub(super) async fn of_team(State(shared): Provider, params: Params) -> Result<Json<Value>, Refusal> {
    page(&shared, None, &params)
}

pub(super) async fn of_sandbox(
    State(shared): Provider,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Value>, Refusal> {
    if !shared.account().rows.know(&id) {
        return Err(Refusal::not_found(format!("Sandbox {id} not found")));
    }
    page(&shared, Some(id), &params)
}

fn page(shared: &Arc<Shared>, sandbox_id: Option<String>, params: &Params) -> Result<Json<Value>, Refusal> {
    let shifting = shared.strikes(Fault::ShiftingPages);
    let offset = params.count("offset", 0, i32::MAX as usize, 0)?;
    let query = Query {
        sandbox_id,
        types: params.repeated("types"),
        ascending: params.flag("orderAsc")?,
        offset: if shared.strikes(Fault::IgnoredOffsets) { 0 } else { offset },
        limit: params.count("limit", 1, 100, 10)?,
        ties_swapped: shifting,
    };
    if shifting {
        shared.happen_if_room();
    }
    let page = shared.account().rows.page(&query, Timestamp::now());
    let events: Result<Vec<Value>, serde_json::Error> =
        page.iter().map(|happening| listed(shared.options.shape, happening)).collect();
    let events = Value::from(events.map_err(|error| Refusal::bad_request(error.to_string()))?);
    Ok(Json(if shared.options.wrap_events { json!({"events": events}) } else { events }))
}

fn listed(shape: Option<Shape>, happening: &Happening) -> Result<Value, serde_json::Error> {
    if let Some(shape @ Shape::V2) = shape {
        return shape.tree(happening);
    }
    let event_label = label(&happening.kind);
    serde_json::to_value(Listed {
        id: &happening.id,
        version: if shape == Some(Shape::V1) { "v1" } else { "v2" },
        r#type: &happening.kind,
        event_category: if event_label.is_empty() { "" } else { "lifecycle" },
        event_label,
        event_data: happening.data.clone().unwrap_or_default(),
        timestamp: happening.at,
        sandbox_id: &happening.sandbox_id,
        sandbox_execution_id: &happening.execution_id,
        sandbox_template_id: &happening.template_id,
        sandbox_build_id: &happening.build_id,
        sandbox_team_id: &happening.team_id,
    })
}
