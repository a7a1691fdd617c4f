//! The command line: what can be asked, one file per subcommand, and what the exit code says.

mod admin;
mod backfill;
mod check;
mod completions;
mod config;
mod dead_letters;
mod dev;
mod events;
mod health;
mod init;
mod outcome;
mod pages;
mod probe;
mod quarantine;
mod replay;
mod run;
mod sandboxes;
mod screen;
mod secret_file;
mod signals;
mod simulate;
mod sinks;
mod source_list;
mod sources;
mod store;
mod table;
mod tap;
mod test;
mod trigger;
mod webhooks;

pub use outcome::{Exit, Failure};
pub use signals::Signals;

use crate::logging::{self, Style};
use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use screen::Screen;
use std::ffi::OsString;
use std::process::ExitCode;
use tracing::level_filters::LevelFilter;

/// Takes E2B's signed webhook deliveries, keeps them in a durable deduped log, and relays them to Kafka, NATS, AMQP and
/// files.
#[derive(Debug, Parser)]
#[command(name = "e2b-relay", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    diagnostics: Diagnostics,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Diagnostics {
    /// How much is said on standard error: off, error, warn, info, debug or trace.
    #[arg(long, global = true, env = "E2B_RELAY_LOG", default_value = "info", value_name = "LEVEL")]
    log_level: LevelFilter,
    /// How it is said.
    #[arg(long, global = true, env = "E2B_RELAY_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: Format,
    /// Whether tables have colours: auto is on a terminal, unless the variable NO_COLOR is set.
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    color: ColorChoice,
}

/// How a result, or diagnostics, are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive and relay until told to stop.
    Run(run::Options),
    /// Everything in one process: a simulated E2B, the relay, and records on standard output.
    Dev(dev::Options),
    /// Write a working configuration with a fresh secret.
    Init(init::Options),
    /// Check the configuration, and with --connect the way to every sink.
    Check(check::Options),
    /// Show what the configuration can say, or what it says.
    #[command(subcommand)]
    Config(config::Command),
    /// Show for one event which sinks take it, where it goes, and as which bytes.
    Test(test::Options),
    /// A simulated E2B: events, webhooks, sandboxes and metrics, signed deliveries, and faults.
    Simulate(simulate::Options),
    /// Send one signed delivery, as the provider would.
    Trigger(trigger::Options),
    /// What is registered at the provider, and the relay's own webhook there.
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Have a running daemon fetch from the events API what the deliveries missed, now.
    Backfill(backfill::Options),
    /// Have a running daemon send events of the past to one sink once more.
    Replay(replay::Options),
    /// Records that a sink never took: look at them, retry them, drop them.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Deliveries that were well signed and yet no events: look at the copies, drop them.
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Whether a running daemon is alive, by the exit code: 0, or 69.
    Health(health::Options),
    /// How a running daemon's sinks are doing.
    #[command(subcommand)]
    Sinks(sinks::Command),
    /// What a running daemon's sources are to do, and how they are doing.
    Sources(source_list::Options),
    /// The sandboxes that live, as a running daemon knows them.
    Sandboxes(sandboxes::Options),
    /// The events that a running daemon still has, or how many there are.
    Events(events::Options),
    /// Watch events as a running daemon stores them.
    Tap(tap::Options),
    /// Look into the store of a daemon that is stopped.
    #[command(subcommand)]
    Store(store::Command),
    /// What a shell completes: source what this prints, or put it where the shell looks.
    Completions(completions::Options),
}

/// Reads the command line.
///
/// # Errors
/// With the exit code to end with; help, the version or the fault have then been printed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(arguments).map_err(|error| {
        let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        match error.print() {
            Ok(()) => exit.into(),
            Err(_) => Exit::Io.into(),
        }
    })
}

impl Cli {
    /// Has signals heard from now on, if a daemon is asked for; to be called before anything that takes time.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn listen(&self) -> Result<Option<Signals>, Failure> {
        let is_daemon = matches!(self.command, Command::Run(_) | Command::Dev(_));
        is_daemon.then(Signals::listen).transpose().map_err(Failure::internal)
    }

    /// Sends diagnostics where the command line says.
    ///
    /// # Errors
    /// If that was done before.
    pub fn announce(&self) -> Result<(), Failure> {
        let style = match self.diagnostics.log_format {
            Format::Text => Style::Text,
            Format::Json => Style::Json,
        };
        logging::init(self.diagnostics.log_level, style).map_err(Failure::internal)
    }

    /// Does what was asked; `signals` are those that [`Self::listen`] gave.
    ///
    /// # Errors
    /// With what went wrong and the exit code for it.
    pub fn execute(self, signals: Option<Signals>) -> Result<(), Failure> {
        let signals = || signals.map_or_else(Signals::listen, Ok).map_err(Failure::internal);
        let screen = Screen::new(self.diagnostics.color);
        match self.command {
            Command::Run(options) => run::execute(&options, signals()?),
            Command::Dev(options) => dev::execute(&options, signals()?),
            Command::Init(options) => init::execute(&options),
            Command::Check(options) => check::execute(&options),
            Command::Config(command) => config::execute(&command),
            Command::Test(options) => test::execute(&options),
            Command::Simulate(options) => simulate::execute(&options),
            Command::Trigger(options) => trigger::execute(&options),
            Command::Webhooks(command) => webhooks::execute(&command),
            Command::Backfill(options) => backfill::execute(&options, screen),
            Command::Replay(options) => replay::execute(&options, screen),
            Command::DeadLetters(command) => dead_letters::execute(&command, screen),
            Command::Health(options) => health::execute(&options),
            Command::Sinks(command) => sinks::execute(&command, screen),
            Command::Sources(options) => source_list::execute(&options, screen),
            Command::Sandboxes(options) => sandboxes::execute(&options, screen),
            Command::Events(options) => events::execute(&options, screen),
            Command::Store(command) => store::execute(&command, screen),
            Command::Quarantine(command) => quarantine::execute(&command, screen),
            Command::Tap(options) => tap::execute(&options, screen),
            Command::Completions(options) => completions::execute(&options),
        }
    }
}

/// The runtime for commands that speak to peers.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
