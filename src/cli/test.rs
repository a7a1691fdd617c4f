//! `test`: what the sinks would make of one event.

use super::Format;
use super::outcome::{Exit, Failure};
use super::sources::Sources;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    sources: Sources,
    /// A file with one delivery's body.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    let _ = (&options.event, options.format);
    options.sources.load_and_warn()?;
    Err(Failure::new(Exit::Usage, "`test` is not yet in this version"))
}
