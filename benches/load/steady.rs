//! A steady stream, well below what the relay can take: how long an answer takes then, and whether each sink keeps up.

use crate::append;
use crate::client;
use crate::process;
use crate::subject::{self, Kind, Places};
use std::time::Duration;

/// Of the bare handler's closed loop, before each subject.
const BARE: Duration = Duration::from_secs(3);
const CONNECTIONS: usize = 64;
/// How often the lag is asked for.
const ASK: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: Places,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "relay-file,relay-kafka,relay-nats,relay-amqp")]
    subjects: Vec<Kind>,
    /// Of what the bare handler takes.
    #[arg(long, default_value_t = 0.15)]
    share: f64,
    #[arg(long, default_value = "15s")]
    duration: humantime::Duration,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    println!(
        "Open loop at {} of the bare handler, {} each. CPU in seconds per 100,000.\n",
        options.share, options.duration
    );
    println!(
        "| subject | offered/s | accepted/s | refused | mean lag by quarter, events | p50 ms | p99 ms | append p99 ms | CPU: own | generator | broker |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for &kind in &options.subjects {
        eprintln!("steady: {}", kind.name());
        row(kind, options).await?;
    }
    Ok(())
}

async fn row(kind: Kind, options: &Options) -> anyhow::Result<()> {
    let append = append::run(&append::Options { duration: BARE.into(), group: 32 })?;
    let bare = subject::start(Kind::Bare, &options.places).await?;
    let load = client::Options { duration: BARE.into(), ..client::Options::few(&bare.url, 400_000) };
    let rate = client::Load::prepare(&load)?.send().await?.per_second() * options.share;
    drop(bare);

    let subject = subject::start(kind, &options.places).await?;
    let broker = subject.broker.as_ref().map(|broker| broker.pid()).transpose()?;
    let cpu =
        || [Some(subject.process.pid), Some(std::process::id()), broker].map(|pid| pid.map_or(Ok(0.0), process::cpu));
    let events = (rate * options.duration.as_secs_f64()) as usize;
    let load = client::Options {
        connections: CONNECTIONS,
        rate: Some(rate),
        duration: options.duration,
        ..client::Options::few(&subject.url, events)
    };
    let load = client::Load::prepare(&load)?;
    let before = cpu();
    let mut lags = Vec::new();
    let figures = {
        let mut sending = std::pin::pin!(load.send());
        let mut ask = tokio::time::interval(ASK);
        loop {
            tokio::select! {
                figures = &mut sending => break figures?,
                _ = ask.tick() => lags.push(subject.lag().await?),
            }
        }
    };
    subject.settled(figures.accepted).await?;
    let mut spent = [0.0; 3];
    for (spent, (before, after)) in spent.iter_mut().zip(before.into_iter().zip(cpu())) {
        *spent = (after? - before?) * 100_000.0 / figures.accepted.max(1) as f64;
    }
    let mean = |lags: &[u64]| lags.iter().sum::<u64>() / (lags.len() as u64).max(1);
    let quarters: Vec<String> = lags.chunks(lags.len().div_ceil(4)).map(|lags| mean(lags).to_string()).collect();
    println!(
        "| {} | {rate:.0} | {:.0} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
        kind.name(),
        figures.per_second(),
        figures.refused,
        quarters.join(", "),
        figures.milliseconds(0.5),
        figures.milliseconds(0.99),
        append.milliseconds(0.99),
        spent[0],
        spent[1],
        spent[2],
    );
    Ok(())
}
