//! Every subject in turn, over again, so that what else the machine does at the time falls on all of them alike.

use crate::append;
use crate::client::{self, Figures};
use crate::process;
use crate::subject::{self, Kind, Places};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: Places,
    #[arg(long, value_delimiter = ',', default_value = "1,64,256")]
    connections: Vec<usize>,
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "bare,relay-file,relay-kafka,relay-nats,relay-amqp,express-nats"
    )]
    subjects: Vec<Kind>,
    /// Of sending, per run.
    #[arg(long, default_value = "5s")]
    duration: humantime::Duration,
    /// Most deliveries per run; all are made before the first is sent.
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

/// What one run of one subject cost and brought.
struct Row {
    figures: Figures,
    /// Per second from the first delivery to the last confirmation.
    confirmed_per_second: f64,
    /// Seconds per 100,000 accepted: its own, the generator's, the broker's.
    cpu: [f64; 3],
    /// MiB.
    peak: f64,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut rows: BTreeMap<(usize, usize), Vec<Row>> = BTreeMap::new();
    let mut appended = Vec::new();
    for repeat in 1..=options.repeats {
        let append = append::Options { duration: options.duration, group: 32 };
        appended.push(append::run(&append)?);
        for &connections in &options.connections {
            for (place, &kind) in options.subjects.iter().enumerate() {
                eprintln!("repeat {repeat} of {}: {}, {connections} connections", options.repeats, kind.name());
                rows.entry((connections, place)).or_default().push(measure(kind, connections, options).await?);
            }
        }
    }
    print(options, &rows, &appended);
    Ok(())
}

async fn measure(kind: Kind, connections: usize, options: &Options) -> anyhow::Result<Row> {
    let subject = subject::start(kind, &options.places).await?;
    let broker = subject.broker.as_ref().map(|broker| broker.pid()).transpose()?;
    let pids = [Some(subject.process.pid), Some(std::process::id()), broker];
    let cpu = || pids.map(|pid| pid.map_or(Ok(0.0), process::cpu));
    let load = client::Options {
        url: subject.url.clone(),
        connections,
        events: options.events,
        duration: options.duration,
        rate: None,
        age: Duration::ZERO.into(),
    };
    let load = client::Load::prepare(&load)?;
    let (before, started) = (cpu(), Instant::now());
    let figures = load.send().await?;
    subject.settled(figures.accepted).await?;
    let (took, after) = (started.elapsed().as_secs_f64(), cpu());
    let mut spent = [0.0; 3];
    for (spent, (before, after)) in spent.iter_mut().zip(before.into_iter().zip(after)) {
        *spent = (after? - before?) * 100_000.0 / figures.accepted.max(1) as f64;
    }
    let peak = process::memory(subject.process.pid, "VmHWM")?;
    Ok(Row { confirmed_per_second: figures.accepted as f64 / took, cpu: spent, peak, figures })
}

fn print(options: &Options, rows: &BTreeMap<(usize, usize), Vec<Row>>, appended: &[Figures]) {
    println!(
        "Median of {} repeats of {}, interleaved. CPU in seconds per 100,000 accepted.\n",
        options.repeats, options.duration
    );
    println!(
        "| subject | connections | accepted/s | ratio to bare | confirmed/s | refused | p50 ms | p99 ms | p99.9 ms | CPU: own | generator | broker | peak RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (&(connections, place), runs) in rows {
        let Some(kind) = options.subjects.get(place) else { continue };
        let of = |value: &dyn Fn(&Row) -> f64| median(runs.iter().map(value));
        let bare = options.subjects.iter().position(|kind| *kind == Kind::Bare);
        // Of the same repeat, which had the same neighbours.
        let ratios = bare.and_then(|bare| rows.get(&(connections, bare))).map(|bare| {
            let pairs = runs.iter().zip(bare);
            median(pairs.map(|(own, bare)| own.figures.per_second() / bare.figures.per_second()))
        });
        println!(
            "| {} | {connections} | {:.0} | {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} |",
            kind.name(),
            of(&|row| row.figures.per_second()),
            ratios.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
            of(&|row| row.confirmed_per_second),
            of(&|row| row.figures.refused as f64),
            of(&|row| row.figures.milliseconds(0.5)),
            of(&|row| row.figures.milliseconds(0.99)),
            of(&|row| row.figures.milliseconds(0.999)),
            of(&|row| row.cpu[0]),
            of(&|row| row.cpu[1]),
            of(&|row| row.cpu[2]),
            of(&|row| row.peak),
        );
    }
    println!(
        "\nAppend and fdatasync in groups of 32: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms per group",
        median(appended.iter().map(Figures::per_second)),
        median(appended.iter().map(|figures| figures.milliseconds(0.5))),
        median(appended.iter().map(|figures| figures.milliseconds(0.99))),
        median(appended.iter().map(|figures| figures.milliseconds(0.999))),
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
