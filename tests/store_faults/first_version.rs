//! Stores as version 0.1.0 left them, with a backlog, dead letters, samples, a removed and a renamed sink: wherever their
//! upgrade is cut short, nothing is lost, and every position is exact.

use super::corners::at_each_call;
use crate::support::fault_disk::{End, Fault, Plan, World};
use crate::support::seed::seed;
use crate::support::stored::{self, Store};
use crate::upgrade::kept;
use bytesize::ByteSize;
use e2b_relay::store::{Open, OpenError, Parts, Progress, Settings};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of a store is on the simulated disk. The rest is sled's, and the file `format`.
const FOLDERS: [&str; 4] = ["journal", "samples", "dead-letters", "quarantine"];

struct Kept {
    world: World,
    path: PathBuf,
    at: jiff::Timestamp,
    sinks: Vec<String>,
    expected: Value,
    /// Removed with this.
    _folder: tempfile::TempDir,
}

/// What is in a store.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    events: Vec<(u64, String)>,
    positions: BTreeMap<String, (Progress, Vec<u64>)>,
    removed: Vec<String>,
}

impl Kept {
    fn lay(name: &str, seed: u64) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = folder.path().join("store");
        let stores = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stores");
        let expected = kept::lay(&stores.join(format!("{name}.tar.gz")), &path).expect("what is in it");
        let world = World::new(folder.path(), seed);
        world.set_free(64 << 20);
        let disk = world.disk(None);
        for folder in FOLDERS.map(|folder| path.join(folder)) {
            disk.create_dir_all(&folder).unwrap();
            for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                let file = disk.open(&entry.path(), Open::New).unwrap();
                file.write_all_at(&std::fs::read(entry.path()).unwrap(), 0).unwrap();
                file.sync_data().unwrap();
            }
            disk.sync_dir(&folder).unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
        }
        disk.sync_dir(&path).unwrap();
        disk.sync_dir(folder.path()).unwrap();
        let at = expected["at"].as_str().unwrap().parse().unwrap();
        let sinks = expected["sinks"].as_array().unwrap();
        let sinks = sinks.iter().map(|sink| sink["name"].as_str().unwrap().to_owned()).collect();
        Self { world, path, at, sinks, expected, _folder: folder }
    }

    fn open(&self, plan: Option<Plan>) -> Result<Store, OpenError> {
        let settings = Settings { path: self.path.clone(), min_free: Some(ByteSize::b(0)), ..Settings::default() };
        let at = self.at;
        Store::open(settings, Parts { disk: self.world.disk(plan), clock: Arc::new(move || at), ..stored::parts() })
    }

    fn found(&self) -> Found {
        let store = self.open(None).unwrap_or_else(|error| panic!("the store does not come up: {error}"));
        let events = stored::events_after(&store, 0);
        let positions = self.sinks.iter().map(|sink| {
            let letters = store.dead_letters(sink).into_iter().map(|(sequence, _)| {
                let letter = store.dead_letter_event(sink, sequence).unwrap();
                letter.expect("its event").sequence
            });
            (sink.clone(), (store.progress(sink), letters.collect()))
        });
        Found {
            events: events.into_iter().map(|stored| (stored.sequence, stored.event.id)).collect(),
            positions: positions.collect(),
            removed: store.registry.removed().into_iter().map(|sink| sink.name).collect(),
        }
    }

    /// Nothing less, and nothing else, than the version that wrote it said.
    fn assert_as_expected(&self, found: &Found) {
        let expected = self.expected["events"].as_array().unwrap().iter();
        let expected: Vec<_> =
            expected.map(|event| (event[0].as_u64().unwrap(), event[1].as_str().unwrap().to_owned())).collect();
        assert_eq!(found.events, expected);
        assert!(!found.removed.is_empty());
        for sink in self.expected["sinks"].as_array().unwrap() {
            let (progress, letters) = &found.positions[sink["name"].as_str().unwrap()];
            assert_eq!(progress.position, sink["progress"]["position"].as_u64().unwrap(), "{sink}");
            assert_eq!(letters.len(), sink["letters"].as_array().unwrap().len(), "{sink}");
        }
    }
}

fn cut_at_each_call(name: &str) {
    let seed = seed();
    let whole = {
        let kept = Kept::lay(name, seed);
        let found = kept.found();
        kept.assert_as_expected(&found);
        found
    };
    at_each_call(|at| {
        let kept = Kept::lay(name, seed.wrapping_add(at));
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(at));
        let done = kept.open(Some(Plan { at, calls: 1, fault: Fault::Cut })).is_ok() && !kept.world.is_cut();
        kept.world.end(if rng.bool() { End::PowerCut } else { End::Kill });
        // And what takes it up again is cut short, too.
        drop(kept.open(Some(Plan { at: rng.u64(0..=at), calls: 1, fault: Fault::Cut })));
        kept.world.end(End::PowerCut);
        assert_eq!(kept.found(), whole, "cut at {at}");
        kept.world.end(End::PowerCut);
        assert_eq!(kept.found(), whole, "cut at {at}, and once more");
        done
    });
}

#[test]
fn an_upgrade_from_0_1_0_that_was_killed_under_load_may_be_cut_at_each_call() {
    cut_at_each_call("0.1.0-unclean");
}

#[test]
fn an_upgrade_from_0_1_0_that_had_ended_may_be_cut_at_each_call() {
    cut_at_each_call("0.1.0-clean");
}
