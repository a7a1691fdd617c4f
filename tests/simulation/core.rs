//! The core through its lives: what is there beyond each of them, and one life of it.

use super::broker::Broker;
use super::crew::Turns;
use super::databases::Databases;
use super::ledger::{Ledger, Letters};
use super::marks::Sometimes;
use super::polling::Polling;
use super::provider::Provider;
use crate::support::fault_disk::{End, Plan, World};
use bytesize::ByteSize;
use e2b_relay::deliver::{self, About, Delivery};
use e2b_relay::executor::Executor;
use e2b_relay::health::Health;
use e2b_relay::metrics::Metrics;
use e2b_relay::route::{self, Addressing, Router};
use e2b_relay::shutdown::{self, Shutdown, Trigger};
use e2b_relay::sink::Order;
use e2b_relay::store::{self, AttachError, Disk, Handles, Limits, OpenError, Parts, Settings, SinkStart, Start};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub(super) const NOON: &str = "2026-03-10T12:00:00Z";
const MAX_IN_FLIGHT: usize = 50;
/// The broker with transactions.
const BATCHED: usize = 2;
/// Bytes of a segment before its first record may come: header and notes. Where those of the only segment are gone, so are
/// the sinks.
const BEHIND_THE_NOTES: usize = 1_500;

/// A sink as the settings have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) renamed_from: Option<String>,
    /// To which broker it sends.
    pub(super) broker: usize,
}

/// What the medium of a seed loses, while no daemon has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rots {
    Nothing,
    Journal,
    Ids,
    Positions,
    Letters,
    Indexes,
}

const ROTS: [Rots; 8] = [
    Rots::Nothing,
    Rots::Nothing,
    Rots::Journal,
    Rots::Journal,
    Rots::Ids,
    Rots::Positions,
    Rots::Letters,
    Rots::Indexes,
];

/// What outlives a daemon.
pub(super) struct Core {
    pub(super) turns: Turns,
    pub(super) world: World,
    pub(super) databases: Databases,
    pub(super) path: PathBuf,
    /// What is kept in memory: little, so that sinks come and go between it and the disk.
    tail: Limits,
    /// The last daemon came to its own end, and what it knew is on disk.
    pub(super) has_peace: Cell<bool>,
    pub(super) rots: Rots,
    pub(super) has_rotted: Cell<bool>,
    /// Nothing is ever removed to make room.
    pub(super) is_roomy: bool,
    pub(super) brokers: Vec<Broker>,
    pub(super) provider: Provider,
    /// By broker: what its operator gave up.
    pub(super) given_up: RefCell<BTreeMap<usize, BTreeMap<u64, String>>>,
    /// Brokers whose sink was forgotten: it has to begin anew.
    pub(super) forgotten: RefCell<BTreeSet<usize>>,
    /// Brokers whose sink was taken out or forgotten at any time: of what was damaged meanwhile, it wanted nothing.
    pub(super) away: RefCell<BTreeSet<usize>>,
    /// The same was asked for, and perhaps done.
    pub(super) forgetting: RefCell<BTreeSet<usize>>,
    /// By broker: by what the store knows its sink.
    keys: RefCell<BTreeMap<usize, String>>,
    pub(super) ledger: RefCell<Ledger>,
    /// The settings' sinks.
    pub(super) wanted: RefCell<Vec<Wanted>>,
    /// Of those that were taken out.
    pub(super) removed: RefCell<Vec<Wanted>>,
    /// Both as they were, while it is not known whether what they are now can be loaded.
    pub(super) before: RefCell<Option<(Vec<Wanted>, Vec<Wanted>)>>,
    pub(super) sometimes: Sometimes,
    /// Seconds by which the wall clock is wrong.
    pub(super) skew: Arc<AtomicI64>,
    pub(super) metrics: Metrics,
    pub(super) _folder: tempfile::TempDir,
}

