//! The set of live sandboxes against the provider's list.
//!
//! The list is paged by the time of start, and a walk over its pages is no snapshot: who is resumed meanwhile moves to the
//! front, and may come twice or not at all. So ids are taken once, the newest start counts, and who is not on the list is
//! asked for by itself before it counts as gone.

mod settings;

pub use settings::Settings;

use crate::e2b::{Api, ApiError, ListedSandbox};
use crate::intake::Intake;
use crate::sandboxes::{Live, MAX_SANDBOXES};
use crate::shutdown::Shutdown;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Sandboxes that are asked for one by one after a walk; the next walk goes on with the rest.
const MAX_ASKED: usize = 1000;
/// Such calls side by side.
const SIDE_BY_SIDE: usize = 4;
/// An API that refuses the key or lists no sandboxes is asked more rarely by this factor.
const PATIENCE: u32 = 10;
/// After trouble the next walk is not waited for longer than this.
const SOON: Duration = Duration::from_secs(30);

/// So many pages one after the other may name nobody new; beyond them the list goes round.
const PAGES_WITHOUT_NEWS: usize = 10;

/// What it is made of.
pub struct Parts {
    /// The set.
    pub live: Live,
    /// Where it looks.
    pub api: Api,
    /// How often.
    pub settings: Settings,
    /// For the time.
    pub intake: Arc<Intake>,
    /// True once the set holds what the journal holds.
    pub caught_up: watch::Receiver<bool>,
}

/// One source's.
pub struct Reconciler {
    parts: Parts,
    /// The last outcome, so that the log tells of changes only.
    outcome: &'static str,
}

impl Reconciler {
    /// Nothing is asked yet.
    pub fn new(parts: Parts) -> Self {
        Self { parts, outcome: "" }
    }

    /// Compares at once and then every interval, until told to end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let work = async {
            // Without a sender the journal is not followed any more, and the end is near.
            let _ = self.parts.caught_up.wait_for(|up| *up).await;
            loop {
                let started = Instant::now();
                let rest = self.turn().await;
                tokio::time::sleep_until(started + rest).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = work => {}
        }
    }

    async fn turn(&mut self) -> Duration {
        let interval = self.parts.settings.interval;
        let ended = self.walk().await;
        let outcome = ended.as_ref().map_or_else(ApiError::outcome, |_| "ok");
        let changed = std::mem::replace(&mut self.outcome, outcome) != outcome;
        let source = self.parts.live.source();
        match &ended {
            Ok(listed) if changed => tracing::info!(%source, sandboxes = listed, "the list of sandboxes is read"),
            Err(error) if changed => tracing::warn!(%source, %error, "the list of sandboxes cannot be read"),
            _ => {}
        }
        match ended {
            Ok(_) => interval,
            Err(ApiError::Unauthorized { .. } | ApiError::NotOffered { .. }) => interval * PATIENCE,
            Err(error) => interval.min(SOON).max(error.retry_after().unwrap_or_default()),
        }
    }

    /// One comparison. A walk that is cut short says nothing of who is gone.
    async fn walk(&self) -> Result<usize, ApiError> {
        let Parts { live, api, intake, .. } = &self.parts;
        let read_at = intake.now();
        let mut listed: HashMap<String, ListedSandbox> = HashMap::new();
        // Listed by rows that tell nothing but whose they are: not gone, and not more than that.
        let mut odd: HashSet<String> = HashSet::new();
        let mut token: Option<String> = None;
        let mut without_news = 0;
        loop {
            let page = api.sandboxes(token.as_deref()).await?.value;
            let known = listed.len() + odd.len();
            odd.extend(page.odd);
            for sandbox in page.sandboxes {
                // Text in RFC 3339, of one server: the later start is the greater text.
                match listed.get(&sandbox.id) {
                    Some(known) if known.started_at >= sandbox.started_at => {}
                    _ => drop(listed.insert(sandbox.id.clone(), sandbox)),
                }
            }
            if listed.len() + odd.len() > MAX_SANDBOXES {
                let (source, limit) = (live.source(), MAX_SANDBOXES);
                tracing::error!(%source, limit, "more sandboxes are listed than are followed");
                return Ok(listed.len());
            }
            without_news = if listed.len() + odd.len() > known { 0 } else { without_news + 1 };
            if without_news > PAGES_WITHOUT_NEWS {
                return Err(api.repeats("/v2/sandboxes", "as where `nextToken` leads back"));
            }
            // A token that does not move would be asked for again for ever.
            if page.next_token.is_none() || page.next_token == token {
                break;
            }
            token = page.next_token;
        }
        for sandbox in listed.values() {
            live.listed(sandbox, read_at, intake.now());
        }
        let unlisted = live.unlisted(|id| listed.contains_key(id) || odd.contains(id), read_at);
        let asked = stream::iter(unlisted.into_iter().take(MAX_ASKED)).map(|id| async move {
            let asked_at = intake.now();
            match api.sandbox(&id).await {
                Ok(answer) => match answer.value {
                    Some(sandbox) => live.listed(&sandbox, asked_at, intake.now()),
                    None => {
                        // Said again at each walk until the set has let go of it.
                        tracing::info!(source = %live.source(), sandbox_id = id, "sandbox not found");
                        live.missing(&id, asked_at, intake.now());
                    }
                },
                Err(error) => return Err(error),
            }
            Ok(())
        });
        let mut asked = asked.buffer_unordered(SIDE_BY_SIDE);
        while let Some(answer) = asked.next().await {
            match answer {
                // An id that the API cannot read says nothing of the others.
                Ok(()) | Err(ApiError::Refused { .. } | ApiError::Invalid { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed.len())
    }
}
