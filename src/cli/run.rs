//! `run`: the daemon.

use super::outcome::{Exit, Failure};
use super::sources::Sources;
use crate::settings::Loaded;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    sources: Sources,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    let loaded = options.sources.load_and_warn()?;
    start(loaded)
}

/// The one line between the command and the daemon.
fn start(loaded: Loaded) -> Result<(), Failure> {
    drop(loaded);
    Err(Failure::new(Exit::Usage, "`run` is not yet in this version"))
}