impl Core {
    pub(super) fn new(seed: u64, metrics: &Metrics, sometimes: &Sometimes) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let turns = Turns::new(seed);
        let orders = [Order::Pipelined, Order::OnePerSandbox, Order::Batched];
        let brokers: Vec<Broker> = orders.into_iter().map(Broker::new).collect();
        let wanted = |broker| Wanted { name: format!("sink-{broker}"), renamed_from: None, broker };
        let rots = turns.draw(|rng| rng.choice(ROTS).unwrap());
        let world = World::new(folder.path(), seed);
        Self {
            databases: Databases::on(&world, seed),
            world,
            provider: Provider::new(turns.draw(fastrand::Rng::fork), true_time(&turns)),
            path: folder.path().join("store"),
            tail: turns.draw(|rng| Limits { events: rng.usize(5..300), bytes: rng.usize(10_000..400_000) }),
            has_peace: Cell::default(),
            has_rotted: Cell::default(),
            is_roomy: turns.draw(|rng| rng.bool()),
            wanted: RefCell::new((0..brokers.len()).map(wanted).collect()),
            removed: RefCell::default(),
            before: RefCell::default(),
            given_up: RefCell::default(),
            forgotten: RefCell::default(),
            away: RefCell::default(),
            forgetting: RefCell::default(),
            keys: RefCell::default(),
            brokers,
            ledger: RefCell::new(Ledger::new(rots == Rots::Journal)),
            rots,
            turns,
            sometimes: sometimes.clone(),
            skew: Arc::default(),
            metrics: metrics.clone(),
            _folder: folder,
        }
    }

    pub(super) fn clock(&self) -> store::Clock {
        let (now, skew) = (true_time(&self.turns), Arc::clone(&self.skew));
        Arc::new(move || now() + jiff::SignedDuration::from_secs(skew.load(Ordering::Relaxed)))
    }

    pub(super) fn executor(&self) -> Executor {
        Executor::scheduled(self.turns.crew.clone())
    }

    /// Nothing goes wrong but what is planned.
    pub(super) fn open(&self, plan: Option<Plan>) -> Result<Handles, OpenError> {
        self.open_on(self.world.disk(plan))
    }

    /// Beside a daemon that runs.
    pub(super) fn open_a_second(&self) -> Result<Handles, OpenError> {
        self.open_on(self.world.disk_beside())
    }

    fn open_on(&self, disk: Arc<dyn Disk>) -> Result<Handles, OpenError> {
        let began = tokio::time::Instant::now() - self.turns.elapsed();
        let size = if self.is_roomy { ByteSize::mib(64) } else { ByteSize::mib(6) };
        let settings = Settings {
            path: self.path.clone(),
            max_size: size,
            max_samples_size: ByteSize::mib(if self.is_roomy { 64 } else { 2 }),
            min_free: Some(ByteSize::b(0)),
            ..Settings::default()
        };
        let parts = Parts {
            disk,
            kv: self.databases.of_this_life(),
            executor: self.executor(),
            tail: self.tail,
            clock: self.clock(),
            boot_clock: Arc::new(move || began.elapsed()),
            metrics: self.metrics.clone(),
            max_in_flight: 10_000,
            health: Health::default(),
        };
        store::open(settings, parts)
    }

    /// While nobody runs the medium may lose something.
    pub(super) fn rot(&self) {
        match self.rots {
            Rots::Nothing => {}
            Rots::Indexes => {
                if self.turns.draw(|rng| rng.u8(0..3)) == 0 && self.databases.spoil(&self.path.join("seen")) {
                    self.turns.note("rotten: an index");
                    self.sometimes.happened("a damaged index");
                }
            }
            Rots::Journal => self.rot_the_journal(),
            Rots::Ids => self.rot_some(".ids", "journal", "damaged ids"),
            Rots::Positions => self.rot_some("", "positions", "damaged positions"),
            Rots::Letters => self.rot_some("letters.log", "dead-letters", "damaged dead letters"),
        }
    }

    /// What is there more than once, so that nothing is lost with it; and dead letters, which are counted then.
    fn rot_some(&self, ending: &str, folder: &str, mark: &str) {
        let folder = self.path.join(folder);
        let is_it = |path: &Path| path.parent() == Some(&folder) && path.to_string_lossy().ends_with(ending);
        if self.turns.draw(|rng| rng.u8(0..3)) == 0
            && let Some(what) = self.world.rot(0, is_it, |_| false)
        {
            self.turns.note(format!("rotten: {what}"));
            self.sometimes.happened(mark);
        }
    }

    /// Behind an end in peace: else the indexes may have lost the ids of the last records, and nothing knows any more who had
    /// what.
    fn rot_the_journal(&self) {
        if !self.has_peace.get() || self.turns.draw(|rng| rng.u8(0..4)) == 0 {
            return;
        }
        let journal = self.path.join("journal");
        let is_segment = |path: &Path| path.starts_with(&journal) && path.extension().is_some_and(|seg| seg == "seg");
        // Not what says who the sinks are: there is one copy of it.
        let is_note = |bytes: &[u8]| bytes.windows(5).any(|text| text == b"sink-");
        // Once: what was accepted anew and is lost again tells nobody what it stood for.
        if self.has_rotted.get() {
            return;
        }
        if let Some(what) = self.world.rot(BEHIND_THE_NOTES, is_segment, is_note) {
            self.turns.note(format!("rotten: {what}"));
            self.has_rotted.set(true);
            self.sometimes.happened("a damaged journal");
        }
    }

    /// Ends whatever runs, as a kill or a power cut does.
    pub(super) fn end(&self, how: End) {
        self.world.end(how);
        self.databases.end();
        self.turns.kill();
        for broker in &self.brokers {
            self.turns.draw(|rng| broker.end(rng));
        }
    }

    /// The settings are again what they were.
    pub(super) fn take_back(&self) {
        if let Some((wanted, removed)) = self.before.take() {
            (*self.wanted.borrow_mut(), *self.removed.borrow_mut()) = (wanted, removed);
        }
    }

    pub(super) fn starts(wanted: &[Wanted]) -> Vec<SinkStart> {
        let start = |sink: &Wanted| SinkStart {
            name: sink.name.clone(),
            renamed_from: sink.renamed_from.clone(),
            start: Start::Earliest,
        };
        wanted.iter().map(start).collect()
    }
}

