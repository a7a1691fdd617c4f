//! The relay's own webhook at the provider, kept in line with the settings.
//!
//! ```text
//! every interval: list ─► which one is ours? ─┬─► none: create
//!                                             ├─► ours: change what differs, and the secret if it was rotated
//!                                             └─► cannot be told: an alarm, and nothing is touched
//! ```
//!
//! It looks before it creates, each time: a creation whose answer was lost is found by name and URL, and not repeated.
//! Others' webhooks are never touched, only counted.

mod own;
mod saved;
mod settings;
mod status;

pub use own::{Conflict, Drift, delivers_to, drift, find, fresh};
pub use settings::{DEFAULT_NAME, Events, Settings};
pub use status::Status;

use crate::backoff::Backoff;
use crate::e2b::{Api, ApiError, Webhook};
use crate::executor::Executor;
use crate::intake::State;
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use crate::source::keeper::Keeper;
use own::namesakes;
use saved::{Found, Saved};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the start of the daemon waits for the provider's word on whose webhook is there. What connects meanwhile
/// waits, too, and the provider gives a delivery about 10 s.
const START: Duration = Duration::from_secs(3);
/// After trouble that passes the next look is due after at least this, so that what a creation without an answer has
/// made is listed …
const SOON: Duration = Duration::from_secs(1);
/// … and at most this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// While another's webhook is in the way: somebody is about to take it out of it.
const IN_THE_WAY: Duration = Duration::from_secs(60);
/// The longest that an API may ask to be left alone.
const LONGEST_REST: Duration = Duration::from_secs(60 * 60);

/// What it is made of.
pub struct Parts {
    /// Where it registers.
    pub api: Api,
    /// What it registers.
    pub settings: Settings,
    /// What deliveries are to be signed with.
    pub secret: Secret,
    /// Where the webhook's id is kept.
    pub state: Arc<dyn State>,
    /// Runs what may block.
    pub executor: Executor,
    /// Counts.
    pub metrics: Metrics,
    /// Told the webhook's id, as soon as it is known.
    pub webhook_id: watch::Sender<Option<String>>,
    /// Told how it is doing.
    pub status: watch::Sender<Status>,
}

/// One source's.
pub struct Registrar {
    parts: Parts,
    keeper: Keeper,
    found: Found,
    backoff: Backoff,
    /// What the log said last of what is not in line, so that it tells of changes only.
    said: String,
}

/// The webhook is not in line.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the provider does not take what the webhook shall have as {0}")]
    NotTaken(String),
    #[error("its id cannot be kept: {0}")]
    State(#[from] io::Error),
}

impl Trouble {
    /// Whether somebody has to do something about it.
    fn lasts(&self) -> bool {
        use ApiError::{NotOffered, Refused, Unauthorized};
        match self {
            Self::Conflict(_) | Self::NotTaken(_) => true,
            Self::Api(error) => matches!(error, Unauthorized { .. } | NotOffered { .. } | Refused { .. }),
            Self::State(_) => false,
        }
    }
}

impl Registrar {
    /// Nothing is asked yet. Tells the id that was kept.
    pub fn new(parts: Parts) -> Self {
        let keeper = Keeper::new(&parts.state, &parts.executor);
        let found = saved::recall(&keeper, parts.api.source());
        parts.metrics.registration(parts.api.source());
        let this = Self {
            parts,
            keeper,
            found,
            backoff: Backoff::new(SOON, LONGEST_BACKOFF, fastrand::Rng::new()),
            said: String::new(),
        };
        if let Some(saved) = &this.found.saved {
            this.tell(&saved.id);
        }
        this
    }

