//! What runs beside the listeners: the live sets, and whatever asks the providers' APIs.

use super::StartError;
use super::tasks::Tasks;
use crate::e2b::Api;
use crate::executor::Executor;
use crate::health::Health;
use crate::intake::{self, Intake};
use crate::metrics::Metrics;
use crate::sandboxes::{Follower, Live, Sandboxes, Wants};
use crate::settings::{Loaded, Said, Settings};
use crate::source::backfill::{self, Backfill, DamageReporter, Handles};
use crate::source::reconcile::{self, Reconciler};
use crate::source::register::{self, Registrar};
use crate::source::reports::{self, Reporter};
use crate::source::scrape::{self, Scraper};
use crate::source::{self, Shown, Sources};
use crate::store::EventLog;
use futures_util::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long pollers that others follow may take to end: each gives up its call at once.
const END: Duration = Duration::from_secs(5);

/// Source and what is done for it; the one that reads the journal for all has no source.
type Key = (Option<String>, Role);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Follow,
    Backfill,
    Damage,
    Register,
    Reconcile,
    Scrape,
    Report,
}

/// All of a daemon's.
pub(super) struct Pollers {
    log: EventLog,
    state: Arc<dyn intake::State>,
    executor: Executor,
    intake: Arc<Intake>,
    metrics: Metrics,
    sandboxes: Sandboxes,
    /// The store's.
    folder: PathBuf,
    /// Whether the live sets hold what the journal holds.
    caught_up: watch::Sender<bool>,
    asked: BTreeMap<String, Asked>,
    handles: Handles,
    shown: Sources,
    tasks: Tasks<Key>,
}

/// One source's API, shared by all that asks it.
#[derive(Clone)]
struct Asked {
    said: Said,
    api: Api,
    /// The relay's own webhook there, once it is known.
    webhook_id: watch::Sender<Option<String>>,
    backfill: watch::Sender<backfill::Status>,
    registration: watch::Sender<register::Status>,
}

/// What the pollers are to be, tried as far as that changes nothing.
pub(super) struct Plan {
    asked: BTreeMap<String, Asked>,
}

impl Pollers {
    pub(super) fn new(
        log: EventLog,
        state: Arc<dyn intake::State>,
        intake: Arc<Intake>,
        metrics: Metrics,
        health: Health,
        folder: PathBuf,
    ) -> Self {
        Self {
            log,
            state,
            executor: Executor::default(),
            intake,
            metrics,
            sandboxes: Sandboxes::default(),
            folder,
            caught_up: watch::Sender::new(false),
            asked: BTreeMap::new(),
            handles: Handles::default(),
            shown: Sources::default(),
            tasks: Tasks::new(health, name),
        }
    }

    /// The live sets.
    pub(super) fn sandboxes(&self) -> Sandboxes {
        self.sandboxes.clone()
    }

    /// By source: who sweeps its list of events.
    pub(super) fn backfills(&self) -> Handles {
        self.handles.clone()
    }

    /// The sources, for operators.
    pub(super) fn shown(&self) -> Sources {
        self.shown.clone()
    }

    /// Nothing changes yet. Only one thing is asked of a provider, where a webhook is to be registered for the first time:
    /// whether another relay's is in the way.
    pub(super) async fn plan(&self, loaded: &Loaded) -> Result<Plan, StartError> {
        let mut asked = BTreeMap::new();
        let mut registrars = Vec::new();
        for (name, source) in &loaded.settings.sources {
            let Some(settings) = &source.api else { continue };
            let said = loaded.said.at(&["sources", name, "api"]);
            let asked_before = match self.asked.get(name).filter(|one| one.said == said) {
                Some(one) => one.clone(),
                None => {
                    let api = Api::new(name, settings, self.metrics.clone(), fastrand::Rng::new());
                    let api = api.map_err(|source| StartError::Api { name: name.clone(), source })?;
                    Asked {
                        said: said.clone(),
                        api,
                        webhook_id: watch::Sender::new(None),
                        backfill: watch::Sender::default(),
                        registration: watch::Sender::default(),
                    }
                }
            };
            let one = Asked { api: asked_before.api.clone().redacting(source.redact.clone()), ..asked_before };
            if !self.tasks.has(&key(name, Role::Register), &parts(&loaded.said, name, Role::Register)) {
                // Not the one that will run: what it finds kept may be another by then.
                let trial = Asked {
                    webhook_id: watch::Sender::new(None),
                    registration: watch::Sender::default(),
                    ..one.clone()
                };
                registrars.extend(self.registrar(source, trial).map(|one| (name, one)));
            }
            asked.insert(name.clone(), one);
        }
        try_join_all(registrars.iter().map(async |(name, registrar)| {
            let failed = |conflict| StartError::Register { name: (*name).clone(), conflict };
            registrar.check().await.map_err(failed)
        }))
        .await?;
        Ok(Plan { asked })
    }

