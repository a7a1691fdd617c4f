//! The configuration read again while the daemon runs.
//!
//! ```text
//! read ─► check ─► plan: whatever can fail ─► sinks ─► receiver ─► pollers ─► admin
//!            └─────────────┴─► refused: nothing has changed
//! ```
//!
//! Only what changed is touched. What is taken from the new settings is taken as a whole, or not at all; keys that
//! cannot change while the daemon runs aside, which keep their old value and are named.

use super::pollers::Pollers;
use super::sinks::{Changes, Sinks};
use super::{StartError, fixed};
use crate::admin::{Access, Token};
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::settings::{Loaded, Problems, Settings};
use crate::source::webhook::Receiver;
use crate::systemd::Notifier;
use std::sync::Arc;
use tokio::sync::Notify;

/// Reads the configuration as it was read for the start: the same files, the same environment.
pub type Configuration = Arc<dyn Fn() -> Result<Loaded, Problems> + Send + Sync>;

/// Asks a running daemon to reopen files and to read its configuration again. One request waits while one is under way;
/// further ones are that one. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Reloader(Arc<Notify>);

impl Reloader {
    /// For whoever hears of it, while the daemon runs.
    pub fn ask(&self) {
        self.0.notify_one();
    }

    pub(super) async fn asked(&self) {
        self.0.notified().await;
    }
}

/// The parts of a daemon that a new configuration changes.
pub(super) struct Changeable {
    pub(super) loaded: Loaded,
    pub(super) sinks: Sinks,
    pub(super) pollers: Pollers,
    pub(super) receiver: Arc<Receiver>,
    pub(super) access: Access,
    pub(super) intake: Arc<Intake>,
    pub(super) metrics: Metrics,
}

/// Why the configuration that was read is not in force.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{} in it", if .0.0.len() == 1 { "there is a fault" } else { "there are faults" })]
    Faults(Problems),
    #[error(transparent)]
    Unusable(#[from] StartError),
    #[error("it could not be read: {0}")]
    Unread(#[from] tokio::task::JoinError),
}

/// The token of the operators, by the settings or the store's own.
pub(super) fn token(settings: &Settings) -> Result<Token, StartError> {
    let token = match &settings.admin.token_file {
        Some(file) => Token::read(file),
        None => Token::own(&settings.store.path),
    };
    token.map_err(StartError::Token)
}

impl Changeable {
    /// Never ends.
    pub(super) async fn reload_when_asked(
        &mut self,
        reloader: &Reloader,
        configuration: Option<&Configuration>,
        notifier: &Notifier,
    ) {
        loop {
            reloader.asked().await;
            notifier.reloading();
            self.sinks.reopen();
            let status = match configuration {
                Some(configuration) => self.reload(configuration).await,
                None => {
                    tracing::info!("files are reopened; there is no configuration to read again");
                    "files are reopened"
                }
            };
            notifier.ready(status);
        }
    }

    /// Reads it again; whatever comes of it is told in the log and the metrics, and in one line. May be dropped half-way when the daemon is
    /// to end: what still runs is still known, and the next start does the rest.
    async fn reload(&mut self, configuration: &Configuration) -> &'static str {
        match self.try_reload(configuration).await {
            Ok(changes) => {
                let Changes { begun, gone } = changes;
                tracing::info!(sinks_begun = ?begun, sinks_gone = ?gone, "the configuration is read again and in force");
                "the configuration is read again and in force"
            }
            Err(refused) => {
                self.metrics.config_refused();
                if let Refused::Faults(Problems(problems)) = &refused {
                    problems.iter().for_each(|problem| tracing::error!("{problem}"));
                }
                tracing::error!(error = %refused, "the new configuration is not taken, the one before stays in force");
                "the new configuration is not taken, the one before stays in force: see the log"
            }
        }
    }

    async fn try_reload(&mut self, configuration: &Configuration) -> Result<Changes, Refused> {
        tracing::info!("the configuration is being read again");
        let read = Arc::clone(configuration);
        let mut new = tokio::task::spawn_blocking(move || read()).await?.map_err(Refused::Faults)?;
        new.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let kept = fixed::keep(&self.loaded.settings, &mut new.settings);

        let token = token(&new.settings)?;
        let pollers = self.pollers.plan(&new).await?;
        let sinks = self.sinks.plan(&new)?;
        let changes = match self.sinks.follow(sinks).await {
            Ok(changes) => changes,
            Err(error) => {
                self.sinks.resume(&self.loaded);
                return Err(error.into());
            }
        };
        self.sinks.tasks.begin();
        // Before a new secret is registered anywhere.
        self.receiver.serve(new.settings.sources.iter().map(|(name, source)| (name.as_str(), source)));
        self.access.replace(&new.settings.admin, token);
        self.pollers.follow(pollers, &new).await?;
        self.pollers.begin();
        for name in self.loaded.settings.sources.keys().filter(|name| !new.settings.sources.contains_key(*name)) {
            self.intake.forget(name);
            self.metrics.source_gone(name);
        }
        for key in &kept {
            tracing::warn!(key, "the new value needs a restart: until then the old one stays in force");
        }
        self.metrics.config_loaded(self.intake.now().as_duration().as_secs_f64(), kept.len());
        self.loaded = new;
        Ok(changes)
    }
}
