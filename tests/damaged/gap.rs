//! The log has fewer records than a sink's position says that there were, and no damage proves where they are; and a sink
//! whose records do not add up.

use super::flipped::backfill;
use super::{Site, accounted, api, gaps, ids, sorted};
use crate::admin::{asking, run};
use crate::relay::sinks::until_caught_up;
use crate::simulate::Running;
use crate::support::daemon::{Daemon, Metrics};
use crate::support::stored::{self, Store};
use e2b_relay::simulator::provider::Options;
use e2b_relay::store::{Progress, Settings};
use serde_json::Value;

const EVENTS: usize = 40;

/// Of a stopped daemon: what its store has noted of the sink `audit` is changed.
fn rewrite(site: &Site, change: impl FnOnce(&mut Progress)) {
    let settings = Settings { path: site.home.path().join("data"), ..Settings::default() };
    let store = Store::open(settings, stored::parts()).unwrap();
    let mut progress = store.progress("audit");
    change(&mut progress);
    store.advance("audit", progress).unwrap();
    store.close();
}

async fn audit(site: &Site, daemon: &Daemon) -> Value {
    let shown = run(asking(&site.home, daemon, &["sinks", "list", "--format", "json"])).await.json();
    let sinks = shown["sinks"].as_array().unwrap();
    sinks.iter().find(|sink| sink["name"] == "audit").unwrap().clone()
}

/// With what `audit` has settled, all of it.
async fn begun(provider: &Running) -> Site {
    provider.happen(EVENTS, 1_800).await;
    let site = Site::new(&api(provider, false), "");
    let daemon = site.home.start().await;
    assert_eq!(backfill(&site.home, &daemon).await, (EVENTS as u64, 0));
    until_caught_up(&daemon, "audit").await;
    until_caught_up(&daemon, "copy").await;
    assert!(daemon.terminate().await.success());
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_halts_at_a_gap_that_nothing_explains_and_goes_on_for_good_once_that_is_accepted() {
    let provider = Running::start(Options::default()).await;
    let site = begun(&provider).await;
    // As if three more were to come before what comes next.
    rewrite(&site, |progress| {
        progress.ordinals.events -= 3;
        progress.delivered -= 3;
    });
    provider.happen(EVENTS, 60).await;
    let daemon = site.home.start().await;
    assert_eq!(backfill(&site.home, &daemon).await, (EVENTS as u64, EVENTS as u64));
    until_caught_up(&daemon, "copy").await;
    daemon.until("it halts", |metrics| metrics.sum("sink_up", "sink=\"audit\"") == 0.0).await;
    let halted = audit(&site, &daemon).await;
    assert_eq!((&halted["gap"]["log"], &halted["gap"]["events"]), (&"events".into(), &3.into()), "{halted}");
    assert_eq!(ids(&site.file("audit")).len(), EVENTS, "nothing behind it is sent");

    let resumed = run(asking(&site.home, &daemon, &["sinks", "resume", "--accept-gap", "audit"])).await;
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    // What was answered stays, whether or not anything was sent since.
    drop(daemon.kill().await);
    let daemon = site.home.start().await;
    until_caught_up(&daemon, "audit").await;
    assert_eq!(audit(&site, &daemon).await["gap"], Value::Null);
    daemon.until("the gap is told", |_| !gaps(&site.file("copy")).is_empty()).await;
    until_caught_up(&daemon, "audit").await;
    until_caught_up(&daemon, "copy").await;
    assert!(daemon.terminate().await.success());
    for sink in ["audit", "copy"] {
        let told = gaps(&site.file(sink));
        let reasons: Vec<&Value> = told.iter().map(|gap| &gap["event_data"]["reason"]).collect();
        assert_eq!(reasons, ["store_damaged"], "{sink}");
        let mut has = sorted(ids(&site.file(sink)));
        has.dedup();
        assert_eq!(has, sorted(provider.told()), "{sink}");
    }
    accounted(&site.home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_accounted_for_is_told_with_the_command_that_sends_it_again() {
    let provider = Running::start(Options::default()).await;
    let site = begun(&provider).await;
    rewrite(&site, |progress| {
        progress.delivered -= 2;
        progress.accounted_through = 7;
    });
    let daemon = site.home.start().await;
    let unaccounted = |metrics: &Metrics| metrics.sum("sink_unaccounted_events", "sink=\"audit\"") == 2.0;
    daemon.until("it is told", unaccounted).await;
    let shown = audit(&site, &daemon).await;
    assert_eq!(shown["unaccounted_events"], 2, "{shown}");
    assert_eq!(shown["unaccounted"]["since_sequence"], 7, "{shown}");
    let remedy = daemon.log().into_iter().find_map(|line| {
        let (_, command) = line.split_once("e2b-relay replay --sink audit ")?;
        Some(command.split('`').next().unwrap().trim().to_owned())
    });
    let remedy = remedy.expect("a line with the command");
    let arguments: Vec<&str> = ["replay", "--sink", "audit"].into_iter().chain(remedy.split(' ')).collect();
    let replayed = run(asking(&site.home, &daemon, &arguments)).await;
    assert_eq!(replayed.code, Some(0), "{arguments:?} {replayed:?}");
    assert!(daemon.terminate().await.success());
    let again = ids(&site.file("audit")).len() - EVENTS;
    assert!((EVENTS - 8..=EVENTS - 6).contains(&again), "{again} are sent again");
}