fn true_time(turns: &Turns) -> Box<dyn Fn() -> jiff::Timestamp + Send + Sync> {
    let noon: jiff::Timestamp = NOON.parse().unwrap();
    let began = tokio::time::Instant::now() - turns.elapsed();
    Box::new(move || noon + jiff::SignedDuration::try_from(began.elapsed()).unwrap())
}

/// One delivery of a life.
pub(super) struct Live {
    pub(super) wanted: Wanted,
    pub(super) handle: deliver::Handle,
    replaced: Trigger,
    done: Rc<Cell<bool>>,
}

impl Live {
    /// It keeps its position at its broker.
    pub(super) fn is_batched(&self) -> bool {
        self.wanted.broker == BATCHED
    }
}

/// A daemon that runs.
pub(super) struct Life {
    pub(super) core: Rc<Core>,
    pub(super) store: Handles,
    pub(super) live: RefCell<BTreeMap<String, Live>>,
    ends: RefCell<Option<Trigger>>,
    delivering: Shutdown,
    pub(super) polling: RefCell<Option<Polling>>,
    /// Settings are being loaded.
    pub(super) loading: Cell<bool>,
    /// It has come up.
    pub(super) up: Cell<bool>,
    /// It could not come up.
    pub(super) failed: Cell<bool>,
}

impl Life {
    pub(super) fn new(core: &Rc<Core>, store: Handles) -> Rc<Self> {
        let (ends, delivering) = shutdown::channel();
        Rc::new(Self {
            core: Rc::clone(core),
            store,
            live: RefCell::default(),
            ends: RefCell::new(Some(ends)),
            delivering,
            polling: RefCell::default(),
            loading: Cell::new(false),
            up: Cell::new(false),
            failed: Cell::new(false),
        })
    }

    pub(super) async fn come_up(self: Rc<Self>) {
        let mut wanted = self.core.wanted.borrow().clone();
        let mut attached = self.store.registry.attach(&Core::starts(&wanted)).await;
        if let Err(AttachError::Rename(why)) = &attached {
            // As the last life would have said, had it not been killed.
            self.core.turns.note(format!("refused: {why:?}"));
            self.core.take_back();
            wanted = self.core.wanted.borrow().clone();
            attached = self.store.registry.attach(&Core::starts(&wanted)).await;
        }
        if let Err(error) = attached {
            self.core.turns.note(format!("the sinks cannot be attached: {error}"));
            self.failed.set(true);
            return;
        }
        self.core.before.take();
        self.follow_names();
        wanted.iter().for_each(|sink| self.begin(sink));
        let polling = Polling::begin(&self.core, &self.store, &self.delivering).await;
        *self.polling.borrow_mut() = Some(polling);
        self.up.set(true);
    }

