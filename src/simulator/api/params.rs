//! Query parameters, in the provider's several ways of writing a list.

use super::Refusal;
use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use jiff::Timestamp;

/// The pairs, decoded.
pub(super) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Self::of(&parts.uri)
    }
}

impl Params {
    fn of(uri: &Uri) -> Result<Self, Refusal> {
        let pairs = Query::try_from_uri(uri).map_err(|error| Refusal::bad_request(error.body_text()))?;
        Ok(Self(pairs.0))
    }

    /// The pairs of a value that is a query itself, and so is encoded twice.
    pub(super) fn nested(&self, name: &str) -> Result<Vec<(String, String)>, Refusal> {
        let text = self.get(name).unwrap_or_default();
        let uri = format!("/?{text}").parse().map_err(|_| self.invalid(name))?;
        Ok(Self::of(&uri)?.0)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `name=a&name=b`.
    pub(super) fn repeated(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// `name=a,b`.
    pub(super) fn joined(&self, name: &str) -> Vec<String> {
        let value = self.get(name).unwrap_or_default();
        value.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        self.get(name).map_or(Ok(false), |value| value.parse().map_err(|_| self.invalid(name)))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.get(name).map(|value| value.parse().map_err(|_| self.invalid(name))).transpose()
    }

    /// From 0; `most` is refused above, not cut to.
    pub(super) fn count(&self, name: &str, least: usize, most: usize, default: usize) -> Result<usize, Refusal> {
        let Some(number) = self.number(name)? else { return Ok(default) };
        usize::try_from(number)
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| Refusal::bad_request(format!("parameter \"{name}\": must be from {least} to {most}")))
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        self.get(name).map(|value| value.parse().map_err(|_| self.invalid(name))).transpose()
    }

    pub(super) fn invalid(&self, name: &str) -> Refusal {
        Refusal::bad_request(format!("Invalid format for parameter {name}"))
    }
}
