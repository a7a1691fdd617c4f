//! `store verify`: reads a stopped daemon's whole store and proves it sound.

use super::Format;
use super::outcome::{Exit, Failure, print, print_json};
use super::screen::Screen;
use super::sources::Sources;
use crate::store::{self, Proof, Sum};
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read the whole store and prove it sound; nothing in it is changed.
    Verify(Options),
}

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    sources: Sources,
    /// The store's folder, instead of the configuration's `store.path`.
    #[arg(long, value_name = "FOLDER", conflicts_with = "files")]
    path: Option<PathBuf>,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

pub(super) fn execute(command: &Command, screen: Screen) -> Result<(), Failure> {
    let Command::Verify(options) = command;
    let path = match &options.path {
        Some(path) => path.clone(),
        None => options.sources.read_and_warn()?.settings.store.path,
    };
    let mut progress = screen.progress("store verify");
    let proof = store::verify(&path, |done, whole| {
        let [done_size, size] = [done, whole].map(|bytes| ByteSize::b(bytes).display().iec_short());
        progress.show(Some((done, whole)), format_args!("{done_size} of {size}"));
    });
    drop(progress);
    let proof = proof.map_err(|error| Failure::new(Exit::Io, error))?;
    match options.format {
        Format::Text => print(Text(&proof))?,
        Format::Json => print_json(&proof)?,
    }
    if proof.sound { Ok(()) } else { Err(Failure::new(Exit::Io, format_args!("{} is not sound", path.display()))) }
}

struct Text<'a>(&'a Proof);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Proof { instance, sound, segments, kept, accepted, sinks, faults } = self.0;
        for fault in faults {
            writeln!(f, "fault: {fault}")?;
        }
        for sum in sinks {
            let Sum { sink, removed, accepted, delivered, filtered, dead_lettered, dropped_by_hand, damaged, pending } =
                sum;
            let removed = if *removed { " (taken out)" } else { "" };
            let damaged = if *damaged > 0 { format!(" + {damaged} damaged") } else { String::new() };
            writeln!(
                f,
                "{sink}{removed}: {accepted} accepted = {delivered} delivered + {filtered} filtered + {dead_lettered} dead-lettered + {dropped_by_hand} dropped by hand{damaged} + {pending} pending"
            )?;
        }
        let verdict = if *sound { "sound" } else { "not sound" };
        writeln!(f, "{verdict}: store {instance}, {accepted} events accepted, {kept} kept in {segments} segments")
    }
}
