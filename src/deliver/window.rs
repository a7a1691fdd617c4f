//! The events between a sink's position and the newest that was handed over, and in which order they may go.
//!
//! Pure: no clock, no I/O. [`super::Delivery`] asks it what to send and tells it what became of that.

use super::place::{Gone, Place};
use crate::event::Stored;
use crate::route::Outgoing;
use crate::sink::Order;
use crate::store::{End, Progress};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Payloads in one window take about so many bytes at most, however few records they are.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// A record with the event that it was made of.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) stored: Arc<Stored>,
    pub(super) outgoing: Arc<Outgoing>,
}

/// What became of an event for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Delivered,
    Filtered,
    DeadLettered,
}

#[derive(Debug)]
enum State {
    /// To be handed over when its turn comes.
    Waiting(Job),
    /// Handed over, not confirmed.
    InFlight(Job),
    /// On its way to the dead letters.
    Parking,
    Settled(Settled),
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    place: Place,
    received_at: jiff::Timestamp,
    state: State,
}

#[derive(Debug)]
pub(super) struct Window {
    order: Order,
    limit: usize,
    /// By sequence; the first is not settled.
    slots: VecDeque<Slot>,
    /// Per sandbox what is neither settled nor parking, oldest first; only the first may be in flight.
    lanes: HashMap<String, VecDeque<u64>>,
    progress: Progress,
    /// The log's end behind the newest that was added, with what is proven to be gone there.
    end: Option<(End, Gone)>,
    /// Settled, but not yet noted by the store: a crash would send these again too.
    unnoted: usize,
    /// Of the payloads that are not settled.
    bytes: usize,
}

impl Window {
    pub(super) fn new(order: Order, limit: usize, progress: Progress) -> Self {
        Self { order, limit, slots: VecDeque::new(), lanes: HashMap::new(), progress, end: None, unnoted: 0, bytes: 0 }
    }

    /// Whether another event may be added.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() + self.unnoted < self.limit && self.bytes < MAX_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// Behind the newest that was added there is nothing more up to the log's end, of which these records are proven to be
    /// gone: the position moves there once all of it is settled.
    pub(super) fn log_ends(&mut self, end: End, mut gone: Gone) {
        gone += self.end.take().map_or_else(Gone::default, |(_, gone)| gone);
        self.end = Some((end, gone));
        self.advance();
    }

    /// Dead letters that count once the position has passed their records, which are gone.
    pub(super) fn letters_to_come(&self) -> usize {
        let slots = self.slots.iter().map(|slot| slot.place.gone);
        slots.chain(self.end.map(|(_, gone)| gone)).map(|gone| gone.dead_lettered as usize).sum()
    }

    /// When the oldest event that is not settled was received.
    pub(super) fn oldest_received_at(&self) -> Option<jiff::Timestamp> {
        self.slots.front().map(|slot| slot.received_at)
    }

    /// Adds an event that the sink does not take.
    pub(super) fn add_settled(&mut self, stored: &Stored, place: Place, settled: Settled) {
        self.push(stored, place, State::Settled(settled));
        self.advance();
    }

    /// Adds an event that goes to the dead letters.
    pub(super) fn add_parking(&mut self, stored: &Stored, place: Place) {
        self.push(stored, place, State::Parking);
    }

    /// Adds a record to be sent; returns it if its turn is now.
    pub(super) fn add(&mut self, job: Job, place: Place) -> Option<Job> {
        let sequence = job.stored.sequence;
        let stored = Arc::clone(&job.stored);
        self.bytes += job.outgoing.payload.len();
        self.push(&stored, place, State::Waiting(job));
        if self.order == Order::OnePerSandbox {
            let lane = self.lanes.entry(stored.event.sandbox_id.clone()).or_default();
            lane.push_back(sequence);
            if lane.len() > 1 {
                return None;
            }
        }
        if self.order == Order::Batched { None } else { self.start(sequence) }
    }

    fn push(&mut self, stored: &Stored, mut place: Place, state: State) {
        // What is gone before the log's last end is passed with the first that came behind it.
        place.gone += self.end.take().map_or_else(Gone::default, |(_, gone)| gone);
        self.slots.push_back(Slot { sequence: stored.sequence, place, received_at: stored.arrival.received_at, state });
    }

    /// Marks a waiting record as handed over and returns it.
    pub(super) fn start(&mut self, sequence: u64) -> Option<Job> {
        let slot = self.slot(sequence)?;
        let State::Waiting(job) = &slot.state else { return None };
        let job = job.clone();
        slot.state = State::InFlight(job.clone());
        Some(job)
    }