    /// Ends what is gone or changed, and makes what is new; what is as it was is not touched.
    pub(super) async fn follow(&mut self, plan: Plan, loaded: &Loaded) -> Result<(), StartError> {
        let (sources, said) = (&loaded.settings.sources, &loaded.said);
        let mut wanted: BTreeMap<Key, Vec<Said>> = BTreeMap::new();
        for (name, source) in sources {
            let roles = roles(source).into_iter();
            wanted.extend(roles.map(|role| (key(name, role), parts(said, name, role))));
        }
        wanted.insert((None, Role::Follow), sources.keys().map(|name| Said::of_name(name)).collect());
        let fresh: BTreeSet<Key> =
            wanted.iter().filter(|(key, said)| !self.tasks.has(key, said)).map(|(key, _)| key.clone()).collect();
        self.tasks.end(|key| fresh.contains(key) || !wanted.contains_key(key), END).await;
        self.asked = plan.asked;
        self.replace_sandboxes(&loaded.settings).await?;

        let mut handles = self.handles.all();
        handles.retain(|name, _| self.asked.contains_key(name));
        for key in fresh {
            let said = wanted.remove(&key).unwrap_or_default();
            let Some((name, source)) = key.0.as_ref().and_then(|name| sources.get_key_value(name)) else {
                self.caught_up.send_replace(false);
                let follower = Follower::new(
                    self.sandboxes.clone(),
                    self.log.clone(),
                    self.caught_up.clone(),
                    self.executor.clone(),
                );
                self.tasks.add(key, said, |shutdown| follower.run(shutdown));
                continue;
            };
            handles.extend(self.make(name, source, key, said).await);
        }
        self.handles.replace(handles);
        let shown = sources.iter().map(|(name, settings)| (name.clone(), self.show(name, settings)));
        self.shown.replace(shown.collect());
        Ok(())
    }

    fn show(&self, name: &str, settings: &source::Settings) -> Shown {
        let asked = self.asked.get(name);
        Shown {
            settings: settings.clone(),
            backfill: asked.map(|asked| asked.backfill.subscribe()),
            registration: asked.filter(|_| settings.register.is_some()).map(|asked| asked.registration.subscribe()),
        }
    }

    /// Has those run that do not yet.
    pub(super) fn begin(&mut self) {
        self.tasks.begin();
    }

    /// Tells all of them to end.
    pub(super) fn stop(&self) {
        self.tasks.stop();
    }

    /// Returns once all have ended.
    pub(super) async fn ended(&mut self) {
        self.tasks.ended().await;
    }

    async fn replace_sandboxes(&self, settings: &Settings) -> Result<(), StartError> {
        let wants: Vec<(String, Wants)> =
            settings.sources.iter().map(|(name, source)| (name.clone(), source.wants())).collect();
        wants.iter().for_each(|(name, _)| self.metrics.source(name));
        let (sandboxes, folder, metrics) =
            (self.sandboxes.clone(), self.folder.join("sandboxes"), self.metrics.clone());
        let (durable, now) = (self.log.durable().borrow().sequence, self.intake.now());
        let replace = move || {
            let wants = wants.iter().map(|(name, wants)| (name.as_str(), *wants));
            sandboxes.replace(&folder, wants, durable, now, &metrics);
        };
        Ok(self.executor.call(replace).await?)
    }

    /// Makes one of a source's; the handle of a backfill.
    async fn make(
        &mut self,
        name: &str,
        source: &source::Settings,
        key: Key,
        said: Vec<Said>,
    ) -> Option<(String, backfill::Handle)> {
        let asked = self.asked.get(name).cloned();
        let (_, role) = key;
        let live = self.sandboxes.of(name)?;
        match (role, asked) {
            (Role::Backfill, Some(asked)) => {
                let mut backfill = self.backfill(name, source, &asked);
                backfill.prepare().await;
                let handle = backfill.handle();
                self.tasks.add(key, said, |shutdown| backfill.run(shutdown));
                return Some((name.to_owned(), handle));
            }
            (Role::Damage, _) => {
                let reporter = self.damage_reporter(name, source);
                self.tasks.add(key, said, |shutdown| reporter.run(shutdown));
            }
            (Role::Register, Some(asked)) => {
                let registrar = self.registrar(source, asked)?;
                self.tasks.add(key, said, |shutdown| registrar.run(shutdown));
            }
            (Role::Reconcile, Some(asked)) => {
                let reconciler = self.reconciler(source, live, asked.api);
                self.tasks.add(key, said, |shutdown| reconciler.run(shutdown));
            }
            (Role::Scrape, Some(asked)) => {
                let scraper = self.scraper(source, live, asked.api)?;
                self.tasks.add(key, said, |shutdown| scraper.run(shutdown));
            }
            (Role::Report, asked) => {
                let reporter = self.reporter(source, live, asked.map(|asked| asked.api));
                self.tasks.add(key, said, |shutdown| reporter.run(shutdown));
            }
            (Role::Follow | Role::Backfill | Role::Register | Role::Reconcile | Role::Scrape, _) => {}
        }
        None
    }

