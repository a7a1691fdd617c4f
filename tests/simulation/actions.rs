//! What people, peers and disks do to a life, drawn from the seed.

use super::broker::{MOODS, Mood};
use super::core::{Core, Life, NOON, Wanted};
use super::ledger::Ledger;
use super::polling::SOURCE;
use super::provider::{TROUBLES, Trouble};
use crate::support::fault_disk::{Fault, Plan};
use bytes::Bytes;
use e2b_relay::deliver;
use e2b_relay::event::{Arrival, Event, Origin, Timestamp};
use e2b_relay::store::{AttachError, OpenError, Refused, Resolution};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Sandboxes whose order is looked at.
const SANDBOXES: u64 = 7;

/// What an event is: the same each time, whoever tells of it.
struct Drawn {
    id: String,
    kind: &'static str,
    origin: Origin,
    sandbox_id: String,
    /// Unless it happens at the provider.
    timestamp: jiff::Timestamp,
    padding: usize,
}

impl Drawn {
    fn of(number: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(number ^ 0x5eed);
        let padding = match rng.u8(0..120) {
            0 => rng.usize(50_000..100_000),
            1..4 => rng.usize(2_000..10_000),
            _ => rng.usize(0..100),
        };
        let (hour, origin) = (rng.i64(-30..1), rng.u8(0..10));
        let (kind, origin) = match origin {
            0..5 => ("sandbox.lifecycle.updated", Origin::Webhook),
            5..8 => ("sandbox.lifecycle.updated", Origin::Backfill),
            _ => ("sandbox.metrics", Origin::Metrics),
        };
        let noon: jiff::Timestamp = NOON.parse().unwrap();
        let timestamp = noon + jiff::SignedDuration::from_hours(hour);
        let (id, sandbox_id) = (format!("event-{number}"), format!("sandbox-{}", number % SANDBOXES));
        Self { id, kind, origin, sandbox_id, timestamp, padding }
    }

    fn body(&self, timestamp: jiff::Timestamp) -> String {
        let Self { id, kind, sandbox_id, padding, .. } = self;
        let padding = "x".repeat(*padding);
        let body = serde_json::json!({
            "id": id, "type": kind, "timestamp": timestamp.to_string(), "sandbox_id": sandbox_id, "padding": padding,
        });
        body.to_string()
    }
}

impl Life {
    /// Something happens, or nothing.
    pub(super) fn act(self: &Rc<Self>) {
        let core = Rc::clone(&self.core);
        match core.turns.draw(|rng| rng.u8(0..100)) {
            // Nothing is accepted before the sinks are known.
            0..4 if self.up.get() => self.offer(),
            4..80 => {
                let at = core.turns.draw(|rng| rng.usize(0..core.brokers.len()));
                for _ in 0..core.turns.draw(|rng| rng.u8(1..20)) {
                    core.turns.draw(|rng| core.brokers[at].act(rng));
                }
            }
            80..84 => {
                let (at, mood) = core.turns.draw(|rng| (rng.usize(0..core.brokers.len()), rng.choice(MOODS).unwrap()));
                core.turns.note(format!("broker {at} is {mood:?}"));
                core.brokers[at].be(mood);
            }
            84..86 => self.change_the_disk(),
            86 => {
                let of = core.turns.draw(|rng| rng.choice([0, 0, 0, 40, 400]).unwrap());
                core.databases.fail_one_of(of);
            }
            87 => self.jump(),
            88 => self.open_a_second(),
            89 => self.trouble_the_provider(),
            90..100 => self.operate(),
            _ => {}
        }
    }