    fn begin(&self, wanted: &Wanted) {
        let (core, store) = (&self.core, &self.store);
        let broker = &core.brokers[wanted.broker];
        let claim = store.registry.claim(&wanted.name);
        let position = claim.progress().position;
        let key = claim.key().to_owned();
        let before = core.keys.borrow_mut().insert(wanted.broker, key.clone());
        let is_new = before.is_some_and(|before| before != key);
        let asked = core.forgetting.borrow_mut().remove(&wanted.broker);
        let forgotten = core.forgotten.borrow_mut().remove(&wanted.broker);
        assert!(is_new || !forgotten, "{} was forgotten, and goes on", wanted.name);
        assert!(!is_new || asked, "{} is another sink than before, and nobody asked for that", wanted.name);
        if is_new {
            assert!(position == 0 || !core.is_roomy, "{} is new, and begins behind {position}", wanted.name);
            // With all that it had.
            core.given_up.borrow_mut().remove(&wanted.broker);
        }
        let repeats = broker.begins_behind(position, is_new);
        if repeats > 0 {
            core.sometimes.happened("a sink that begins behind what its broker has");
        }
        core.turns.note(format!("{} begins behind {position}", wanted.name));
        let delivery = Delivery::new(deliver::Parts {
            name: wanted.name.clone(),
            about: About::default(),
            renamed_from: wanted.renamed_from.clone(),
            log: store.log.clone(),
            claim,
            sink: broker.client(core.turns.draw(fastrand::Rng::fork)),
            router: Arc::new(Router::new(&route::Settings::default(), Addressing::lines()).unwrap()),
            redaction: e2b_relay::decode::Redaction::default(),
            dead_letter_to: None,
            max_in_flight: MAX_IN_FLIGHT,
            metrics: core.metrics.clone(),
            random: core.turns.draw(fastrand::Rng::fork),
            executor: core.executor(),
            clock: core.clock(),
        });
        let handle = delivery.handle();
        let (replaced, is_replaced) = shutdown::channel();
        let run = delivery.run(self.delivering.clone(), is_replaced);
        let done = core.turns.spawn(&wanted.name, run);
        let live = Live { wanted: wanted.clone(), handle, replaced, done };
        self.live.borrow_mut().insert(wanted.name.clone(), live);
    }

    /// The settings' sinks are these now, as after a SIGHUP. Where they are refused those before go on.
    pub(super) async fn load(&self, wanted: Vec<Wanted>) -> Result<(), AttachError> {
        let starts = Core::starts(&wanted);
        let moved = self.store.registry.moved(&starts);
        let stays = |name: &str, live: &Live| {
            !moved.iter().any(|moved| moved == name)
                && wanted.iter().any(|sink| sink.name == name && sink.broker == live.wanted.broker)
        };
        let gone: Vec<String> =
            self.live.borrow().iter().filter(|(name, live)| !stays(name, live)).map(|(name, _)| name.clone()).collect();
        for name in &gone {
            self.live.borrow()[name].replaced.fire();
        }
        while gone.iter().any(|name| !self.live.borrow()[name].done.get()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let before: Vec<Wanted> = {
            let mut live = self.live.borrow_mut();
            gone.iter().filter_map(|name| live.remove(name)).map(|live| live.wanted).collect()
        };
        let attached = self.store.registry.attach(&starts).await;
        if attached.is_ok() {
            self.follow_names();
        }
        let begin = if attached.is_ok() { &wanted } else { &before };
        for sink in begin {
            if !self.live.borrow().contains_key(&sink.name) {
                self.begin(sink);
            }
        }
        attached
    }

    /// What was taken out goes by another name once another sink has its own.
    fn follow_names(&self) {
        let wanted = self.core.wanted.borrow();
        let mut removed = self.core.removed.borrow_mut();
        for at in 0..removed.len() {
            let name = removed[at].name.clone();
            if wanted.iter().any(|sink| sink.name == name) {
                let is_its =
                    |new: &String| new.starts_with(&format!("{name}_")) && removed.iter().all(|sink| sink.name != *new);
                let new = self.store.registry.removed().into_iter().map(|sink| sink.name).rfind(is_its);
                let forgotten = self.core.forgetting.borrow().contains(&removed[at].broker);
                assert!(new.is_some() || forgotten, "what was {name} before is gone");
                removed[at].name = new.unwrap_or_else(|| format!("{name}_new"));
            }
        }
    }

    /// SIGTERM.
    pub(super) fn stop(&self) {
        self.ends.borrow_mut().take();
    }

    pub(super) fn has_ended(&self) -> bool {
        let polls = self.polling.borrow().as_ref().is_some_and(|polling| !polling.done.get());
        !polls && self.live.borrow().values().all(|live| live.done.get())
    }

    /// Whether every sink has settled everything.
    pub(super) fn is_at_rest(&self) -> bool {
        let end = self.store.log.durable().borrow().sequence;
        let live = self.live.borrow();
        self.up.get() && live.keys().all(|name| self.store.registry.claim(name).progress().position >= end)
    }

    pub(super) fn letters(&self, live: &Live) -> Letters {
        let waiting = self.store.letters.of(&live.wanted.name).into_iter();
        let given_up = self.core.given_up.borrow().get(&live.wanted.broker).cloned().unwrap_or_default();
        let was_away = self.core.away.borrow().contains(&live.wanted.broker);
        let claim = self.store.registry.claim(&live.wanted.name);
        let damaged = claim.dead_letter_counts(claim.progress().position).damaged;
        let lost = damaged + live.handle.status().unaccounted_events;
        let rot = self.core.rots == Rots::Letters;
        Letters {
            was_away,
            lost,
            rot,
            waiting: waiting.map(|(sequence, letter)| (sequence, letter.id)).collect(),
            given_up,
        }
    }
}
