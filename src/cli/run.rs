//! `run`: the daemon, from its start to its end.

use super::outcome::{Exit, Failure};
use super::runtime;
use super::signals::Signals;
use super::sources::Sources;
use crate::admin::TokenError;
use crate::app::{Configuration, Daemon, End, StartError};
use crate::http::{BindError, Inherited};
use crate::settings::{self, Environment};
use crate::shutdown::{self, Shutdown};
use crate::systemd::Notifier;
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    sources: Sources,
}

pub(super) fn execute(options: &Options, mut signals: Signals) -> Result<(), Failure> {
    let files = options.sources.files()?;
    let inherited = Inherited::from_env().map_err(|error| Failure::new(Exit::Config, error))?;
    let configuration: Configuration = Arc::new(move || settings::load(&files, &Environment::of_process()));
    let runtime = runtime()?;
    let end = runtime.block_on(async {
        let read = Arc::clone(&configuration);
        // The files may be on a disk that does not answer.
        let loaded = tokio::select! {
            loaded = tokio::task::spawn_blocking(move || read()) => loaded.map_err(Failure::internal)??,
            () = signals.end(1) => {
                tracing::info!("told to end before the configuration was read");
                return Ok(());
            }
        };
        loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let manager = Manager::of_process();
        // Told to end once, it is drained as soon as it has started: what is half open is not left behind.
        let daemon = tokio::select! {
            started = Daemon::start(loaded, inherited) => started?.rereading(configuration),
            () = signals.end(2) => return at_once(),
        };
        let daemon = daemon.notifying(manager.notifier, manager.watchdog);
        tracing::info!(
            public = %daemon.public_address(), admin = %daemon.admin_address(), "deliveries are taken; this is e2b-relay {}",
            env!("CARGO_PKG_VERSION")
        );
        until_told(daemon, signals, |_| std::future::pending()).await
    });
    // After a second signal something may still run; the process does not wait for it.
    runtime.shutdown_background();
    end
}

fn at_once() -> Result<(), Failure> {
    tracing::warn!("ended at once by a second signal; what is left is sent after the next start");
    Ok(())
}

/// The service manager that has started this process, if one has.
struct Manager {
    notifier: Notifier,
    /// How often it is told that the daemon is alive: twice as often as it wants to hear it.
    watchdog: Option<Duration>,
}

impl Manager {
    fn of_process() -> Self {
        let notifier = std::env::var_os("NOTIFY_SOCKET").map_or_else(Notifier::default, |address| {
            Notifier::connect(&address).unwrap_or_else(|error| {
                tracing::warn!(%error, "the service manager is not told anything: NOTIFY_SOCKET names no socket of its");
                Notifier::default()
            })
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        // The variables may be another process's, which has left them in our environment.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|microseconds| is_ours && *microseconds > 1);
        Self { notifier, watchdog: watchdog.map(|microseconds| Duration::from_micros(microseconds / 2)) }
    }
}

/// Runs the daemon, and `beside` it what shall end with it; whichever ends or is told to, the daemon drains.
pub(super) async fn until_told<F: Future<Output = ()>>(
    daemon: Daemon,
    mut signals: Signals,
    beside: impl FnOnce(Shutdown) -> F,
) -> Result<(), Failure> {
    let (trigger, shutdown) = shutdown::channel();
    let reloader = daemon.reloader();
    let companion = async {
        beside(shutdown.clone()).await;
        trigger.fire();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        end = daemon.run(shutdown.clone()) => match end {
            End::Drained => Ok(()),
            End::StoreDied => Err(Failure::internal("the store's writer ended; what was answered 200 is on disk")),
        },
        () = signals.obey(&trigger, &reloader) => at_once(),
        () = companion => Ok(()),
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Store(_)
            | StartError::Refused(_)
            | StartError::Token(TokenError::File { .. })
            | StartError::Bind(BindError::Address { .. }) => Exit::Io,
            StartError::Bind(BindError::Tls(_))
            | StartError::Token(TokenError::Content { .. })
            | StartError::Sink { .. }
            | StartError::Rename(_)
            | StartError::Api { .. }
            | StartError::Register { .. } => Exit::Config,
            StartError::Metrics(_) | StartError::Lost(_) => Exit::Internal,
        };
        Self::new(exit, error)
    }
}