    /// Deliveries, pages of a sweep and samples, new ones and some that came before.
    fn offer(self: &Rc<Self>) {
        let core = &self.core;
        let (count, known) = core.turns.draw(|rng| {
            let count = match rng.u8(0..40) {
                0 => rng.u64(500..1_100),
                1..6 => rng.u64(20..100),
                _ => rng.u64(1..20),
            };
            (count, rng.u8(0..4) == 0)
        });
        let numbers: Vec<u64> = {
            let mut ledger = core.ledger.borrow_mut();
            let fresh = ledger.next..ledger.next + count;
            ledger.next += count;
            let again = if known { fresh.start.saturating_sub(20)..fresh.start } else { 0..0 };
            let told = fresh.filter(|number| !(self.happens(*number, &mut ledger) && self.is_lost()));
            told.collect::<Vec<_>>().into_iter().chain(again).collect()
        };
        let life = Rc::clone(self);
        core.turns.note(format!("{count} events are offered"));
        core.turns.spawn("sender", async move {
            let offers = numbers.into_iter().map(|number| life.offer_one(number));
            futures_util::future::join_all(offers).await;
        });
    }

    /// Whether it happens at the provider, too, which then lists it.
    fn happens(&self, number: u64, ledger: &mut Ledger) -> bool {
        let core = &self.core;
        let drawn = Drawn::of(number);
        let happens = drawn.origin == Origin::Webhook && core.turns.draw(|rng| rng.u8(0..4)) > 0;
        if happens {
            ledger.offers(&drawn.id, None);
            core.provider.happens(number, &drawn.id, &drawn.sandbox_id, |at| drawn.body(at));
        }
        happens
    }

    /// Whether no delivery of it comes.
    fn is_lost(&self) -> bool {
        self.core.turns.draw(|rng| rng.u8(0..8)) == 0
    }

    fn trouble_the_provider(&self) {
        let trouble = self.core.turns.draw(|rng| rng.choice(TROUBLES).unwrap());
        self.core.turns.note(format!("the provider: {trouble:?}"));
        self.core.provider.be(trouble);
    }

    pub(super) async fn offer_one(&self, number: u64) {
        let core = &self.core;
        let drawn = Drawn::of(number);
        let timestamp = core.provider.event(number).map_or(drawn.timestamp, |event| event.at);
        let body = Bytes::from(drawn.body(timestamp));
        let Drawn { id, kind, origin, sandbox_id, .. } = drawn;
        let event =
            Event { id: id.clone(), kind: kind.to_owned(), timestamp: Timestamp::from(timestamp), sandbox_id, body };
        // Samples are deduped before the store.
        if origin == Origin::Metrics && core.ledger.borrow().was_offered(&id) {
            return;
        }
        let received_at = (core.clock())();
        let arrival = Arrival { source: SOURCE.into(), origin, received_at, webhook_id: None, delivery_id: None };
        let asked = core.ledger.borrow_mut().offers(&id, Some(received_at));
        let answer = self.store.log.accept(event, arrival).await;
        core.ledger.borrow_mut().answered(&id, asked, &answer);
    }

    fn change_the_disk(&self) {
        let core = &self.core;
        let world = &core.world;
        match core.turns.draw(|rng| rng.u8(0..8)) {
            0 => {
                core.turns.note("the disk is full");
                core.sometimes.happened("a full disk");
                world.fill();
            }
            1..4 => {
                let fault = core.turns.draw(|rng| rng.choice([Fault::Io, Fault::Io, Fault::Full]).unwrap());
                let plan = Plan {
                    at: core.turns.draw(|rng| rng.u64(0..100)),
                    calls: core.turns.draw(|rng| rng.choice([1, 1, 1, 3, 20]).unwrap()),
                    fault,
                };
                core.turns.note(format!("{plan:?}"));
                core.sometimes.happened("a call that fails");
                world.plan(plan);
            }
            _ => {
                core.turns.note("the disk works");
                world.heal();
                world.make_room();
            }
        }
    }

    /// The wall clock is set.
    fn jump(&self) {
        // What was lost is told by when it was received.
        if self.core.ledger.borrow().rots {
            return;
        }
        let seconds = self.core.turns.draw(|rng| rng.choice([0, 0, 0, 5, -5, 3_600, -3_600, 86_400 * 30]).unwrap());
        self.core.turns.note(format!("the clock is {seconds} s off"));
        if seconds != 0 {
            self.core.sometimes.happened("a clock that jumps");
        }
        self.core.skew.store(seconds, Ordering::Relaxed);
    }

