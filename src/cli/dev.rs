//! `dev`: a simulated E2B, the relay and a sink in one process, without configuration and account.

mod plan;
mod progress;
mod wide;

use super::outcome::{Exit, Failure, program};
use super::run::until_told;
use super::runtime;
use super::signals::Signals;
use crate::app::Daemon;
use crate::http::Inherited;
use crate::secret::Secret;
use crate::settings::{self, Environment, Loaded};
use crate::simulator::Fault;
use crate::simulator::provider::{Options as Simulated, Provider};
use clap::Args;
use plan::{Plan, WEBHOOK_PATH};
use progress::Progress;
use std::fmt::Display;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wide::Cut;

/// Events that the simulated E2B can tell of at `/simulator/ledger`; it counts all.
const LEDGER: usize = 10_000;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How many events the simulated E2B makes per second.
    #[arg(long, default_value_t = 2.0, value_name = "N", value_parser = positive)]
    events_per_second: f64,
    /// Ends by itself after this time, like 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// The part of the events that the simulated E2B does not deliver, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "RATE", value_parser = rate)]
    drop_deliveries: f64,
    /// Where records go instead of standard output: nats://…, kafka://… or amqp://…
    #[arg(long, value_name = "URL", value_parser = secret)]
    sink: Option<Secret>,
    /// Where deliveries are taken; a free port without it.
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    listen: Option<SocketAddr>,
    /// Where the status page, metrics and health are served; a free port without it.
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    admin_listen: Option<SocketAddr>,
}

pub(super) fn execute(options: &Options, signals: Signals) -> Result<(), Failure> {
    let plan = Plan::new(options.sink.as_ref(), &mut fastrand::Rng::new())
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let folder = Folder::new().map_err(|error| Failure::new(Exit::Io, format_args!("temporary folder: {error}")))?;
    let runtime = runtime()?;
    let end = runtime.block_on(run(options, signals, &plan, &folder.0));
    runtime.shutdown_background();
    tell(format_args!("{}\n", end?.last()))?;
    tell(format_args!("Next, a configuration of your own: {} init --sink file, or kafka, nats, amqp\n", program()))
}

async fn run(options: &Options, signals: Signals, plan: &Plan, folder: &Path) -> Result<Progress, Failure> {
    // Each must know the other's address: the provider listens, then the relay, then the provider is told of it.
    let provider = Provider::bind(simulated(options)).await?;
    provider.faults().set(Fault::DropDeliveries, options.drop_deliveries).map_err(Failure::internal)?;
    let mut loaded = load(&plan.configuration(&folder.join("data"), provider.address()), folder)?;
    let settings = &mut loaded.settings;
    settings.server.listen = options.listen.unwrap_or(settings.server.listen);
    settings.admin.listen = options.admin_listen.unwrap_or(settings.admin.listen);
    let daemon = Daemon::start(loaded, Inherited::default()).await?;
    provider.deliver_to(&format!("http://{}{WEBHOOK_PATH}", daemon.public_address()), plan.secret())?;
    announce(&daemon, &provider, options.sink.is_some())?;
    let progress = Progress::new(daemon.metrics(), provider.ledger(), daemon.admin_address());
    let _cut = Cut::begin();
    let over = provider.over();
    until_told(daemon, signals, async |shutdown| {
        tokio::select! {
            ended = provider.run(shutdown) => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the simulated E2B has ended");
                }
            }
            () = progress.tell_until_repaired(over) => {}
        }
    })
    .await?;
    Ok(progress)
}

fn simulated(options: &Options) -> Simulated {
    Simulated {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        events_per_second: options.events_per_second,
        duration: options.duration,
        seed: fastrand::u64(..),
        ledger_capacity: LEDGER,
        ..Simulated::default()
    }
}

/// The plan's configuration by the same road as any other; its file, which holds a secret, is gone afterwards. The
/// environment has no say: `dev` shows the same wherever it is started.
fn load(configuration: &str, folder: &Path) -> Result<Loaded, Failure> {
    let file = folder.join("dev.yaml");
    let failed = |error: io::Error| Failure::new(Exit::Io, format_args!("{}: {error}", file.display()));
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).map_err(failed)?;
    opened.write_all(configuration.as_bytes()).map_err(failed)?;
    let loaded = settings::load(std::slice::from_ref(&file), &Environment::default());
    std::fs::remove_file(&file).map_err(failed)?;
    Ok(loaded?)
}

/// The addresses first; what is going on and what one can do come after them, short enough for 80 columns: on a terminal
/// the rest of a long line is not seen.
fn announce(daemon: &Daemon, provider: &Provider, to_a_broker: bool) -> Result<(), Failure> {
    let (admin, public, api) = (daemon.admin_address(), daemon.public_address(), provider.address());
    let records = if to_a_broker { "go to the sink" } else { "follow, one to a line" };
    let program = program();
    tell(format_args!(
        "status:     http://{admin}/\n\
         metrics:    http://{admin}/metrics\n\
         health:     http://{admin}/readyz\n\
         deliveries: http://{public}{WEBHOOK_PATH}\n\
         E2B's API:  http://{api} (simulated; any key)\n\
         A simulated E2B starts, changes, pauses, resumes, checkpoints and kills\n\
         sandboxes, and delivers a signed event for each. What it does not deliver is\n\
         fetched from its API. The relay's records {records}.\n\
         \n\
         What to do next:\n\
         - open http://{admin}/ in a browser\n\
         - ask the relay, in a second shell:\n\
         \x20   {program} sandboxes --admin http://{admin}\n\
         - Ctrl-C ends it. See it repair what is not delivered:\n\
         \x20   {program} dev --drop-deliveries 0.3\n\
         - or send the records to a broker of yours, nats://, amqp:// or kafka://:\n\
         \x20   {program} dev --sink nats://127.0.0.1:4222\n\
         - then write a configuration of your own:\n\
         \x20   {program} init --sink file\n\
         \n"
    ))
}

/// On standard error: standard output may be piped on, and holds records only.
fn tell(text: impl Display) -> Result<(), Failure> {
    write!(io::stderr(), "{text}").map_err(|error| Failure::new(Exit::Io, format_args!("standard error: {error}")))
}

/// A folder for one run, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let name = format!("e2b-relay-dev-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        // Fails if it is there already: nobody else's folder is used.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a temporary folder is left behind");
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 100_000.0 => Ok(number),
        _ => Err("not a number above 0 and up to 100000".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("not a number from 0 to 1".to_owned()),
    }
}

/// The simulated account is nobody else's business.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "not an address such as 127.0.0.1:8080".to_owned())?;
    if address.ip().is_loopback() { Ok(address) } else { Err("not an address of the loopback".to_owned()) }
}

/// Clap shows values that it refuses, so nothing is refused here.
#[allow(clippy::unnecessary_wraps, reason = "clap asks for a Result")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}