    /// A record that was handed over failed and shall be sent again; it keeps its place.
    pub(super) fn put_back(&mut self, sequence: u64) {
        let Some(slot) = self.slot(sequence) else { return };
        if let State::InFlight(job) = &slot.state {
            slot.state = State::Waiting(job.clone());
        }
    }

    /// Every waiting record whose turn it is, in order, now marked as handed over.
    pub(super) fn start_all(&mut self) -> Vec<Job> {
        let due: Vec<u64> = self
            .slots
            .iter()
            .filter_map(|slot| match &slot.state {
                State::Waiting(job) if self.is_first(job) => Some(slot.sequence),
                _ => None,
            })
            .collect();
        due.into_iter().filter_map(|sequence| self.start(sequence)).collect()
    }

    /// Everything that waits, now marked as handed over, and what the progress will be once it is delivered; `None` while
    /// nothing waits, or while something between is not settled.
    pub(super) fn start_batch(&mut self) -> Option<(Vec<Job>, Progress)> {
        let mut progress = self.progress;
        let mut is_empty = true;
        for slot in &self.slots {
            match &slot.state {
                State::Waiting(_) => {
                    is_empty = false;
                    count(&mut progress, Settled::Delivered);
                }
                State::Settled(settled) => count(&mut progress, *settled),
                State::InFlight(_) | State::Parking => return None,
            }
            pass(&mut progress, slot.sequence, slot.place);
        }
        (!is_empty).then(|| (self.start_all(), progress))
    }

    /// What is up to this progress was settled, as the peer knows.
    pub(super) fn catch_up(&mut self, progress: Progress) {
        while self.slots.front().is_some_and(|slot| slot.sequence <= progress.position) {
            if let Some(Slot { state: State::Waiting(job) | State::InFlight(job), .. }) = self.slots.pop_front() {
                self.bytes -= job.outgoing.payload.len();
            }
            self.unnoted += 1;
        }
        if self.slots.is_empty() && self.end.is_some_and(|(end, _)| end.sequence <= progress.position) {
            self.end = None;
        }
        self.progress = progress;
        self.advance();
    }

    fn is_first(&self, job: &Job) -> bool {
        match self.order {
            Order::Pipelined | Order::Batched => true,
            Order::OnePerSandbox => self
                .lanes
                .get(&job.stored.event.sandbox_id)
                .is_none_or(|lane| lane.front() == Some(&job.stored.sequence)),
        }
    }

    /// A record that was handed over goes to the dead letters: returns its event, and the record whose turn is next.
    pub(super) fn reject(&mut self, sequence: u64) -> (Option<Arc<Stored>>, Option<Job>) {
        let stored = self.replace(sequence, State::Parking);
        let next = stored.as_ref().and_then(|stored| self.next_of(stored));
        (stored, next)
    }

    /// A record that was handed over is done with: returns the one whose turn is next.
    pub(super) fn settle(&mut self, sequence: u64, settled: Settled) -> Option<Job> {
        let stored = self.replace(sequence, State::Settled(settled));
        self.advance();
        stored.and_then(|stored| self.next_of(&stored))
    }

    /// The dead letters of these sequences are on disk.
    pub(super) fn parked(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            if let Some(slot) = self.slot(*sequence) {
                slot.state = State::Settled(Settled::DeadLettered);
            }
        }
        self.advance();
    }

    /// The store has noted this progress.
    pub(super) fn noted(&mut self, progress: Progress) {
        self.unnoted = self.progress.settled().saturating_sub(progress.settled()) as usize;
    }

    fn replace(&mut self, sequence: u64, state: State) -> Option<Arc<Stored>> {
        let slot = self.slot(sequence)?;
        match std::mem::replace(&mut slot.state, state) {
            State::Waiting(job) | State::InFlight(job) => {
                self.bytes -= job.outgoing.payload.len();
                Some(job.stored)
            }
            State::Parking | State::Settled(_) => None,
        }
    }

    /// Takes a record that is done with off its sandbox's lane, and starts the one behind it.
    fn next_of(&mut self, stored: &Stored) -> Option<Job> {
        if self.order != Order::OnePerSandbox {
            return None;
        }
        let sandbox = &stored.event.sandbox_id;
        let lane = self.lanes.get_mut(sandbox)?;
        lane.retain(|sequence| *sequence != stored.sequence);
        match lane.front().copied() {
            Some(next) => self.start(next),
            None => {
                self.lanes.remove(sandbox);
                None
            }
        }
    }

    /// Moves the position over what is settled without a gap.
    fn advance(&mut self) {
        while let Some(Slot { sequence, place, state: State::Settled(settled), .. }) = self.slots.front() {
            count(&mut self.progress, *settled);
            pass(&mut self.progress, *sequence, *place);
            self.unnoted += 1;
            self.slots.pop_front();
        }
        if self.slots.is_empty()
            && let Some((end, gone)) = self.end.take()
        {
            self.progress.position = self.progress.position.max(end.sequence);
            self.progress.ordinals = end.ordinals;
            gone.count(&mut self.progress);
            account(&mut self.progress);
        }
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let index = self.slots.binary_search_by_key(&sequence, |slot| slot.sequence).ok()?;
        self.slots.get_mut(index)
    }
}

