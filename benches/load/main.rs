//! The load generator, what it is pointed at, and the table of both. `benches/README.md` has the commands.
//!
//! ```text
//! table ─► subject: starts a bare handler, an Express one or the relay, each in a process of its own
//!        └► client: prepared deliveries over keep-alive connections, closed or open loop ─► histogram
//! ```

// Results are for stdout and progress for stderr; this is no part of the daemon.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod append;
mod bare;
mod brokers;
mod client;
mod deliveries;
mod down;
mod fill;
mod marks;
mod process;
mod scrapes;
mod steady;
mod subject;
mod table;

use clap::{Parser, Subcommand};

/// What every subject checks signatures with.
const SECRET: &str = "a secret for benches, 32 bytes long";

#[derive(Parser)]
#[command(about = "Load for a receiver of signed deliveries, and what to compare it with")]
struct Options {
    #[command(subcommand)]
    what: What,
    /// `cargo bench` adds it.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Sends to a receiver that runs already, and prints what came of it.
    Send(client::Options),
    /// The whole table: every subject in turn, repeated.
    Table(table::Options),
    /// The marks that are no throughput: time to readiness, idle memory, memory of remembered ids.
    Marks(marks::Options),
    /// A part of what the bare handler takes, on a schedule: latency, and whether the sinks keep up.
    Steady(steady::Options),
    /// Latency with every sink up and with every sink down, in turn.
    Down(down::Options),
    /// Latency with somebody reading `/metrics` and without, in turn.
    Scrapes(scrapes::Options),
    /// Many more events than the store has room for: what it takes on disk and in memory.
    Fill(fill::Options),
    /// A handler that only checks the signature.
    Bare,
    /// Groups of 32 bodies appended to a file, with an fdatasync after each.
    Append(append::Options),
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let What::Bare = options.what {
        // As the relay has it: as many threads as cores.
        return tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bare::serve());
    }
    // One thread: the generator shares the cores with what it measures, and needs less of them this way.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match options.what {
            What::Send(options) => println!("{}", client::send(&options).await?.line()),
            What::Table(options) => table::run(&options).await?,
            What::Marks(options) => marks::run(&options).await?,
            What::Steady(options) => steady::run(&options).await?,
            What::Down(options) => down::run(&options).await?,
            What::Scrapes(options) => scrapes::run(&options).await?,
            What::Fill(options) => fill::run(&options).await?,
            What::Append(options) => println!("{}", append::run(&options)?.line()),
            What::Bare => {}
        }
        Ok(())
    })
}
