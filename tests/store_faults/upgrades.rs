//! A store of an earlier format: wherever its migration is cut short, and whatever of it fails, nothing is lost, and the
//! next start takes it up again.

use super::corners::at_each_call;
use super::life::Lives;
use super::{Sum, runtime, times};
use crate::support::fault_disk::{End, Fault, Plan};
use crate::support::old_format;
use crate::support::seed::seed;
use e2b_relay::metrics::Metrics;
use e2b_relay::store::OpenError;
use std::time::Instant;

/// Lived with by this version, then made one of the old format.
async fn old(seed: u64, metrics: &Metrics) -> Lives {
    let mut lives = Lives::new(seed, metrics);
    // For a copy and for what is written anew.
    lives.world.set_free(64 << 20);
    lives.live(None, 25).await;
    lives.end(End::Kill);
    old_format::age(&*lives.world.disk(None), lives.path());
    lives.steps = old_format::STEPS;
    lives
}

#[test]
fn wherever_a_migration_is_cut_short_nothing_is_lost() {
    let (seed, metrics) = (seed(), Metrics::new("test", "test").unwrap());
    at_each_call(|at| {
        runtime().block_on(async {
            let mut lives = old(seed.wrapping_add(at), &metrics).await;
            let done = lives.open(Some(Plan { at, calls: 1, fault: Fault::Cut })).is_ok();
            // And what takes it up again is cut short, too.
            for _ in 0..2 {
                let how = lives.either();
                lives.end(how);
                let at = lives.rng.u64(0..=at);
                drop(lives.open(Some(Plan { at, calls: 1, fault: Fault::Cut })));
            }
            lives.end(End::PowerCut);
            lives.check(usize::MAX).await;
            // From here on it is like any other.
            lives.steps = &[];
            lives.end(End::PowerCut);
            lives.check(usize::MAX).await;
            done
        })
    });
}

#[test]
fn whatever_fails_in_a_migration_the_next_start_goes_on() {
    let (seed, began, metrics) = (seed(), Instant::now(), Metrics::new("test", "test").unwrap());
    let mut sum = Sum::default();
    let mut refused = 0;
    for round in 0..times(36) {
        runtime().block_on(async {
            let mut lives = old(seed.wrapping_add(round), &metrics).await;
            let fault = [Fault::Io, Fault::Full, Fault::LostSync][round as usize % 3];
            let plan = Plan { at: lives.rng.u64(0..120), calls: lives.rng.choice([1, 3, u64::MAX]).unwrap(), fault };
            refused += u32::from(lives.open(Some(plan)).is_err());
            let how = lives.either();
            lives.end(how);
            lives.check(usize::MAX).await;
            lives.end(End::PowerCut);
            lives.steps = &[];
            lives.check(usize::MAX).await;
            sum.add(&lives);
        });
    }
    sum.print("failed migrations", seed, began);
    assert!(refused > 5 && sum.acknowledged > 0, "the test does not do what it says");
}

#[test]
fn without_room_for_the_copy_nothing_is_begun() {
    let metrics = Metrics::new("test", "test").unwrap();
    runtime().block_on(async {
        let mut lives = old(seed(), &metrics).await;
        lives.world.set_free(100);
        let Err(OpenError::Room { wanted, free: 100, .. }) = lives.open(None) else { panic!("it opens") };
        assert!(wanted > 10_000, "{wanted}");
        assert!(!lives.path().join("before-format-1").exists());
        // It is what the earlier version knows still.
        lives.world.set_free(64 << 20);
        lives.check(usize::MAX).await;
    });
}
