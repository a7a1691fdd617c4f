//! Every way something reaches the relay. One source is one E2B team or one self-hosted installation.

pub mod backfill;
mod insist;
mod keeper;
mod own;
pub mod reconcile;
pub mod register;
pub mod reports;
pub mod scrape;
mod shown;
pub mod webhook;

pub use shown::{Shown, Sources};

use crate::decode::Redaction;
use crate::e2b;
use crate::sandboxes::Wants;
use crate::secret::Secret;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `sources.<name>`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The team whose events are taken; an event of another `sandbox_team_id` is refused like one that is not signed.
    /// Without it every team's events are taken that a secret has signed.
    pub team_id: Option<String>,
    /// Paths into the record whose values nobody needs to have: `"[redacted]"` takes their place before anything is stored,
    /// logged or sent. `*` stands for every member of an object, and lists are looked through. Ids, types and times
    /// cannot be named. Not with a sink of `format: raw`.
    #[schemars(with = "Vec<String>")]
    pub redact: Redaction,
    /// Takes signed deliveries.
    pub webhook: Option<webhook::Settings>,
    /// Asks the provider's API.
    pub api: Option<e2b::Settings>,
    /// How what the deliveries missed is fetched; on as soon as there is an `api`.
    pub backfill: Option<backfill::Settings>,
    /// Reads what the running sandboxes use.
    pub metrics: Option<scrape::Settings>,
    /// The webhook at the provider that the relay makes and keeps in line by itself.
    pub register: Option<register::Settings>,
    /// How the set of live sandboxes is compared with the provider's list; on as soon as there is an `api`.
    pub reconcile: Option<reconcile::Settings>,
    /// Whether the end of each execution makes a `sandbox.usage` record.
    pub usage: bool,
    /// Whether the API is asked, after a killed event, if the sandbox is really gone; if it is not, that makes a
    /// `sandbox.kill_unconfirmed` record.
    pub verify_kills: bool,
}

/// The most that an event is late: a delivery is tried for half a minute, then the backfill finds it.
const LATE: Duration = Duration::from_secs(2 * 60);

impl Settings {
    /// What deliveries are signed with from now on: the last of the webhook's secrets.
    pub fn newest_secret(&self) -> Option<&Secret> {
        self.webhook.as_ref()?.secrets.last()
    }

    /// What is to be made of the source's live set.
    pub fn wants(&self) -> Wants {
        let reconcile = self.reconcile.clone().unwrap_or_default();
        Wants {
            usage: self.usage,
            verify_kills: self.verify_kills && self.api.is_some(),
            metrics: self.metrics.is_some(),
            emit: reconcile.emit,
            grace: SignedDuration::try_from(LATE.min(reconcile.interval)).unwrap_or(SignedDuration::MAX),
        }
    }
}