/// Moves over an event, and over what is gone before it.
fn pass(progress: &mut Progress, sequence: u64, place: Place) {
    progress.position = sequence;
    *progress.ordinals.of_mut(place.log) = place.ordinal;
    place.gone.count(progress);
    account(progress);
}

/// Keeps the last position at which the counts add up.
fn account(progress: &mut Progress) {
    if progress.unaccounted() == 0 {
        progress.accounted_through = progress.position;
    }
}

fn count(progress: &mut Progress, settled: Settled) {
    match settled {
        Settled::Delivered => progress.delivered += 1,
        Settled::Filtered => progress.filtered += 1,
        Settled::DeadLettered => progress.dead_lettered += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Arrival, Event, Origin, Timestamp};
    use crate::store::LogKind;
    use crate::store::Ordinals;
    use bytes::Bytes;

    fn job(sequence: u64, sandbox_id: &str) -> Job {
        let received_at = jiff::Timestamp::from_second(sequence as i64).unwrap();
        let arrival = Arrival {
            source: "acme".into(),
            origin: Origin::Webhook,
            received_at,
            webhook_id: None,
            delivery_id: None,
        };
        let event = Event {
            id: sequence.to_string(),
            kind: "sandbox.lifecycle.created".into(),
            timestamp: Timestamp::from(received_at),
            sandbox_id: sandbox_id.into(),
            body: Bytes::new(),
        };
        let outgoing = Outgoing {
            sequence,
            id: event.id.clone(),
            kind: event.kind.clone(),
            sandbox_id: sandbox_id.into(),
            address: String::new(),
            key: String::new(),
            payload: Bytes::new(),
            content_type: "application/json",
            unix_seconds: 0,
            headers: Vec::new(),
        };
        Job { stored: Arc::new(Stored { sequence, arrival, event }), outgoing: Arc::new(outgoing) }
    }

    /// The event of this number in the journal.
    fn gone(damaged: u64) -> Gone {
        Gone { damaged, dead_lettered: 0 }
    }

    fn place(number: u64) -> Place {
        Place { log: LogKind::Events, ordinal: number, gone: Gone::default() }
    }

    /// After so many events, each of which is counted.
    fn progress(position: u64) -> Progress {
        let ordinals = Ordinals { events: position, samples: 0 };
        Progress { position, ordinals, accounted_through: position, ..Progress::default() }
    }

    fn sequence(job: Option<Job>) -> Option<u64> {
        job.map(|job| job.stored.sequence)
    }

    #[test]
    fn one_record_per_sandbox_is_in_flight_and_others_go_beside_it() {
        let mut window = Window::new(Order::OnePerSandbox, 10, Progress::default());
        assert_eq!(sequence(window.add(job(1, "a"), place(1))), Some(1));
        assert_eq!(sequence(window.add(job(2, "a"), place(2))), None);
        assert_eq!(sequence(window.add(job(3, "b"), place(3))), Some(3));
        assert_eq!(sequence(window.settle(3, Settled::Delivered)), None);
        assert_eq!(window.progress().position, 0, "1 is not settled");
        window.put_back(1);
        assert_eq!(window.start_all().into_iter().map(|job| job.stored.sequence).collect::<Vec<_>>(), [1]);
        assert_eq!(sequence(window.settle(1, Settled::Delivered)), Some(2));
        assert_eq!(window.progress().position, 1);
        assert_eq!(sequence(window.settle(2, Settled::Delivered)), None);
        assert_eq!(window.progress(), Progress { delivered: 3, ..progress(3) });
        assert!(window.is_empty() && window.lanes.is_empty());
    }

    #[test]
    fn a_dead_letter_holds_the_position_until_it_is_on_disk_but_not_its_sandbox() {
        let mut window = Window::new(Order::OnePerSandbox, 10, Progress::default());
        window.add(job(1, "a"), place(1));
        window.add(job(2, "a"), place(2));
        let (rejected, next) = window.reject(1);
        assert_eq!(rejected.unwrap().sequence, 1);
        assert_eq!(sequence(next), Some(2));
        window.settle(2, Settled::Delivered);
        assert_eq!(window.progress().position, 0);
        window.parked(&[1]);
        assert_eq!(window.progress(), Progress { delivered: 1, dead_lettered: 1, ..progress(2) });
    }

    #[test]
    fn room_is_counted_from_what_the_store_has_noted() {
        let mut window = Window::new(Order::Pipelined, 2, Progress::default());
        window.add(job(1, "a"), place(1));
        window.settle(1, Settled::Delivered);
        window.add(job(2, "a"), place(2));
        assert!(!window.has_room(), "a crash now would send both again");
        window.noted(window.progress());
        assert!(window.has_room());
        window.add_settled(&job(3, "b").stored, place(3), Settled::Filtered);
        assert!(!window.has_room());
    }

    #[test]
    fn a_batch_holds_what_waits_and_the_progress_that_follows() {
        let mut window = Window::new(Order::Batched, 10, Progress::default());
        for number in 1..=2 {
            assert!(window.add(job(number, "a"), place(number)).is_none());
        }
        window.add_settled(&job(3, "b").stored, place(3), Settled::Filtered);
        let (jobs, after) = window.start_batch().unwrap();
        assert_eq!(jobs.iter().map(|job| job.stored.sequence).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(after, Progress { delivered: 2, filtered: 1, ..progress(3) });
        window.add(job(4, "a"), place(4));
        assert!(window.start_batch().is_none(), "one at a time");
        // 1 is refused, the rest comes again; not before the dead letter is on disk.
        window.reject(1);
        window.put_back(2);
        assert!(window.start_batch().is_none());
        window.parked(&[1]);
        let (jobs, progress) = window.start_batch().unwrap();
        assert_eq!(jobs.iter().map(|job| job.stored.sequence).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(progress.dead_lettered, 1);
        // The peer has the batch after all.
        window.catch_up(progress);
        assert!(window.is_empty() && window.bytes == 0);
        assert_eq!(window.progress(), progress);
    }

    #[test]
    fn what_is_pipelined_is_sent_again_in_order() {
        let mut window = Window::new(Order::Pipelined, 10, Progress::default());
        for sequence in 1..=4 {
            assert!(window.add(job(sequence, "a"), place(sequence)).is_some());
        }
        for sequence in [4, 2] {
            window.put_back(sequence);
        }
        let again: Vec<u64> = window.start_all().into_iter().map(|job| job.stored.sequence).collect();
        assert_eq!(again, [2, 4]);
    }

    #[test]
    fn what_is_proven_to_be_gone_is_passed_once_and_the_counts_add_up() {
        let mut window = Window::new(Order::Pipelined, 10, Progress::default());
        window.add(job(1, "a"), place(1));
        window.add(job(7, "a"), Place { gone: gone(3), ..place(5) });
        window.settle(7, Settled::Delivered);
        assert_eq!((window.progress().position, window.progress().damaged), (0, 0));
        window.settle(1, Settled::Delivered);
        assert_eq!(
            window.progress(),
            Progress { position: 7, delivered: 2, damaged: 3, accounted_through: 7, ..progress(5) }
        );
        // At the log's end, and again before something comes.
        let end = |sequence, events| End { sequence, ordinals: Ordinals { events, samples: 0 } };
        window.log_ends(end(9, 7), gone(2));
        assert_eq!((window.progress().position, window.progress().damaged, window.progress().unaccounted()), (9, 5, 0));
        window.add(job(10, "a"), place(8));
        window.log_ends(end(12, 9), gone(1));
        window.add(job(13, "a"), place(10));
        assert_eq!(window.progress().position, 9);
        window.settle(10, Settled::Delivered);
        window.settle(13, Settled::Filtered);
        assert_eq!(
            (window.progress().position, window.progress().damaged, window.progress().unaccounted()),
            (13, 6, 0)
        );
    }

    #[test]
    fn an_event_that_nobody_counted_is_seen_with_the_last_position_that_was_right() {
        let mut window = Window::new(Order::Pipelined, 10, Progress::default());
        for number in [1, 2, 4] {
            window.add(job(number, "a"), place(number));
            window.settle(number, Settled::Delivered);
        }
        assert_eq!((window.progress().unaccounted(), window.progress().accounted_through), (1, 2));
    }
}
