//! `config schema` and `config show`.

use super::Format;
use super::outcome::{Failure, print, print_json};
use super::sources::Sources;
use crate::settings;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The JSON Schema of the configuration.
    Schema,
    /// The configuration in effect: files, environment and defaults, with secrets masked.
    Show(Show),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    sources: Sources,
    /// How the result is written; text is YAML.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn execute(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Schema => print_json(&settings::schema()),
        Command::Show(show) => {
            let loaded = show.sources.read_and_warn()?;
            match show.format {
                Format::Text => print(settings::to_yaml(&loaded.shown).map_err(Failure::internal)?),
                Format::Json => print_json(&loaded.shown),
            }
        }
    }
}
