//! One bit of a group is another: what was in it is forgotten where a sink still lacks it, so that the next sweep brings it.

use super::{Site, api, ids, sorted};
use crate::admin::{asking, run};
use crate::relay::sinks::until_caught_up;
use crate::simulate::Running;
use crate::support::daemon::{Daemon, Home};
use crate::support::journal;
use e2b_relay::simulator::provider::Options;
use serde_json::Value;
use std::collections::BTreeSet;

const EVENTS: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Drained,
    /// Once more after the damage was found, before anything is fetched.
    DrainedTwice,
    Killed,
}

/// What is new and what is known of the last hour's list.
pub(super) async fn backfill(home: &Home, daemon: &Daemon) -> (u64, u64) {
    let ran = run(asking(home, daemon, &["backfill", "--since", "1h", "--format", "json"])).await.json();
    let count = |name: &str| ran[name].as_u64().unwrap();
    assert_eq!(count("found"), count("new") + count("known"), "{ran}");
    (count("new"), count("known"))
}

/// Flips a bit in the group that is in the middle of those that hold any of these; the ids that are gone.
pub(super) fn damage(home: &Home, told: &[String]) -> BTreeSet<String> {
    let mut groups = journal::groups(home);
    groups.retain(|group| !group.holds(told).is_empty());
    let group = &groups[groups.len() / 2];
    group.flip();
    let lost = group.holds(told);
    println!("{} of {} events are damaged", lost.len(), told.len());
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sink_still_lacks_comes_by_one_sweep_to_it_and_twice_to_no_other() {
    for end in [End::Drained, End::DrainedTwice, End::Killed] {
        let provider = Running::start(Options::default()).await;
        provider.happen(EVENTS, 1_800).await;
        let told = provider.told();
        let site = Site::new(&api(&provider, false), "");
        let daemon = site.home.start().await;
        assert_eq!(backfill(&site.home, &daemon).await, (EVENTS as u64, 0));
        until_caught_up(&daemon, "audit").await;
        until_caught_up(&daemon, "copy").await;
        match end {
            End::Killed => drop(daemon.kill().await),
            End::Drained | End::DrainedTwice => assert!(daemon.terminate().await.success()),
        }

        let lost = damage(&site.home, &told).len() as u64;
        let mut daemon = site.home.start().await;
        assert!(daemon.metrics().await.sum("store_damaged_total", "") >= 1.0);
        if end == End::DrainedTwice {
            assert!(daemon.terminate().await.success());
            daemon = site.home.start().await;
        }
        assert_eq!(backfill(&site.home, &daemon).await, (lost, EVENTS as u64 - lost), "{end:?}: new and known");
        let bus = site.bus(&daemon).await;
        assert_eq!(sorted(ids(&bus)), sorted(told.clone()), "{end:?}: the sink that was away");
        for sink in ["audit", "copy"] {
            until_caught_up(&daemon, sink).await;
            let has: BTreeSet<String> = ids(&site.file(sink)).into_iter().collect();
            assert_eq!(has, told.iter().cloned().collect(), "{end:?}: {sink}");
        }
        // By a kill a position may be behind what was sent.
        if end != End::Killed {
            site.assert_once(&told);
            let metrics = daemon.metrics().await;
            for sink in ["audit", "copy"] {
                let label = format!("reason=\"already_sent\",sink=\"{sink}\"");
                assert_eq!(metrics.sum("sink_filtered_total", &label), lost as f64, "{sink}");
            }
            assert_eq!(metrics.sum("sink_filtered_total", "sink=\"bus\""), 0.0);
        }
        assert_eq!(backfill(&site.home, &daemon).await, (0, EVENTS as u64), "known from now on");
        assert!(daemon.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_sink_had_stays_known() {
    let provider = Running::start(Options::default()).await;
    provider.happen(EVENTS, 1_800).await;
    let told = provider.told();
    let site = Site::new(&api(&provider, false), "");
    let daemon = site.home.start().await;
    backfill(&site.home, &daemon).await;
    let bus: Vec<Value> = site.bus(&daemon).await;
    assert_eq!(bus.len(), EVENTS);
    until_caught_up(&daemon, "audit").await;
    until_caught_up(&daemon, "copy").await;
    assert!(daemon.terminate().await.success());
    damage(&site.home, &told);
    let daemon = site.home.start().await;
    assert_eq!(backfill(&site.home, &daemon).await, (0, EVENTS as u64));
    assert_eq!(daemon.metrics().await.sum("gaps_total", ""), 0.0, "nothing is lost");
    assert!(daemon.terminate().await.success());
    site.assert_once(&told);
}
