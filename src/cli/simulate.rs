//! `simulate`: the simulated E2B alone, for whatever would otherwise need an account.

use super::outcome::{Exit, Failure, print};
use super::{runtime, secret_file};
use crate::secret::Secret;
use crate::shutdown;
use crate::simulator::provider::{Options as Simulated, Provider};
use crate::simulator::{Dialect, Fault, Faults, Shape, SimulatorError};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use jiff::SignedDuration;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where the API is served; beyond the loopback only with a key. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// What X-API-Key must hold; without it any key will do.
    #[arg(long, value_name = "KEY", conflicts_with = "api_key_file")]
    api_key: Option<Secret>,
    /// A file with the key; one newline at its end does not count.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// How many events happen per second; 0 for none but those asked for at POST /simulator/events.
    #[arg(long, value_name = "N", default_value_t = 1.0, allow_negative_numbers = true)]
    events_per_second: f64,
    /// A receiver that is registered from the start, beside those that are registered by the API.
    #[arg(long, value_name = "URL")]
    deliver_to: Option<String>,
    /// What deliveries to --deliver-to are signed with.
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file", requires = "deliver_to")]
    secret: Option<Secret>,
    /// A file with that secret; one newline at its end does not count.
    #[arg(long, value_name = "FILE", requires = "deliver_to")]
    secret_file: Option<PathBuf>,
    /// How deliveries and the event list are spelled: v1 for camelCase, v2 for snake_case. Without it deliveries are v2
    /// and the list is in camelCase, as at the provider.
    #[arg(long, value_name = "SHAPE")]
    shape: Option<Shape>,
    /// Lists events as {"events": [...]} instead of as a bare array.
    #[arg(long)]
    wrap_events: bool,
    /// How deliveries are signed: e2b, e2b-hmac or hmac.
    #[arg(long, value_name = "DIALECT", default_value = "e2b")]
    dialect: Dialect,
    /// The same seed tells the same story.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Running sandboxes that are there from the start.
    #[arg(long, value_name = "N", default_value_t = 0)]
    sandboxes: usize,
    /// The most that a delayed delivery is late.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    delay_by: Duration,
    /// For how long a slow reply is held back.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    slow_by: Duration,
    /// The most that an event is listed late.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    late_by: Duration,
    /// How far a wrong clock is off, such as 90s or -1h.
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = offset, allow_hyphen_values = true)]
    wrong_clock_by: SignedDuration,
    #[command(flatten)]
    faults: FaultFlags,
    /// Prints the faults that there are, and ends.
    #[arg(long)]
    list_faults: bool,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    if options.list_faults {
        let lines = Fault::ALL.map(|fault| format!("--{:<19} {}\n", fault.name(), fault.does()));
        return print(format_args!("Each takes the part that it hits, 0 to 1.\n\n{}", lines.concat()));
    }
    let simulated = simulated(options)?;
    let runtime = runtime()?;
    let end = runtime.block_on(async {
        let provider = Provider::bind(simulated).await?;
        // The lines that a client's environment needs; the provider's SDKs read the first.
        print(format_args!("E2B_API_URL=http://{}\n", provider.address()))?;
        let (trigger, shutdown) = shutdown::channel();
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::internal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::internal)?;
        let told = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            trigger.fire();
        };
        let mut running = std::pin::pin!(provider.run(shutdown));
        let summary = tokio::select! {
            summary = &mut running => summary?,
            () = told => running.await?,
        };
        tracing::info!(?summary, "the simulated E2B has ended");
        Ok(())
    });
    runtime.shutdown_background();
    end
}

fn simulated(options: &Options) -> Result<Simulated, Failure> {
    let secret = given(options.secret.as_ref(), options.secret_file.as_deref())?;
    let deliver_to = match (&options.deliver_to, secret) {
        (None, _) => None,
        (Some(url), Some(secret)) => Some((url.clone(), secret)),
        (Some(_), None) => {
            return Err(Failure::new(Exit::Usage, "--deliver-to needs one of --secret and --secret-file"));
        }
    };
    Ok(Simulated {
        listen: options.listen,
        api_key: given(options.api_key.as_ref(), options.api_key_file.as_deref())?,
        events_per_second: options.events_per_second,
        deliver_to,
        shape: options.shape,
        wrap_events: options.wrap_events,
        dialect: options.dialect,
        seed: options.seed,
        faults: options.faults.0.clone(),
        delay_by: options.delay_by,
        slow_by: options.slow_by,
        late_by: options.late_by,
        wrong_clock_by: options.wrong_clock_by,
        sandboxes: options.sandboxes,
        ..Simulated::default()
    })
}

/// As an argument or as a file's text.
fn given(secret: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    file.map_or_else(|| Ok(secret.cloned()), |file| secret_file::read(file).map(Some))
}

/// One flag for each fault: `--drop-deliveries 0.3`.
#[derive(Debug, Clone, Default)]
struct FaultFlags(Faults);

impl FromArgMatches for FaultFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for fault in Fault::ALL {
            if let Some(part) = matches.get_one::<f64>(fault.name()) {
                let refuse = |problem| clap::Error::raw(clap::error::ErrorKind::ValueValidation, problem);
                self.0.set(fault, *part).map_err(|problem| refuse(format!("--{}: {problem}", fault.name())))?;
            }
        }
        Ok(())
    }
}

impl Args for FaultFlags {
    fn augment_args(command: Command) -> Command {
        Fault::ALL.into_iter().fold(command, |command, fault| {
            let flag = Arg::new(fault.name()).long(fault.name()).value_name("PART").help_heading("Faults");
            command
                .arg(flag.value_parser(clap::value_parser!(f64)).help(format!("Part, 0 to 1, of the {}", fault.does())))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn offset(text: &str) -> Result<SignedDuration, String> {
    let (sign, length) = text.strip_prefix('-').map_or((1, text), |length| (-1, length));
    let length = humantime::parse_duration(length).map_err(|error| error.to_string())?;
    let length = SignedDuration::try_from(length).map_err(|_| "too long".to_owned())?;
    Ok(length * sign)
}

impl From<SimulatorError> for Failure {
    fn from(error: SimulatorError) -> Self {
        let exit = match error {
            SimulatorError::DeliverTo(_) | SimulatorError::Option { .. } => Exit::Usage,
            SimulatorError::Listen { .. } => Exit::Io,
        };
        Self::new(exit, error)
    }
}