    fn backfill(&self, name: &str, source: &source::Settings, asked: &Asked) -> Backfill {
        let settings = source.backfill.clone().unwrap_or_default();
        let registers = source.register.is_some();
        asked.webhook_id.send_if_modified(|known| {
            let told = known.take().filter(|_| registers);
            *known = settings.webhook_id.clone().or(told);
            true
        });
        Backfill::new(backfill::Parts {
            source: name.into(),
            team_id: source.team_id.clone(),
            api: asked.api.clone(),
            webhook_id: asked.webhook_id.subscribe(),
            settings,
            intake: Arc::clone(&self.intake),
            state: Arc::clone(&self.state),
            executor: self.executor.clone(),
            spool: self.folder.join("backfill"),
            bounds: backfill::Bounds::default(),
            metrics: self.metrics.clone(),
            damaged: self.log.damaged_spans(),
            status: asked.backfill.clone(),
        })
    }

    /// Whoever answers for what the log has lost where the backfill does not.
    fn damage_reporter(&self, name: &str, source: &source::Settings) -> DamageReporter {
        DamageReporter::new(backfill::ReporterParts {
            source: name.into(),
            team_id: source.team_id.clone(),
            intake: Arc::clone(&self.intake),
            state: Arc::clone(&self.state),
            executor: self.executor.clone(),
            damaged: self.log.damaged_spans(),
            metrics: self.metrics.clone(),
        })
    }

    /// Whoever keeps the source's webhook in line, if it is to be kept.
    fn registrar(
        &self,
        source: &source::Settings,
        Asked { api, webhook_id, registration, .. }: Asked,
    ) -> Option<Registrar> {
        Some(Registrar::new(register::Parts {
            api,
            settings: source.register.clone()?,
            secret: source.newest_secret()?.clone(),
            state: Arc::clone(&self.state),
            executor: self.executor.clone(),
            metrics: self.metrics.clone(),
            webhook_id,
            status: registration,
        }))
    }

    fn reconciler(&self, source: &source::Settings, live: Live, api: Api) -> Reconciler {
        Reconciler::new(reconcile::Parts {
            live,
            api,
            settings: source.reconcile.clone().unwrap_or_default(),
            intake: Arc::clone(&self.intake),
            caught_up: self.caught_up.subscribe(),
        })
    }

    fn scraper(&self, source: &source::Settings, live: Live, api: Api) -> Option<Scraper> {
        Some(Scraper::new(scrape::Parts {
            live,
            api,
            settings: source.metrics.clone()?,
            max_calls_per_minute: source.api.as_ref().map_or(0, |api| api.max_calls_per_minute),
            team_id: source.team_id.clone(),
            intake: Arc::clone(&self.intake),
            metrics: self.metrics.clone(),
            caught_up: self.caught_up.subscribe(),
        }))
    }

    fn reporter(&self, source: &source::Settings, live: Live, api: Option<Api>) -> Reporter {
        Reporter::new(reports::Parts {
            live,
            api,
            team_id: source.team_id.clone(),
            intake: Arc::clone(&self.intake),
            metrics: self.metrics.clone(),
            kill_grace: reports::KILL_GRACE,
            caught_up: self.caught_up.subscribe(),
        })
    }
}

/// What operators call it.
fn name((source, role): &Key) -> String {
    let work = match role {
        Role::Follow => "following the journal for the live sets",
        Role::Backfill => "backfill",
        Role::Damage => "report of damage",
        Role::Register => "registration",
        Role::Reconcile => "reconciliation",
        Role::Scrape => "metrics scrape",
        Role::Report => "reports",
    };
    source.as_ref().map_or_else(|| work.to_owned(), |source| format!("{work} of source {source}"))
}

fn key(source: &str, role: Role) -> Key {
    (Some(source.to_owned()), role)
}

/// What is done for a source.
fn roles(source: &source::Settings) -> Vec<Role> {
    let mut roles = vec![Role::Report];
    let sweeps = source.api.is_some() && source.backfill.as_ref().is_none_or(|backfill| backfill.enabled);
    roles.extend((!sweeps).then_some(Role::Damage));
    if source.api.is_some() {
        roles.extend([Role::Backfill, Role::Reconcile]);
        roles.extend(source.register.is_some().then_some(Role::Register));
        roles.extend(source.metrics.is_some().then_some(Role::Scrape));
    }
    roles
}

/// What of a source's settings counts for what is done for it; what is wanted of its live set it is told without an end.
fn parts(said: &Said, name: &str, role: Role) -> Vec<Said> {
    let keys: &[&[&str]] = match role {
        Role::Follow => &[],
        Role::Backfill => &[&["api"], &["redact"], &["team_id"], &["backfill"]],
        Role::Register => &[&["api"], &["register"], &["webhook", "secrets"]],
        Role::Reconcile => &[&["api"], &["redact"], &["reconcile"]],
        Role::Scrape => &[&["api"], &["team_id"], &["metrics"]],
        Role::Report => &[&["api"], &["team_id"]],
        Role::Damage => &[&["team_id"]],
    };
    let source = said.at(&["sources", name]);
    keys.iter().map(|keys| source.at(keys)).collect()
}
