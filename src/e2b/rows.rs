//! Rows of a reply, each understood by itself: one that is not as the specification has it costs itself, and neither
//! those beside it nor the reply.

use super::api::no_json;
use super::{Api, Endpoint};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::Instant;

/// How much of an odd row's id is told, in characters.
const MAX_ID: usize = 128;

/// A row that is not as specified.
#[derive(Debug)]
pub(super) struct Odd {
    /// Whose row it is, where it says so.
    pub(super) id: Option<String>,
    /// What is wrong with it, without repeating it.
    problem: String,
}

impl Odd {
    pub(super) fn new(id: Option<String>, problem: impl Into<String>) -> Self {
        Self { id, problem: problem.into() }
    }
}

/// One row; `whose` finds the id in the text of one that is not as specified.
pub(super) fn row<T: DeserializeOwned>(raw: &RawValue, whose: impl FnOnce(&str) -> Option<String>) -> Result<T, Odd> {
    serde_json::from_str(raw.get()).map_err(|error| Odd::new(whose(raw.get()), no_json(&error)))
}

/// Those that are as specified, and the others.
pub(super) fn apart<T>(rows: impl Iterator<Item = Result<T, Odd>>) -> (Vec<T>, Vec<Odd>) {
    let (mut sound, mut odd) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            Ok(row) => sound.push(row),
            Err(one) => odd.push(one),
        }
    }
    (sound, odd)
}

impl Api {
    /// Counts rows that are passed over, and tells of one now and then.
    pub(super) fn pass_over(&self, endpoint: Endpoint, odd: &[Odd]) {
        let Some(first) = odd.iter().find(|one| one.id.is_some()).or(odd.first()) else { return };
        let (source, endpoint) = (self.source(), endpoint.label());
        let (metrics, told) = self.rows_told();
        metrics.api_rows_skipped(source, endpoint, odd.len());
        if let Some(suppressed) = told.pass(Instant::now()) {
            let id: String = first.id.as_deref().unwrap_or("unknown").chars().take(MAX_ID).collect();
            let (rows, error) = (odd.len(), &first.problem);
            tracing::warn!(
                %source, endpoint, id, rows, error, suppressed,
                "a row of the API's reply is not as expected, and is passed over"
            );
        }
    }
}
