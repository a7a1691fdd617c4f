//! `health`: whether a running daemon is alive, for whoever judges it by an exit code, such as a container's health check.

use super::outcome::{Exit, Failure, print};
use super::{admin, runtime};
use clap::Args;
use std::time::Duration;

/// For the whole answer; a daemon that is alive takes no time for it. Less than the five seconds after which health checks
/// usually lose their patience, so that it is this command that tells.
const LIMIT: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: admin::Target,
    /// Whether it takes deliveries (/readyz) instead of whether it is alive (/livez): a full disk makes it not ready, and
    /// restarting would not help.
    #[arg(long)]
    ready: bool,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    let (path, well) = if options.ready { ("/readyz", "ready") } else { ("/livez", "alive") };
    let daemon = options.daemon.daemon()?;
    runtime()?.block_on(async {
        let asked = tokio::time::timeout(LIMIT, daemon.is_well(path, well)).await;
        let late = || format!("no answer within {}", humantime::format_duration(LIMIT));
        asked.unwrap_or_else(|_| Err(Failure::new(Exit::Unavailable, late())))
    })?;
    print(format_args!("{well}\n"))
}
