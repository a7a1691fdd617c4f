//! What is no throughput: how soon an empty store is ready, and what memory idling and remembering take.

use crate::client;
use crate::process;
use crate::subject;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Within the dedupe window, and neither today nor yesterday: a day whose index is opened when it is asked for.
const OLD: Duration = Duration::from_secs(3 * 86_400);

/// By then an index that was not asked for is closed.
const CLOSED_AFTER: Duration = Duration::from_secs(15);

/// Deliveries that are made at a time, so that the generator needs no gigabyte.
const CHUNK: usize = 100_000;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The relay's binary.
    #[arg(long, default_value = "target/release/e2b-relay")]
    relay: PathBuf,
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Ids of one day to remember.
    #[arg(long, default_value_t = 1_000_000)]
    ids: usize,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let sink = json!({"type": "file", "path": "./out.ndjson"});
    for _ in 0..options.repeats {
        let started = Instant::now();
        let subject = subject::relay(&options.relay, &sink, None).await?;
        // It says where it listens once it takes deliveries; that it does is proven by one.
        let load = client::Options::few(&subject.url, 1);
        let load = client::Load::prepare(&load)?;
        let ready = started.elapsed();
        load.send().await?;
        // Whatever it does after its start is done by then: its slowest timer has one second.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let idle = process::memory(subject.process.pid, "VmRSS")?;
        println!("ready after {} ms; {idle:.1} MiB of memory when idle", ready.as_millis());
    }
    if options.ids == 0 {
        return Ok(());
    }
    let subject = subject::relay(&options.relay, &sink, None).await?;
    let before = process::memory(subject.process.pid, "VmRSS")?;
    let mut accepted = 0;
    while accepted < options.ids as u64 {
        let chunk = CHUNK.min(options.ids - accepted as usize);
        let chunk = client::Options { age: OLD.into(), ..client::Options::few(&subject.url, chunk) };
        let figures = client::Load::prepare(&chunk)?.send().await?;
        accepted += figures.accepted;
    }
    subject.settled(accepted).await?;
    let after = process::memory(subject.process.pid, "VmRSS")?;
    let peak = process::memory(subject.process.pid, "VmHWM")?;
    let on_disk = subject.home.as_ref().map_or(Ok(0), |home| process::size(&home.path().join("data/seen")))?;
    println!(
        "{accepted} ids of a day remembered: {before:.1} MiB before, {after:.1} MiB after, {peak:.1} MiB at most; {} bytes per id on disk",
        on_disk / accepted.max(1)
    );
    old_day(&subject).await
}

/// What the opening of a day that nobody has asked for lately does to deliveries of today.
async fn old_day(subject: &subject::Subject) -> anyhow::Result<()> {
    tokio::time::sleep(CLOSED_AFTER).await;
    let today = client::Options { rate: Some(1_000.0), ..client::Options::few(&subject.url, 5_000) };
    let quiet = client::Load::prepare(&today)?.send().await?;
    let late = client::Options { age: OLD.into(), ..client::Options::few(&subject.url, 1) };
    let (today, late) = (client::Load::prepare(&today)?, client::Load::prepare(&late)?);
    let late = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        late.send().await
    };
    let (today, late) = tokio::try_join!(today.send(), late)?;
    println!("1,000 deliveries of today per second: {}", quiet.line());
    println!("the same while that day is opened for one more: {}", today.line());
    println!("and that one: {:.2} ms", late.milliseconds(1.0));
    Ok(())
}
