//! Everything that `simulate --list-faults` lists, each alone against the real daemon: the relay's metrics tell of it, and
//! every event that the simulated provider ever told is in the file, once.

#[path = "faults/case.rs"]
mod case;
#[path = "faults/table.rs"]
mod table;

use case::Case;
use futures_util::{StreamExt, stream};
use std::collections::BTreeSet;
use std::time::Instant;
use table::{Row, TABLE};
use tokio::process::Command;

/// Daemons, each with its provider, side by side.
const SIDE_BY_SIDE: usize = 6;

/// Their names, as the command prints them.
async fn listed() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_e2b-relay")).args(["simulate", "--list-faults"]).output();
    let text = String::from_utf8(output.await.unwrap().stdout).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("--")?.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_that_is_listed_moves_a_metric_and_loses_and_doubles_nothing() {
    let known: BTreeSet<String> = TABLE.iter().map(|row| row.fault.to_owned()).collect();
    assert_eq!(known, listed().await, "the table and --list-faults");

    let quiet = Case::run(&Row::NOTHING).await;
    for row in TABLE.iter().filter(|row| row.only_then) {
        assert_eq!(quiet.moved(row), 0.0, "{} without {}", row.moves.0, row.fault);
    }
    let began = Instant::now();
    let lines: Vec<String> = stream::iter(TABLE).map(one).buffer_unordered(SIDE_BY_SIDE).collect().await;
    lines.iter().for_each(|line| println!("{line}"));
    println!("{} faults in {:?}", lines.len(), began.elapsed());
}

async fn one(row: &Row) -> String {
    let case = Case::run(row).await;
    assert!((row.struck)(&case), "{} did not strike: {}", row.fault, case.summary());
    let (family, label) = row.moves;
    format!("{} {}: {family}{{{label}}} {}; {}", row.fault, row.part, case.moved(row), case.summary())
}