    /// Another daemon is started on the same folder.
    fn open_a_second(&self) {
        match self.core.open_a_second() {
            Err(OpenError::InUse { .. }) => self.core.sometimes.happened("a second daemon"),
            // The disk failed it before it came to that.
            Err(OpenError::Io { .. }) => {}
            other => panic!("two have it open: {other:?}"),
        }
    }

    fn operate(self: &Rc<Self>) {
        if !self.up.get() {
            return;
        }
        let core = &self.core;
        let names: Vec<String> = self.live.borrow().keys().cloned().collect();
        let Some(name) = core.turns.draw(|rng| rng.choice(names)) else { return };
        let life = Rc::clone(self);
        let (kind, other) = core.turns.draw(|rng| (rng.u8(0..20), rng.bool()));
        match kind {
            0..3 => drop(core.turns.spawn("replay", async move { life.replay(&name).await })),
            3 => drop(core.turns.spawn("sweep", async move { life.sweep().await })),
            4..7 => drop(core.turns.spawn("retry", async move { life.retry(&name).await })),
            7..10 => drop(core.turns.spawn("drop", async move { life.give_up(&name).await })),
            _ if self.loading.replace(true) => {}
            _ => drop(core.turns.spawn("load", async move {
                match kind {
                    10..14 => life.rename(&name, other).await,
                    14..17 => life.remove(&name).await,
                    _ => life.put_back(other).await,
                }
                life.loading.set(false);
            })),
        }
    }

    fn handle(&self, name: &str) -> Option<deliver::Handle> {
        self.live.borrow().get(name).map(|live| live.handle.clone())
    }

    async fn replay(&self, name: &str) {
        let Some(handle) = self.handle(name) else { return };
        let now = (self.core.clock())();
        if self.core.turns.draw(|rng| rng.u8(0..4)) == 0 {
            let _ = handle.cancel_replay(now).await;
        } else if handle.begin_replay(deliver::Wanted::default(), now).await.is_ok() {
            self.core.sometimes.happened("a replay");
        }
    }

    fn some_letters(&self, name: &str) -> Vec<u64> {
        let letters = self.store.letters.of(name).into_iter().map(|(sequence, _)| sequence);
        letters.filter(|_| self.core.turns.draw(|rng| rng.bool())).collect()
    }

    async fn retry(&self, name: &str) {
        let Some(retrying) = self.handle(name).and_then(|handle| handle.retrying().ok()) else { return };
        let letters = self.some_letters(name);
        let (progress, _) = tokio::sync::watch::channel(deliver::Retried::default());
        if retrying.run(letters, &progress).await.is_ok_and(|retried| retried.sent > 0) {
            self.core.sometimes.happened("a dead letter that is retried");
        }
    }

    async fn give_up(&self, name: &str) {
        let Some(broker) = self.live.borrow().get(name).map(|live| live.wanted.broker) else { return };
        let letters: Vec<u64> = self.some_letters(name).into_iter().take(3).collect();
        // Done or not: it may be.
        let known = self.store.letters.of(name).into_iter().filter(|(sequence, _)| letters.contains(sequence));
        let known: BTreeMap<u64, String> = known.map(|(sequence, letter)| (sequence, letter.id)).collect();
        self.core.given_up.borrow_mut().entry(broker).or_default().extend(known);
        let (store, name) = (self.store.letters.clone(), name.to_owned());
        let dropped = self.core.executor().call(move || store.resolve(&name, &letters, Resolution::Dropped)).await;
        if dropped.is_ok_and(|dropped| dropped.is_ok_and(|dropped| dropped > 0)) {
            self.core.sometimes.happened("a dead letter that is dropped");
        }
    }

