//! Where the configuration is: `--config`, or the usual places.

use super::outcome::{Exit, Failure};
use crate::settings::{self, Environment, Loaded, Problems};
use clap::Args;
use std::path::{Path, PathBuf};

/// Where a configuration is looked for when none is named.
const USUAL: [&str; 2] = ["e2b-relay.yaml", "/etc/e2b-relay/e2b-relay.yaml"];

/// The files of the configuration.
#[derive(Debug, Args)]
pub(super) struct Sources {
    /// A configuration file, YAML or TOML by its ending; several are merged in order. Without it ./e2b-relay.yaml, then
    /// /etc/e2b-relay/e2b-relay.yaml.
    #[arg(long = "config", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Sources {
    /// The files to read.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, Failure> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let usual = USUAL.iter().map(Path::new).find(|file| file.exists());
        let missing = || {
            let places = USUAL.join(" nor ");
            Failure::new(
                Exit::Config,
                format_args!(
                    "no configuration: there is neither {places}; write one with `e2b-relay init --sink file`, or name it with --config"
                ),
            )
        };
        usual.map(|file| vec![file.to_owned()]).ok_or_else(missing)
    }

    /// Reads and checks as the daemon does, without a word about warnings.
    pub(super) fn load(&self) -> Result<Result<Loaded, Problems>, Failure> {
        Ok(settings::load(&self.files()?, &Environment::of_process()))
    }

    /// The same without the files that only the daemon needs.
    pub(super) fn read(&self) -> Result<Result<Loaded, Problems>, Failure> {
        Ok(settings::read(&self.files()?, &Environment::of_process()))
    }

    /// Reads and checks likewise; warnings go to the log.
    pub(super) fn read_and_warn(&self) -> Result<Loaded, Failure> {
        let loaded = self.read()??;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(loaded)
    }
}
