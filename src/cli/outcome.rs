//! How a command ends: sysexits' codes, and results on standard output.

use crate::logging;
use crate::settings::Problems;
use serde::Serialize;
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Exit codes, as in `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The command line asks for what there is not.
    Usage = 64,
    /// A peer does not answer.
    Unavailable = 69,
    /// A fault of the program.
    Internal = 70,
    /// Reading or writing failed.
    Io = 74,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// For people; empty if everything has been said.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// A fault of the program.
    pub fn internal(message: impl Display) -> Self {
        Self::new(Exit::Internal, format_args!("internal error: {message}"))
    }

    /// The result has told what is wrong; only the exit code is left.
    pub fn told(exit: Exit) -> Self {
        Self { exit, message: String::new() }
    }

    /// Writes the message to standard error, behind the log's lines.
    pub fn report(&self) {
        if !self.message.is_empty() {
            logging::print(&format!("e2b-relay: {}\n", self.message));
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let count = problems.0.len();
        let faults = if count == 1 { "fault" } else { "faults" };
        Self::new(Exit::Config, format_args!("{count} {faults} in the configuration\n{problems}"))
    }
}

/// What one types to start this program once more: its path if that was typed, as `cargo run` does, else its name.
pub(super) fn program() -> String {
    let plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
    std::env::args().next().filter(plain).unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned())
}

/// Writes a result for people.
pub(super) fn print(text: impl Display) -> Result<(), Failure> {
    print_bytes(text.to_string().as_bytes())
}

/// Writes a result as it is.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        // `… | head` has what it wanted; it need not be told.
        ErrorKind::BrokenPipe => Failure::told(Exit::Io),
        _ => Failure::new(Exit::Io, format_args!("standard output: {error}")),
    })
}

/// Writes a result for programs, as indented JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::internal)?;
    print(format_args!("{text}\n"))
}
