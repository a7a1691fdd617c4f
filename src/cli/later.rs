//! Commands that the public contract names and this version does not have yet: they say so, instead of being unknown.

use super::outcome::{Exit, Failure};
use clap::Subcommand;
use std::ffi::OsString;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(hide = true)]
    Quarantine(Rest),
    #[command(hide = true)]
    Tap(Rest),
}

/// Whatever is written behind the command.
#[derive(Debug, clap::Args)]
pub(super) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<OsString>,
}

pub(super) fn execute(command: &Command) -> Result<(), Failure> {
    let name = match command {
        Command::Quarantine(_) => "quarantine",
        Command::Tap(_) => "tap",
    };
    Err(Failure::new(Exit::Usage, format_args!("`{name}` is not yet in this version")))
}
