//! `tap`: events as a running daemon stores them.

use super::outcome::{Exit, Failure, print};
use super::screen::Screen;
use super::table::Rolling;
use super::{Format, admin, events, pages, runtime};
use crate::admin::TapLine;
use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;
use std::ops::ControlFlow;

/// Watches events come, until it is ended. It holds nobody up: where it is too slow it is told how many came meanwhile.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    daemon: admin::Target,
    /// Only events whose type matches a glob, such as "sandbox.lifecycle.*". Samples, which are many, are shown for a
    /// glob that matches sandbox.metrics, and not without one.
    #[arg(long = "type", value_name = "GLOB")]
    kind: Option<String>,
    /// Only this source's.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only this sandbox's.
    #[arg(long, value_name = "ID")]
    sandbox: Option<String>,
    /// Ends after so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// How they are written; JSON is one record per line.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn execute(options: &Options, screen: Screen) -> Result<(), Failure> {
    let daemon = options.daemon.daemon()?;
    let Options { kind, source, sandbox, limit, format, .. } = options;
    let path = pages::path(
        "/api/tap",
        &[("type", kind.as_deref()), ("source", source.as_deref()), ("sandbox_id", sandbox.as_deref())],
    );
    let mut rows = None;
    let (mut shown, mut is_over) = (0, false);
    let told = daemon.get_lines(&path, |line: Option<TapLine<Box<RawValue>>>| {
        if *format == Format::Text && rows.is_none() {
            let (rolling, heading) = Rolling::new(screen, events::HEADING, events::WIDTHS);
            rows = Some(rolling);
            print(heading)?;
        }
        match line {
            None => {}
            Some(TapLine::Event(event)) => {
                match &mut rows {
                    Some(rows) => {
                        let event: Value = serde_json::from_str(event.get()).map_err(Failure::internal)?;
                        print(rows.row(events::cells(&event), events::tone(&event)))?;
                    }
                    None => print(format_args!("{}\n", event.get()))?,
                }
                shown += 1;
            }
            Some(TapLine::Skipped(skipped)) => tracing::warn!(skipped, "events came faster than they were taken here"),
            Some(TapLine::Ended(why)) => {
                tracing::warn!("there are no more: {why}");
                is_over = true;
            }
        }
        is_over |= limit.is_some_and(|limit| shown >= limit);
        Ok(if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    runtime()?.block_on(told)?;
    if is_over { Ok(()) } else { Err(Failure::new(Exit::Unavailable, "the daemon went away")) }
}
