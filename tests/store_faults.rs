//! The store on a disk that loses, tears and refuses: what was acknowledged is there afterwards.
//!
//! `E2B_RELAY_SEED` replays a run, as far as the threads' order lets it; `E2B_RELAY_SOAK` makes it long.

mod away;
mod corners;
mod damage;
mod first_version;
mod ledger;
mod letters;
mod life;
mod sled_files;
mod upgrades;
mod voided;

use crate::support::fault_disk::{End, Fault, Plan};
use crate::support::seed::{seed, soak};
use e2b_relay::metrics::Metrics;
use life::Lives;
use std::time::Instant;

fn times(usual: u64) -> u64 {
    if soak() { usual * 20 } else { usual }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// What a test went through, for the table in the notes.
#[derive(Default)]
struct Sum {
    cuts: u64,
    kills: u64,
    torn: u64,
    failed: u64,
    acknowledged: usize,
    duplicates: u64,
    refused: u64,
    twice: u64,
}

impl Sum {
    fn add(&mut self, lives: &Lives) {
        let tally = lives.world.tally();
        self.cuts += tally.cuts;
        self.kills += tally.kills;
        self.torn += tally.torn;
        self.failed += tally.failed;
        self.acknowledged += lives.ledger.acknowledged();
        self.duplicates += lives.ledger.duplicates;
        self.refused += lives.ledger.refused;
        self.twice += lives.ledger.twice;
    }

    fn print(&self, name: &str, seed: u64, began: Instant) {
        println!(
            "{name}: seed {seed}: {} power cuts, {} kills, {} torn writes, {} failed calls; {} acknowledged, 0 lost, \
             {} answered as duplicates, {} refused, {} kept twice; {:.1} s",
            self.cuts,
            self.kills,
            self.torn,
            self.failed,
            self.acknowledged,
            self.duplicates,
            self.refused,
            self.twice,
            began.elapsed().as_secs_f64()
        );
    }
}

/// Rounds of several lives, each cut short at a random call: while it recovers, while it works, while it closes.
#[test]
fn at_any_cut_nothing_acknowledged_is_lost() {
    let (seed, began) = (seed(), Instant::now());
    let metrics = Metrics::new("test", "test").unwrap();
    let mut sum = Sum::default();
    for round in 0..times(100) {
        let mut lives = Lives::new(seed.wrapping_add(round), &metrics);
        runtime().block_on(async {
            for _ in 0..8 {
                let most = if lives.rng.u8(0..3) == 0 { 40 } else { 400 };
                let plan = Plan {
                    at: lives.rng.u64(0..most),
                    calls: 1,
                    fault: lives.rng.choice([Fault::Cut, Fault::CutInWrite]).unwrap(),
                };
                lives.live(Some(plan), 40).await;
                let how = if lives.world.is_cut() { End::PowerCut } else { lives.either() };
                lives.end(how);
                lives.check(100).await;
                // Cut behind the check too, where nothing was in flight but the janitor's work.
                let how = lives.either();
                lives.end(how);
            }
            lives.check(usize::MAX).await;
        });
        sum.add(&lives);
    }
    sum.print("cuts", seed, began);
    assert!(sum.torn > 0 && sum.acknowledged > 0, "the test does not do what it says");
}

/// Every call of a life in turn fails, once or for a while; then the disk works again, and then the power is cut.
#[test]
fn whichever_call_fails_it_is_refused_and_then_accepted_again() {
    let (seed, began) = (seed(), Instant::now());
    let metrics = Metrics::new("test", "test").unwrap();
    let mut sum = Sum::default();
    for round in 0..times(300) {
        let mut lives = Lives::new(seed.wrapping_add(round), &metrics);
        runtime().block_on(async {
            lives.live(None, 10).await;
            lives.end(End::Kill);
            let fault = if round % 2 == 0 { Fault::Io } else { Fault::Full };
            let plan = Plan { at: round / 2, calls: lives.rng.choice([1, 1, 2, 5, 20, u64::MAX]).unwrap(), fault };
            if let Ok(store) = lives.open(Some(plan)) {
                lives.work(&store, 30).await;
                // Or the disk stays as it is until somebody kills the daemon.
                if lives.rng.u8(0..3) > 0 {
                    lives.world.heal();
                    lives.check_accepts(&store).await;
                }
            }
            let how = lives.either();
            lives.end(how);
            lives.check(usize::MAX).await;
            lives.end(End::PowerCut);
            lives.check(usize::MAX).await;
        });
        sum.add(&lives);
    }
    sum.print("failed calls", seed, began);
    assert!(sum.failed > 0 && sum.refused > 0, "the test does not do what it says");
}

/// After a failed sync the page cache shows what the disk has not got. A daemon that is killed then finds it there, and
/// must not take it for durable.
#[test]
fn what_only_the_page_cache_has_after_a_failed_sync_is_not_relied_on() {
    let (seed, began) = (seed(), Instant::now());
    let metrics = Metrics::new("test", "test").unwrap();
    let mut sum = Sum::default();
    for round in 0..times(100) {
        let mut lives = Lives::new(seed.wrapping_add(round), &metrics);
        runtime().block_on(async {
            lives.live(None, 10).await;
            lives.end(End::Kill);
            lives.live(Some(Plan { at: round, calls: 1, fault: Fault::LostSync }), 30).await;
            lives.end(End::Kill);
            lives.check(usize::MAX).await;
            lives.end(End::PowerCut);
            lives.check(usize::MAX).await;
        });
        sum.add(&lives);
    }
    sum.print("lost syncs", seed, began);
}
