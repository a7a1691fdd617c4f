//! A week of deliveries, many more than `store.max_size` has room for: what the store takes on disk and in memory, and that
//! it still adds up.

use crate::client;
use crate::process;
use crate::subject;
use anyhow::Context as _;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Days over which the events are spread, the oldest first; ids of all of them are remembered.
const DAYS: u64 = 8;
const DAY: Duration = Duration::from_secs(86_400);
/// One record in a thousand cannot be judged by this, and is a dead letter.
const FILTER: &str = "event_data.number % 1000 == 0 ? event_data.sandbox_metadata : true";
/// Deliveries that are made at a time; so often sizes are looked at.
const CHUNK: u64 = 100_000;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The relay's binary.
    #[arg(long, default_value = "target/release/e2b-relay")]
    relay: PathBuf,
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// `store.max_size`.
    #[arg(long, default_value = "1GiB")]
    max_size: String,
}

/// Bytes on disk, in MiB: what `max_size` bounds, and the index of ids.
#[derive(Clone, Copy, Default)]
struct Sizes {
    bounded: f64,
    seen: f64,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let sink = json!({"type": "file", "path": "./out.ndjson", "rotate_size": "256MiB", "keep": 1, "filter": FILTER});
    let store = json!({"max_size": options.max_size});
    let subject = subject::relay_with(&options.relay, &store, &json!({}), &json!({"out": sink}), None).await?;
    let home = subject.home.as_ref().context("its folder")?.path().to_owned();
    let (started, mut accepted, mut refused) = (Instant::now(), 0, 0);
    let (mut most, mut memory) = (Sizes::default(), 0_f64);
    println!("| accepted | refused | journal, ids, dead letters, MiB | index of ids, MiB | memory, MiB |");
    println!("|---|---|---|---|---|");
    let mut shown = 0;
    while accepted < options.events {
        let age = DAY * u32::try_from(DAYS - 1 - accepted * DAYS / options.events)?;
        let chunk = usize::try_from(CHUNK.min(options.events - accepted))?;
        let chunk = client::Options { age: age.into(), ..client::Options::few(&subject.url, chunk) };
        let figures = client::Load::prepare(&chunk)?.send().await?;
        (accepted, refused) = (accepted + figures.accepted, refused + figures.refused);
        let sizes = sizes(&home)?;
        let resident = process::memory(subject.process.pid, "VmRSS")?;
        memory = memory.max(resident);
        most = Sizes { bounded: most.bounded.max(sizes.bounded), seen: most.seen.max(sizes.seen) };
        if accepted * 10 / options.events > shown {
            shown = accepted * 10 / options.events;
            println!("| {accepted} | {refused} | {:.0} | {:.0} | {resident:.0} |", sizes.bounded, sizes.seen);
        }
    }
    while subject.lag().await? > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = started.elapsed().as_secs();
    println!("| at most | | {:.0} | {:.0} | {memory:.0} |", most.bounded, most.seen);
    println!("\n{accepted} accepted in {seconds} s.");
    subject.process.terminate().await?;
    let relay = Command::new(options.relay.canonicalize()?);
    verify(relay, &home).await
}

/// What the stopped daemon says of its store.
async fn verify(mut relay: Command, home: &Path) -> anyhow::Result<()> {
    let output = relay.args(["store", "verify"]).current_dir(home).output().await?;
    println!("\n`store verify` ended with {}:\n\n{}", output.status, String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn sizes(home: &Path) -> anyhow::Result<Sizes> {
    let mib = |folder: &str| -> anyhow::Result<f64> {
        let path = home.join("data").join(folder);
        Ok(if path.exists() { process::size(&path)? as f64 / f64::from(1 << 20) } else { 0.0 })
    };
    Ok(Sizes { bounded: mib("journal")? + mib("dead-letters")?, seen: mib("seen")? })
}
