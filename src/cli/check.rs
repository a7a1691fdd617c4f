//! `check`: whether the configuration is right, and with `--connect` whether the peers answer.

use super::Format;
use super::outcome::{Exit, Failure, print, print_json};
use super::sources::Sources;
use crate::settings::{Problem, Problems};
use clap::Args;
use serde::Serialize;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    sources: Sources,
    /// Also ask every sink for a sign of life, for at most 10 s each.
    #[arg(long)]
    connect: bool,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// The result.
#[derive(Debug, Default, Serialize)]
struct Report {
    valid: bool,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    match options.sources.load()? {
        Ok(loaded) => {
            let report = Report { valid: true, warnings: loaded.warnings.clone(), ..Report::default() };
            match options.format {
                Format::Json => print_json(&report),
                Format::Text => print(text(&report, &loaded.settings)),
            }
        }
        Err(problems) => refuse(problems, options.format),
    }
}

fn text(report: &Report, settings: &crate::settings::Settings) -> String {
    let warnings: String = report.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    format!("{warnings}valid: {} sources, {} sinks\n", settings.sources.len(), settings.sinks.len())
}

fn refuse(problems: Problems, format: Format) -> Result<(), Failure> {
    match format {
        Format::Text => Err(problems.into()),
        Format::Json => {
            print_json(&Report { errors: problems.0, ..Report::default() })?;
            Err(Failure::told(Exit::Config))
        }
    }
}
