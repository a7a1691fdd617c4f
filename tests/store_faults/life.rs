//! One store through many lives: each ends by a power cut or a kill, planned or not, and the next finds what is left.

use super::ledger::{Ledger, NOON, SINK};
use super::sled_files;
use crate::support::fault_disk::{End, Plan, World};
use crate::support::stored::Store;
use bytesize::ByteSize;
use e2b_relay::executor::Executor;
use e2b_relay::health::Health;
use e2b_relay::metrics::Metrics;
use e2b_relay::store::{
    Cause, OnSled, OpenError, Parts, Progress, Record, Refused, Resolution, Settings, SinkStart, Start, Step, TAIL,
};
use fastrand::Rng;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Lives {
    pub world: World,
    pub ledger: Ledger,
    pub rng: Rng,
    /// From formats before this version's.
    pub steps: &'static [Step],
    path: PathBuf,
    copy: PathBuf,
    metrics: Metrics,
    /// Removed with this.
    _folder: tempfile::TempDir,
}

/// In memory where that is to be had: sled's files are real, and nothing here depends on their disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Lives {
    pub(crate) fn new(seed: u64, metrics: &Metrics) -> Self {
        let folder = folder();
        Self {
            world: World::new(folder.path(), seed),
            ledger: Ledger::default(),
            rng: Rng::with_seed(seed),
            steps: &[],
            path: folder.path().join("store"),
            copy: folder.path().join("copy"),
            metrics: metrics.clone(),
            _folder: folder,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn open(&mut self, plan: Option<Plan>) -> Result<Store, OpenError> {
        sled_files::copy(&self.path, &self.copy);
        self.ledger.not_there.clear();
        let now: jiff::Timestamp = NOON.parse().unwrap();
        let settings = Settings {
            path: self.path.clone(),
            // Segments of 1 MiB, the least.
            max_size: ByteSize::mib(6),
            max_samples_size: ByteSize::mib(2),
            min_free: Some(ByteSize::b(0)),
            ..Settings::default()
        };
        let parts = Parts {
            disk: self.world.disk(plan),
            kv: Arc::new(OnSled),
            executor: Executor::default(),
            tail: TAIL,
            clock: Arc::new(move || now),
            boot_clock: Arc::new(|| std::time::Duration::ZERO),
            metrics: self.metrics.clone(),
            max_in_flight: 10_000,
            health: Health::default(),
        };
        Store::open_migrating(settings, parts, self.steps)
    }

    /// One life with everything in it that writes, up to `steps` of them or the planned cut.
    pub(crate) async fn live(&mut self, plan: Option<Plan>, steps: usize) {
        let Ok(store) = self.open(plan) else {
            assert!(plan.is_some(), "the store does not come up");
            return;
        };
        self.work(&store, steps).await;
    }

    pub(crate) async fn work(&mut self, store: &Store, steps: usize) {
        if !self.attach(store).await {
            return;
        }
        for _ in 0..steps {
            self.step(store).await;
            if self.world.is_cut() {
                break;
            }
        }
    }

    async fn attach(&self, store: &Store) -> bool {
        // Now: a sink that the store forgot would begin behind what it has not got yet.
        let sink = SinkStart { name: SINK.to_owned(), renamed_from: None, start: Start::Now };
        store.attach(&[sink]).await.is_ok()
    }

    async fn step(&mut self, store: &Store) {
        match self.rng.u8(0..10) {
            0 | 1 => self.deliver(store),
            2 => self.park(store),
            3 => {
                if let Some(sequence) = self.ledger.resolve_one(&mut self.rng) {
                    let how = if self.rng.bool() { Resolution::Dropped } else { Resolution::Retried };
                    let _ = store.resolve(SINK, &[sequence], how);
                }
            }
            _ => {
                let count = self.rng.usize(1..30);
                let numbers = self.ledger.pick(&mut self.rng, count);
                self.ledger.offer(store, &numbers).await;
            }
        }
    }

    fn deliver(&mut self, store: &Store) {
        let Some(last) = self.ledger.read(store, &mut self.rng).pop() else { return };
        // Whether or not the store can note it: the peer has them.
        let position = last.stored.sequence;
        self.ledger.settled = self.ledger.settled.max(position);
        let Ok(ordinals) = store.ordinals_at(position) else { return };
        let _ = store.advance(SINK, Progress { position, ordinals, ..store.progress(SINK) });
    }

    fn park(&mut self, store: &Store) {
        let count = self.rng.usize(1..5);
        let letters: Vec<Record> = self.ledger.read(store, &mut self.rng).into_iter().take(count).collect();
        let cause = Cause { reason: "rejected".to_owned(), message: "no".to_owned() };
        let with_cause: Vec<_> = letters.iter().map(|record| (Arc::clone(&record.stored), cause.clone())).collect();
        if store.park(SINK, &with_cause).is_ok() {
            self.ledger.note_parked(&letters);
        }
    }

    pub(crate) fn either(&mut self) -> End {
        if self.rng.bool() { End::PowerCut } else { End::Kill }
    }

    /// What stands between two lives. The store is closed by now, or never came up.
    pub(crate) fn end(&mut self, how: End) {
        self.world.end(how);
        if how == End::PowerCut {
            sled_files::harm(&self.path, &self.copy, &mut self.rng);
            if !self.world.holds(&self.path) && self.path.exists() {
                std::fs::remove_dir_all(&self.path).unwrap();
            }
        }
    }

    /// The power comes back and nothing fails: the store comes up and holds what it promised.
    pub(crate) async fn check(&mut self, known: usize) {
        let store = self.open(None).unwrap_or_else(|error| panic!("the store does not come up: {error}"));
        assert!(self.attach(&store).await, "the sinks cannot be noted");
        self.ledger.check(&store);
        self.ledger.check_known(&store, &mut self.rng, known).await;
        // The provider sends again what had no answer.
        let last: Vec<u64> = (self.ledger.next.saturating_sub(60)..self.ledger.next).collect();
        self.ledger.offer(&store, &last).await;
        self.check_accepts(&store).await;
    }

    /// Once the disk works, events are accepted again without anybody's help.
    pub(crate) async fn check_accepts(&mut self, store: &Store) {
        let before = self.ledger.new;
        for _ in 0..20 {
            let fresh = self.ledger.next;
            self.ledger.next += 1;
            self.ledger.offer(store, &[fresh]).await;
            if self.ledger.new > before {
                return;
            }
            // Full is an answer too: then the sink has to move first.
            self.deliver(store);
            let mut refusing = store.refusing();
            let full = matches!(&*refusing.borrow(), Some(Refused::Full(text)) if text.contains("max_size"));
            if !full {
                let _ = tokio::time::timeout(Duration::from_secs(5), refusing.wait_for(Option::is_none)).await;
            }
        }
        panic!("nothing is accepted any more: {:?}", store.refusing().borrow());
    }
}
