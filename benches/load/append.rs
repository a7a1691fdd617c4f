//! The limit of the disk: bodies appended in groups, one fdatasync per group, nothing else.

use crate::client::Figures;
use crate::deliveries;
use std::io::Write as _;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value = "5s")]
    pub(crate) duration: humantime::Duration,
    /// Bodies per fdatasync.
    #[arg(long, default_value_t = 32)]
    pub(crate) group: usize,
}

/// The latency of a body is that of its group.
pub(crate) fn run(options: &Options) -> anyhow::Result<Figures> {
    let group: Vec<u8> =
        (0..options.group).flat_map(|number| deliveries::body(number, jiff::Timestamp::now()).into_bytes()).collect();
    // Beside the stores that are measured: in the same file system.
    let mut file = tempfile::tempfile()?;
    let mut figures = Figures::new()?;
    let started = Instant::now();
    while started.elapsed() < Duration::from(options.duration) {
        let at = Instant::now();
        file.write_all(&group)?;
        file.sync_data()?;
        figures.accepted += options.group as u64;
        figures.latency.record(u64::try_from(at.elapsed().as_micros())?)?;
    }
    figures.elapsed = started.elapsed();
    Ok(figures)
}
