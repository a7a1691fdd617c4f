//! `/events/webhooks`: what is registered at the provider. A secret goes there and never comes back.

use super::api::Request;
use super::{Answer, Api, ApiError, Endpoint};
use crate::client::encode;
use crate::secret::Secret;
use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

const PATH: &str = "/events/webhooks";

/// Types that a webhook can ask for (e2b-dev/infra `packages/shared/pkg/events/sandbox.go`).
pub const EVENT_TYPES: [&str; 6] = [
    "sandbox.lifecycle.created",
    "sandbox.lifecycle.updated",
    "sandbox.lifecycle.paused",
    "sandbox.lifecycle.resumed",
    "sandbox.lifecycle.checkpointed",
    "sandbox.lifecycle.killed",
];

/// Shorter secrets are not registered, in characters (e2b-dev/dashboard).
pub const SHORTEST_SECRET: usize = 32;

/// One registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub struct Webhook {
    /// UUID.
    pub id: String,
    /// The team's UUID; `None` where an installation leaves it out.
    #[serde(default, alias = "teamID")]
    pub team_id: Option<String>,
    /// People's name for it; several may have the same.
    pub name: String,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: Option<String>,
    /// Where it delivers to.
    pub url: String,
    /// Whether it delivers.
    pub enabled: bool,
    /// Types that it delivers.
    pub events: Vec<String>,
}

/// What is needed to register one.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewWebhook {
    /// Not empty.
    pub name: String,
    /// `http` or `https`.
    pub url: String,
    /// At least one type.
    pub events: Vec<String>,
    /// Whether it delivers from now on.
    pub enabled: bool,
    /// 32 characters or more.
    #[serde(serialize_with = "exposed")]
    pub signature_secret: Secret,
}

/// What is to be changed; `None` stays as it is.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookChange {
    /// Not empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// At least one type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Whether it delivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// 32 characters or more.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_exposed")]
    pub signature_secret: Option<Secret>,
}

/// The one place where a secret is written out: into the request that brings it to the provider.
fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn maybe_exposed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}

impl Api {
    /// Everything that is registered. A 404 means that there is nothing, as the provider's own dashboard takes it.
    pub async fn webhooks(&self) -> Result<Answer<Vec<Webhook>>, ApiError> {
        match self.json(Request::get(Endpoint::Webhooks, PATH)).await {
            Err(ApiError::NotFound { .. }) => Ok(Answer { value: Vec::new(), date: None, calls: 1 }),
            answered => answered,
        }
    }

    /// One registration; `None` if there is none of that id.
    pub async fn webhook(&self, id: &str) -> Result<Option<Webhook>, ApiError> {
        match self.json(Request::get(Endpoint::Webhooks, &one(id))).await {
            Ok(answer) => Ok(Some(answer.value)),
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Registers one. After an error other than a refusal it may be registered all the same: look before it is tried
    /// again.
    pub async fn create_webhook(&self, new: &NewWebhook) -> Result<Webhook, ApiError> {
        self.json(Request::post(Endpoint::Webhooks, PATH, body(new))).await.map(|answer| answer.value)
    }

    /// Changes one, and gives it back as it is then.
    pub async fn update_webhook(&self, id: &str, change: &WebhookChange) -> Result<Webhook, ApiError> {
        self.json(Request::patch(Endpoint::Webhooks, &one(id), body(change))).await.map(|answer| answer.value)
    }

    /// Takes one away; that it was not there is no error.
    pub async fn delete_webhook(&self, id: &str) -> Result<(), ApiError> {
        match self.call(Request::delete(Endpoint::Webhooks, &one(id)), |_| Ok(())).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn one(id: &str) -> String {
    format!("{PATH}/{}", encode(id))
}

/// Strings, lists and booleans always have a JSON form.
fn body(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
