//! What runs beside the listeners: the live sets, and whatever asks the providers' APIs.

use super::StartError;
use crate::e2b::Api;
use crate::intake::{self, Intake};
use crate::metrics::Metrics;
use crate::sandboxes::{Follower, Live, Sandboxes, Wants};
use crate::settings::Settings;
use crate::shutdown::Shutdown;
use crate::source;
use crate::source::backfill::{self, Backfill};
use crate::source::reconcile::{self, Reconciler};
use crate::source::reports::{self, Reporter};
use crate::source::scrape::{self, Scraper};
use crate::store::Store;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What pollers are made of.
pub(super) struct World<'a> {
    pub(super) settings: &'a Settings,
    pub(super) store: &'a Arc<Store>,
    pub(super) intake: &'a Arc<Intake>,
    pub(super) metrics: &'a Metrics,
    pub(super) sandboxes: &'a Sandboxes,
    pub(super) shutdown: &'a Shutdown,
}

type Pollers = Vec<BoxFuture<'static, ()>>;

/// The live sets as they were kept.
pub(super) async fn open_sandboxes(
    settings: &Settings,
    store: &Arc<Store>,
    intake: &Arc<Intake>,
    metrics: &Metrics,
) -> Result<Sandboxes, StartError> {
    let wants: Vec<(String, Wants)> =
        settings.sources.iter().map(|(name, source)| (name.clone(), source.wants())).collect();
    let (folder, metrics) = (settings.store.path.join("sandboxes"), metrics.clone());
    let (durable, now) = (*store.durable().borrow(), intake.now());
    let open = move || {
        let wants = wants.iter().map(|(name, wants)| (name.as_str(), *wants));
        Sandboxes::open(&folder, wants, durable, now, &metrics)
    };
    Ok(tokio::task::spawn_blocking(open).await?)
}

impl World<'_> {
    /// Of all sources, and by source who sweeps its list of events; nothing is asked before they run.
    pub(super) fn pollers(&self) -> Result<(Pollers, BTreeMap<String, backfill::Handle>), StartError> {
        let follower = Follower::new(self.sandboxes.clone(), Arc::clone(self.store));
        let caught_up = follower.caught_up();
        let mut pollers: Pollers = vec![Box::pin(follower.run(self.shutdown.clone()))];
        let mut backfills = BTreeMap::new();
        for (name, source) in &self.settings.sources {
            self.metrics.source(name);
            let api = source.api.as_ref().map(|api| Api::new(name, api, self.metrics.clone(), fastrand::Rng::new()));
            let api = api.transpose().map_err(|source| StartError::Api { name: name.clone(), source })?;
            if let Some(api) = &api {
                let backfill = self.backfill(name, source, api);
                backfills.insert(name.clone(), backfill.handle());
                pollers.push(Box::pin(backfill.run(self.shutdown.clone())));
            }
            if let Some(live) = self.sandboxes.of(name) {
                pollers.extend(self.watch(source, &live, api.as_ref(), &caught_up));
            }
        }
        Ok((pollers, backfills))
    }

    fn backfill(&self, name: &str, source: &source::Settings, api: &Api) -> Backfill {
        let backfill = source.backfill.clone().unwrap_or_default();
        Backfill::new(backfill::Parts {
            source: name.into(),
            team_id: source.team_id.clone(),
            api: api.clone(),
            // The last value stays readable without its sender.
            webhook_id: watch::channel(backfill.webhook_id.clone()).1,
            settings: backfill,
            intake: Arc::clone(self.intake),
            state: Arc::clone(self.store) as Arc<dyn intake::State>,
            spool: self.settings.store.path.join("backfill"),
            bounds: backfill::Bounds::default(),
            metrics: self.metrics.clone(),
        })
    }

    /// What watches over the source's sandboxes.
    fn watch(
        &self,
        source: &source::Settings,
        live: &Live,
        api: Option<&Api>,
        caught_up: &watch::Receiver<bool>,
    ) -> Pollers {
        let mut pollers: Pollers = Vec::new();
        if let Some(api) = api {
            let reconciler = Reconciler::new(reconcile::Parts {
                live: live.clone(),
                api: api.clone(),
                settings: source.reconcile.clone().unwrap_or_default(),
                intake: Arc::clone(self.intake),
                caught_up: caught_up.clone(),
            });
            pollers.push(Box::pin(reconciler.run(self.shutdown.clone())));
        }
        if let (Some(api), Some(scrape)) = (api, &source.metrics) {
            let scraper = Scraper::new(scrape::Parts {
                live: live.clone(),
                api: api.clone(),
                settings: scrape.clone(),
                max_calls_per_minute: source.api.as_ref().map_or(0, |api| api.max_calls_per_minute),
                team_id: source.team_id.clone(),
                intake: Arc::clone(self.intake),
                metrics: self.metrics.clone(),
                caught_up: caught_up.clone(),
            });
            pollers.push(Box::pin(scraper.run(self.shutdown.clone())));
        }
        let reporter = Reporter::new(reports::Parts {
            live: live.clone(),
            api: api.cloned(),
            team_id: source.team_id.clone(),
            intake: Arc::clone(self.intake),
            metrics: self.metrics.clone(),
            kill_grace: reports::KILL_GRACE,
            caught_up: caught_up.clone(),
        });
        pollers.push(Box::pin(reporter.run(self.shutdown.clone())));
        pollers
    }
}
