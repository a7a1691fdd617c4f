//! `check`: whether the configuration is right, and with `--connect` whether the peers answer.

use super::outcome::{Exit, Failure, print, print_json};
use super::probe::{self, Answer, ApiAnswer};
use super::sources::Sources;
use super::{Format, runtime};
use crate::settings::{Problem, Problems};
use clap::Args;
use serde::Serialize;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    sources: Sources,
    /// Also ask every API and every sink for a sign of life, for at most 10 s.
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
    /// Only with `--connect`: the sources that have an API.
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<Vec<ApiAnswer>>,
    /// Only with `--connect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sinks: Option<Vec<Answer>>,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    let loaded = match options.sources.load()? {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(problems, options.format),
    };
    let (apis, sinks) = if options.connect {
        let runtime = runtime()?;
        let settings = &loaded.settings;
        let (apis, sinks) =
            runtime.block_on(futures_util::future::join(probe::probe_apis(settings), probe::probe(settings)));
        // A client may still be trying; nobody waits for it.
        runtime.shutdown_background();
        (Some(apis), Some(sinks))
    } else {
        (None, None)
    };
    let available =
        apis.iter().flatten().all(|answer| answer.available) && sinks.iter().flatten().all(|answer| answer.available);
    let (sources, sinks_given) = (loaded.settings.sources.len(), loaded.settings.sinks.len());
    let report = Report { valid: true, errors: Vec::new(), warnings: loaded.warnings, sources: apis, sinks };
    match options.format {
        Format::Json => print_json(&report)?,
        Format::Text => {
            print(format_args!("{report}valid: {} and {}\n", count(sources, "source"), count(sinks_given, "sink")))?;
        }
    }
    if available { Ok(()) } else { Err(Failure::new(Exit::Unavailable, "not every peer can be reached")) }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn verdict(available: bool) -> &'static str {
    if available { "available" } else { "unavailable" }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for ApiAnswer { source, available, answer } in self.sources.iter().flatten() {
            writeln!(f, "{source} (api): {}: {answer}", verdict(*available))?;
        }
        for Answer { sink, kind, available, answer } in self.sinks.iter().flatten() {
            writeln!(f, "{sink} ({kind}): {}: {answer}", verdict(*available))?;
        }
        Ok(())
    }
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
