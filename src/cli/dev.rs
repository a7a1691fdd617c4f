//! `dev`: the whole in one process, without configuration and account.

use super::outcome::{Exit, Failure};
use clap::Args;
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How many events the simulated E2B makes per second.
    #[arg(long, default_value_t = 2.0, value_name = "N", value_parser = positive)]
    pub(super) events_per_second: f64,
    /// Ends by itself after this time, like 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) duration: Option<Duration>,
    /// The part of the deliveries that the simulated E2B loses, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "RATE", value_parser = rate)]
    pub(super) drop_deliveries: f64,
    /// A further sink besides standard output: nats://…, kafka://… or amqp://…
    #[arg(long, value_name = "URL")]
    pub(super) sink: Option<String>,
    /// Where deliveries are taken.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub(super) listen: SocketAddr,
    /// Where metrics and health are served.
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDRESS")]
    pub(super) admin_listen: SocketAddr,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    if let Some(address) = [options.listen, options.admin_listen].iter().find(|address| !address.ip().is_loopback()) {
        let message = format_args!("`dev` listens on loopback only, not on {address}");
        return Err(Failure::new(Exit::Usage, message));
    }
    start(options)
}

/// The one line between the command and the daemon.
fn start(_: &Options) -> Result<(), Failure> {
    Err(Failure::new(Exit::Usage, "`dev` is not yet in this version"))
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