    /// New settings: they count from here on, as in a file, whether or not this life takes them.
    async fn change(&self, wanted: Vec<Wanted>, removed: Vec<Wanted>) -> bool {
        let core = &self.core;
        // One name twice is no file of settings. It happens while what is written there is not taken yet.
        if wanted.iter().map(|sink| &sink.name).collect::<BTreeSet<_>>().len() < wanted.len() {
            return false;
        }
        core.turns.note(format!("{wanted:?}"));
        *core.before.borrow_mut() = Some((core.wanted.replace(wanted.clone()), core.removed.replace(removed)));
        let loaded = self.load(wanted).await;
        match &loaded {
            Ok(()) => drop(core.before.take()),
            Err(AttachError::Rename(why)) => {
                core.turns.note(format!("refused: {why:?}"));
                core.take_back();
            }
            // The settings stay as they were written.
            Err(AttachError::Refused(Refused::Unknown(why))) => core.turns.note(format!("not known: {why}")),
            Err(error) => {
                core.turns.note(format!("not taken: {error}"));
                if core.turns.draw(|rng| rng.bool()) {
                    core.take_back();
                }
            }
        }
        loaded.is_ok()
    }

    async fn rename(&self, name: &str, onto_a_kept_one: bool) {
        let core = &self.core;
        let (mut wanted, removed) = (core.wanted.borrow().clone(), core.removed.borrow().clone());
        let kept = removed.first().filter(|_| onto_a_kept_one).map(|sink| sink.name.clone());
        let fresh = format!("sink-{}", core.turns.draw(|rng| rng.u32(..)));
        let Some(sink) = wanted.iter_mut().find(|sink| sink.name == name) else { return };
        let is_kept = kept.is_some();
        sink.renamed_from = Some(std::mem::replace(&mut sink.name, kept.unwrap_or(fresh)));
        let done = self.change(wanted, removed).await;
        match (is_kept, done) {
            (true, true) => core.sometimes.happened("a rename onto a kept position"),
            (false, true) => core.sometimes.happened("a rename"),
            (_, false) => {}
        }
    }

    async fn remove(&self, name: &str) {
        let core = &self.core;
        // Those that are away do not hold events back.
        if !core.is_roomy {
            return;
        }
        let (wanted, mut removed) = (core.wanted.borrow().clone(), core.removed.borrow().clone());
        let (gone, rest): (Vec<Wanted>, Vec<Wanted>) = wanted.into_iter().partition(|sink| sink.name == name);
        core.away.borrow_mut().extend(gone.iter().map(|sink| sink.broker));
        removed.extend(gone);
        if self.change(rest, removed).await {
            core.sometimes.happened("a sink that is taken out");
        }
    }

    async fn put_back(&self, forget: bool) {
        let core = &self.core;
        let mut removed = core.removed.borrow().clone();
        let Some(mut back) = removed.pop() else { return };
        back.renamed_from = None;
        if forget {
            core.forgetting.borrow_mut().insert(back.broker);
            match self.store.registry.forget(&back.name).await {
                Ok(true) => {
                    core.turns.note(format!("{} is forgotten", back.name));
                    core.forgotten.borrow_mut().insert(back.broker);
                    core.sometimes.happened("a sink that is forgotten");
                }
                Ok(false) | Err(Refused::Unknown(_)) => return,
                Err(_) => {
                    core.forgetting.borrow_mut().remove(&back.broker);
                    return;
                }
            }
        }
        let mut wanted = core.wanted.borrow().clone();
        wanted.push(back);
        if self.change(wanted, removed).await {
            core.sometimes.happened("a sink that is put back");
        }
    }
}

impl Core {
    /// Nothing goes wrong from here on.
    pub(super) fn heal(&self) {
        self.world.heal();
        self.world.make_room();
        self.databases.fail_one_of(0);
        self.brokers.iter().for_each(|broker| broker.be(Mood::Well));
        self.provider.be(Trouble::None);
        self.skew.store(0, Ordering::Relaxed);
    }
}
