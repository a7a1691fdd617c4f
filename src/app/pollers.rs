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
use crate::source::register::{self, Registrar};
use crate::source::reports::{self, Reporter};
use crate::source::scrape::{self, Scraper};
use crate::store::Store;
use futures_util::future::{BoxFuture, try_join_all};
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
    /// Of all sources, and by source who sweeps its list of events. Before they run only one thing is asked, where a
    /// webhook is to be registered for the first time: whether another relay's is in the way.
    pub(super) async fn pollers(&self) -> Result<(Pollers, BTreeMap<String, backfill::Handle>), StartError> {
        let mut registrars: Vec<(&str, Registrar)> = Vec::new();
        let follower = Follower::new(self.sandboxes.clone(), Arc::clone(self.store));
        let caught_up = follower.caught_up();
        let mut pollers: Pollers = vec![Box::pin(follower.run(self.shutdown.clone()))];
        let mut backfills = BTreeMap::new();
        for (name, source) in &self.settings.sources {
            self.metrics.source(name);
            let api = source.api.as_ref().map(|api| Api::new(name, api, self.metrics.clone(), fastrand::Rng::new()));
            let api = api.transpose().map_err(|source| StartError::Api { name: name.clone(), source })?;
            let api = api.map(|api| api.redacting(source.redact.clone()));
            if let Some(api) = &api {
                let known = source.backfill.as_ref().and_then(|backfill| backfill.webhook_id.clone());
                // The last value stays readable without its sender.
                let (tell, webhook_id) = watch::channel(known);
                let backfill = self.backfill(name, source, api, webhook_id);
                backfills.insert(name.clone(), backfill.handle());
                pollers.push(Box::pin(backfill.run(self.shutdown.clone())));
                registrars.extend(self.registrar(source, api, tell).map(|registrar| (name.as_str(), registrar)));
            }
            if let Some(live) = self.sandboxes.of(name) {
                pollers.extend(self.watch(source, &live, api.as_ref(), &caught_up));
            }
        }
        try_join_all(registrars.iter().map(async |(name, registrar)| {
            let failed = |conflict| StartError::Register { name: (*name).to_owned(), conflict };
            registrar.check().await.map_err(failed)
        }))
        .await?;
        for (_, registrar) in registrars {
            pollers.push(Box::pin(registrar.run(self.shutdown.clone())));
        }
        Ok((pollers, backfills))
    }

    /// Whoever keeps the source's webhook in line, if it is to be kept.
    fn registrar(
        &self,
        source: &source::Settings,
        api: &Api,
        webhook_id: watch::Sender<Option<String>>,
    ) -> Option<Registrar> {
        Some(Registrar::new(register::Parts {
            api: api.clone(),
            settings: source.register.clone()?,
            secret: source.newest_secret()?.clone(),
            state: Arc::clone(self.store) as Arc<dyn intake::State>,
            metrics: self.metrics.clone(),
            webhook_id,
        }))
    }

    fn backfill(&self, name: &str, source: &source::Settings, api: &Api, webhook_id: backfill::WebhookId) -> Backfill {
        let backfill = source.backfill.clone().unwrap_or_default();
        Backfill::new(backfill::Parts {
            source: name.into(),
            team_id: source.team_id.clone(),
            api: api.clone(),
            webhook_id,
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