    /// For the very first start: whether the name is taken by what may be another relay's webhook. A provider that cannot
    /// be asked is no reason not to start, nor is one of the name beside the webhook that was the relay's before.
    ///
    /// # Errors
    /// If it is taken.
    pub async fn check(&self) -> Result<(), Conflict> {
        if self.found.saved.is_some() || self.found.lost {
            return Ok(());
        }
        match tokio::time::timeout(START, self.parts.api.webhooks()).await {
            Ok(Ok(listed)) => find(&listed.value, &self.parts.settings, None).map(drop),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// Looks every interval, until told to end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        loop {
            // A creation that is cut off here is found at the next start.
            let rest = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                rest = self.turn() => rest,
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// One look; returns after how long the next one is due.
    async fn turn(&mut self) -> Duration {
        let interval = self.parts.settings.interval;
        let ended = self.look().await;
        self.log(&ended);
        self.parts.status.send_modify(|status| {
            status.in_line = match &ended {
                Ok(_) => Some(true),
                Err(trouble) if trouble.lasts() => Some(false),
                Err(_) => None,
            };
            status.problem = (!self.said.is_empty()).then(|| self.said.clone());
        });
        // What the API does not answer says nothing of a conflict.
        match &ended {
            Ok(also) => self.parts.metrics.registration_conflict(self.parts.api.source(), also.is_some()),
            Err(Trouble::Conflict(_)) => self.parts.metrics.registration_conflict(self.parts.api.source(), true),
            Err(_) => {}
        }
        match ended {
            Ok(_) => {
                self.backoff.reset();
                interval
            }
            Err(Trouble::Conflict(_)) => interval.min(IN_THE_WAY),
            Err(trouble) if trouble.lasts() => interval,
            Err(Trouble::Api(error)) => {
                let asked_for = error.retry_after().unwrap_or_default().min(LONGEST_REST);
                asked_for.max(SOON + self.backoff.next_delay())
            }
            Err(_) => SOON + self.backoff.next_delay(),
        }
    }

    /// Says what is wrong when it changes, and that it is over.
    fn log(&mut self, ended: &Result<Option<Conflict>, Trouble>) {
        let said = match ended {
            Ok(None) => String::new(),
            Ok(Some(also)) => also.to_string(),
            Err(trouble) => trouble.to_string(),
        };
        let (source, was) = (self.parts.api.source(), std::mem::replace(&mut self.said, said));
        if was == self.said {
            return;
        }
        let said = &self.said;
        match ended {
            Ok(None) => tracing::info!(source, "the webhook is in line again"),
            Ok(Some(_)) => tracing::error!(source, error = said, "the webhook is in line, but not alone"),
            Err(trouble) if trouble.lasts() => {
                tracing::error!(
                    source,
                    error = said,
                    "the webhook is not registered as sources.{source}.register has it"
                );
            }
            Err(_) => tracing::warn!(source, error = said, "the webhook cannot be brought in line yet"),
        }
    }

    /// Brings the webhook in line; returns others of its name.
    async fn look(&mut self) -> Result<Option<Conflict>, Trouble> {
        let Parts { api, settings, metrics, .. } = &self.parts;
        let mut listed = api.webhooks().await?.value;
        let kept_id = self.found.saved.as_ref().map(|saved| saved.id.clone());
        if let Some(id) = &kept_id
            && !listed.iter().any(|webhook| webhook.id == *id)
        {
            // It is created anew only if it is gone for certain, and not where a list lacks it.
            listed.extend(api.webhook(id).await?);
        }
        let own = find(&listed, settings, kept_id.as_deref());
        let ours = own.as_ref().ok().copied().flatten().cloned();
        metrics.foreign_webhooks(api.source(), listed.len() - usize::from(ours.is_some()));
        own?;
        match ours {
            None => {
                self.create(&listed).await?;
                Ok(None)
            }
            Some(own) => {
                self.align(&own).await?;
                Ok(namesakes(&listed, &self.parts.settings, &own.id))
            }
        }
    }

    async fn create(&mut self, listed: &[Webhook]) -> Result<(), Trouble> {
        let Parts { api, settings, secret, .. } = &self.parts;
        let source = api.source();
        for other in listed.iter().filter(|other| delivers_to(other, &settings.url)) {
            let (id, name) = (&other.id, &other.name);
            tracing::warn!(source, id, name, "another webhook delivers here too: each event comes twice");
        }
        let made = api.create_webhook(&fresh(settings, secret)).await?;
        tracing::info!(source, id = made.id, url = settings.url, "the webhook is registered");
        if self.found.saved.is_some() {
            self.count("deleted");
        }
        self.keep(&made.id).await
    }

    /// Changes what differs. The secret is registered where the last one was another, or is not known.
    async fn align(&mut self, own: &Webhook) -> Result<(), Trouble> {
        let Parts { api, settings, secret, .. } = &self.parts;
        let Drift { mut change, mut differs } = drift(own, settings);
        let kept = self.found.saved.as_ref().filter(|saved| saved.id == own.id);
        let is_replaced = kept.is_none() && self.found.saved.is_some();
        if !kept.is_some_and(|saved| saved.has(secret)) {
            change.signature_secret = Some(secret.clone());
            if kept.is_some() {
                differs.push("secret");
            }
        } else if differs.is_empty() {
            return Ok(());
        }
        let changed = api.update_webhook(&own.id, &change).await?;
        tracing::info!(source = api.source(), id = own.id, "the webhook is registered");
        if is_replaced {
            differs.push("id");
        }
        self.keep(&own.id).await?;
        let left = drift(&changed, &self.parts.settings).differs;
        if !left.is_empty() {
            // No repair, or it would be one for ever.
            return Err(Trouble::NotTaken(left.join(", ")));
        }
        if !differs.is_empty() {
            self.count(&differs.join(", "));
        }
        Ok(())
    }

    fn count(&self, differed: &str) {
        let source = self.parts.api.source();
        tracing::warn!(source, differed, "the webhook was not as the settings have it, and is repaired");
        self.parts.metrics.registration_repaired(source);
    }

    /// Keeps that this is the relay's own, with the present secret.
    async fn keep(&mut self, id: &str) -> Result<(), Trouble> {
        let saved = Saved::new(id, &self.parts.secret);
        self.tell(id);
        saved::keep(&self.keeper, self.parts.api.source(), &saved).await?;
        self.found = Found { saved: Some(saved), lost: false };
        Ok(())
    }

    fn tell(&self, id: &str) {
        self.parts.webhook_id.send_replace(Some(id.to_owned()));
        self.parts.status.send_modify(|status| status.webhook_id = Some(id.to_owned()));
    }
}
