//! One delivery per sink: takes what is on disk, routes it, hands it over in order, and moves the sink's position on
//! the peer's own confirmation.
//!
//! What every record would meet alike (connection, credentials, an unknown topic) halts the sink, with exponential
//! back-off and full jitter, for ever. What only one record has is a dead letter. A retry of one record blocks its own
//! sandbox only.

mod again;
mod batches;
mod confirm;
mod continuity;
mod end;
mod place;
mod reading;
mod settings;
mod sinks;
mod status;
mod tasks;
mod tell;
mod window;

pub use again::{Ended, Found, Handle, Refused, Replay, Retried, Retrying, Wanted};
pub use settings::{Settings, Start};
pub use sinks::Sinks;
pub use status::{About, Failure, Gap, Log, Status, Unaccounted};

use crate::backoff::Backoff;
use crate::decode::{self, Redaction};
use crate::event::Stored;
use crate::executor::Executor;
use crate::metrics::Metrics;
use crate::route::{Decision, Router};
use crate::shutdown::{self, Shutdown, Trigger};
use crate::sink::{Order, Reason, SendError, Sink};
use crate::sometimes;
use crate::store::{Cause, Claim, End, EventLog, Progress};
use again::{Accepted, Road};
use batches::Batches;
use continuity::Item;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use place::{Gone, Place};
use reading::Reading;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tasks::{Letter, Noted, Parked, Task, probe, wait};
use tell::Lines;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use window::{Job, Settled, Window};

/// Why a record is not sent that the sink had before it was damaged and accepted anew.
const ALREADY_SENT: &str = "already_sent";
/// First and longest delay before a failed send is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// So many dead letters in a row, for one cause and without a success between them, halt the sink.
const MAX_REJECTED_IN_A_ROW: u32 = 1_000;
/// Events that are routed before other work gets a turn.
const ROUTE_AT_ONCE: usize = 64;
/// Confirmations that are taken before other work gets a turn.
const CONFIRM_AT_ONCE: usize = 64;
/// How often the position is noted, unless the window is full before: a note is a write and wakes several threads, and
/// what it would spare after a kill is a few milliseconds' records.
const NOTE_EVERY: Duration = Duration::from_millis(10);
/// How often lag and age are told.
const TICK: Duration = Duration::from_secs(1);
/// How long a record may be unconfirmed before the client is asked what troubles it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last records may take at the end.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long the records that were handed over may take to be confirmed when another delivery is to go on in this one's
/// place.
pub const HAND_ON: Duration = Duration::from_secs(5);

/// What a delivery is made of.
pub struct Parts {
    /// The sink's name.
    pub name: String,
    /// What it is, for operators.
    pub about: About,
    /// The name that it had before, if it has a new one.
    pub renamed_from: Option<String>,
    /// Where events come from.
    pub log: EventLog,
    /// What of the store is this sink's: its position, its dead letters.
    pub claim: Claim,
    /// Where records go to.
    pub sink: Arc<dyn Sink>,
    /// Which, where to, as which bytes.
    pub router: Arc<Router>,
    /// [`Settings::redact`].
    pub redaction: Redaction,
    /// [`Settings::dead_letter_to`].
    pub dead_letter_to: Option<String>,
    /// [`Settings::max_in_flight`].
    pub max_in_flight: usize,
    /// Where it counts.
    pub metrics: Metrics,
    /// For jitter.
    pub random: fastrand::Rng,
    /// Who runs what may block.
    pub executor: Executor,
    /// The host's clock, for the age of what waits.
    pub clock: crate::store::Clock,
}

/// What a sink makes of an event, which loses what the sink is not to see.
fn decide(
    router: &Router,
    redaction: &Redaction,
    instance: &str,
    stored: &mut Arc<Stored>,
) -> Result<Decision, decode::Malformed> {
    if !redaction.is_empty() {
        // Others see the whole of it.
        let event = &mut Arc::make_mut(stored).event;
        event.body = redaction.body(std::mem::take(&mut event.body));
    }
    let record = decode::stored(&stored.event)?;
    Ok(router.route(stored, &record, instance))
}

type Confirmation = BoxFuture<'static, (u64, Result<(), SendError>)>;

/// One sink's loop.
pub struct Delivery {
    parts: Parts,
    window: Window,
    reading: Reading,
    /// The log's end, once all that was read up to there is in the window; and what is proven to be gone before it.
    log_end: Option<(End, u64)>,
    durable: watch::Receiver<End>,
    in_flight: FuturesUnordered<Confirmation>,
    batches: Batches,
    halted_until: Option<Instant>,
    backoff: Backoff,
    /// Records that wait before they are sent again, and how often each failed.
    delayed: BTreeMap<(Instant, u64), ()>,
    retries: HashMap<u64, Backoff>,
    /// Dead letters already: an earlier life of the process ended before its position was past them.
    dead_lettered: BTreeSet<u64>,
    /// Of those, the ones whose records are gone, in the order in which the position passes them.
    letters_gone: Vec<u64>,
    /// To become dead letters.
    rejected: Vec<Letter>,
    parking: Option<Task<Parked>>,
    noting: Option<Task<Noted>>,
    noted: Progress,
    /// The next note is due then.
    note_at: Instant,
    /// The disk did not take something.
    disk_retry_at: Option<Instant>,
    probing: Option<Task<Result<String, SendError>>>,
    rejected_in_a_row: (Option<Reason>, u32),
    /// For operators; whether it is up stands there.
    status: watch::Sender<Status>,
    lines: Lines,
    handle: Handle,
    accepted: mpsc::Receiver<Accepted>,
    /// Ends what operators have sent once more.
    end_again: Trigger,
    /// Another delivery goes on from here: nothing more is read or routed.
    handing_on: bool,
    /// Records handed over so far, as far as they may be an earlier life's: it had so many unconfirmed at most.
    routed: usize,
    /// The sequence of the last of those.
    repeated_through: u64,
    /// The peer has confirmed a record, now or in an earlier life.
    took_something: bool,
}

impl Delivery {
    /// Goes on where the store says that the sink is.
    pub fn new(mut parts: Parts) -> Self {
        let random = parts.random.fork();
        let claim = &parts.claim;
        let progress = claim.progress();
        let backoff = Backoff::new(BACKOFF.0, BACKOFF.1, parts.random.clone());
        let name = &parts.name;
        let batches = if parts.sink.transactions().is_some() { Batches::Closed } else { Batches::None };
        parts.metrics.sink(name);
        parts.metrics.dead_letters_waiting(name, claim.dead_letters_waiting());
        let status = watch::Sender::new(Status { position: progress.position, ..Status::default() });
        let road = Road {
            name: name.clone(),
            about: parts.about.clone(),
            log: parts.log.clone(),
            claim: claim.clone(),
            sink: Arc::clone(&parts.sink),
            router: Arc::clone(&parts.router),
            redaction: parts.redaction.clone(),
            metrics: parts.metrics.clone(),
            executor: parts.executor.clone(),
            random: Mutex::new(random),
        };
        let dead_lettered = claim.dead_lettered_behind(progress.position);
        let (end_again, ending) = shutdown::channel();
        let (handle, accepted) = Handle::new(road, status.subscribe(), ending);
        Self {
            status,
            lines: Lines::default(),
            handle,
            accepted,
            end_again,
            window: Window::new(parts.sink.order(), parts.max_in_flight, progress),
            reading: Reading::new(&parts.log, &parts.executor, &progress),
            log_end: None,
            durable: parts.log.durable(),
            in_flight: FuturesUnordered::new(),
            batches,
            halted_until: None,
            backoff,
            delayed: BTreeMap::new(),
            retries: HashMap::new(),
            dead_lettered,
            letters_gone: Vec::new(),
            rejected: Vec::new(),
            parking: None,
            noting: None,
            noted: progress,
            note_at: Instant::now(),
            disk_retry_at: None,
            probing: Some(probe(Arc::clone(&parts.sink))),
            rejected_in_a_row: (None, 0),
            handing_on: false,
            routed: 0,
            repeated_through: 0,
            took_something: progress.delivered > 0,
            parts,
        }
    }

    /// By which operators ask for what is to be sent once more.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Delivers until the shutdown is requested, then what is left, within [`DRAIN`]; what is not confirmed by then is
    /// sent again at the next start. Once it is `replaced`, only what was handed over is waited for, within [`HAND_ON`].
    pub async fn run(self, shutdown: Shutdown, replaced: Shutdown) {
        let (replays, forward) = (self.handle.clone().replays(), self.handle.clone());
        let forward = forward.forward(self.parts.dead_letter_to.clone());
        tokio::join!(replays, forward, self.deliver(shutdown, replaced));
    }

    async fn deliver(mut self, mut shutdown: Shutdown, mut replaced: Shutdown) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut deadline: Option<Instant> = None;
        loop {
            self.start_work();
            if deadline.is_some_and(|deadline| self.is_done(deadline)) {
                break;
            }
            let until = self.next_wake_up(deadline);
            // What seldom happens first, so that it waits for nothing; and always in this order, so that a run can be repeated.
            tokio::select! {
                biased;
                () = shutdown.requested(), if deadline.is_none() => {
                    self.end_again.fire();
                    deadline = Some(Instant::now() + DRAIN);
                }
                () = replaced.requested(), if !self.handing_on => {
                    self.end_again.fire();
                    self.handing_on = true;
                    self.reading.buffer.clear();
                    self.log_end = None;
                    deadline = Some(Instant::now() + HAND_ON);
                }
                _ = tick.tick() => self.tell(),
                Some(accepted) = self.accepted.recv() => self.accept_gap(accepted),
                Some(result) = wait(&mut self.probing) => self.probed(result),
                Some(result) = wait(&mut self.noting) => self.noted(result),
                Some(result) = wait(&mut self.parking) => self.parked(result),
                outcome = self.batches.outcome() => self.batch_ended(outcome),
                Some(result) = wait(&mut self.reading.task) => {
                    let read = self.reading.ended(result);
                    self.read(read);
                }
                // Reading starts anew at the top of the loop.
                changed = self.durable.changed(), if self.reading.task.is_none() => if changed.is_err() { break },
                Some((sequence, result)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.confirmed(sequence, result);
                    self.confirmed_too();
                }
                () = tokio::task::yield_now(), if self.can_route() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
        self.end().await;
    }

    /// Sends again what is due, once everything that was handed over before has reported.
    fn resume(&mut self) {
        let now = Instant::now();
        if let Some(until) = self.halted_until {
            if now < until || !self.in_flight.is_empty() {
                return;
            }
            self.halted_until = None;
            self.delayed.clear();
            if self.parts.sink.order() == Order::Batched {
                return;
            }
            for job in self.window.start_all() {
                self.hand_over(job);
            }
        }
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, sequence), ()) = entry.remove_entry();
            if let Some(job) = self.window.start(sequence) {
                self.hand_over(job);
            }
        }
    }

    fn route_some(&mut self) {
        for _ in 0..ROUTE_AT_ONCE {
            if !self.can_route() {
                break;
            }
            let Some(item) = self.reading.buffer.pop_front() else { break };
            self.route(item);
        }
        self.pass_log_end();
    }

    /// Tells the window of the log's end once everything before it is there.
    fn pass_log_end(&mut self) {
        if self.reading.buffer.is_empty()
            && let Some((end, damaged)) = self.log_end.take()
        {
            let gone = self.gone(damaged, end.sequence + 1);
            self.window.log_ends(end, gone);
        }
    }

    /// What so many records that are gone were to this sink; their sequences are below `below`.
    fn gone(&mut self, count: u64, below: u64) -> Gone {
        // A record that is in the log takes itself off when it is passed.
        let letters: Vec<u64> = self.dead_lettered.range(..below).copied().take(count as usize).collect();
        letters.iter().for_each(|letter| _ = self.dead_lettered.remove(letter));
        let dead_lettered = letters.len() as u64;
        if dead_lettered > 0 {
            sometimes::happened("a dead letter whose record is damaged");
            self.letters_gone.extend(letters);
        }
        let damaged = count - dead_lettered;
        self.parts.metrics.sink_damaged(&self.parts.name, damaged);
        Gone { damaged, dead_lettered }
    }

    fn route(&mut self, Item { record, damaged }: Item) {
        let gone = self.gone(damaged, record.stored.sequence);
        let place = Place::new(&record, gone);
        let (mut stored, replaces) = (record.stored, record.replaces);
        let Parts { name, metrics, redaction, router, log, .. } = &self.parts;
        // Its earlier record was damaged after this sink had had it, or had it among its dead letters.
        if replaces.is_some_and(|replaced| self.parts.claim.had(replaced)) {
            sometimes::happened("a record that a sink had before it was damaged");
            metrics.sink_filtered(name, ALREADY_SENT);
            return self.window.add_settled(&stored, place, Settled::Filtered);
        }
        // Sent, it would be delivered and among the dead letters too.
        if self.dead_lettered.remove(&stored.sequence) {
            sometimes::happened("a dead letter that is passed once more");
            return self.window.add_settled(&stored, place, Settled::DeadLettered);
        }
        let decision = match decide(router, redaction, log.instance(), &mut stored) {
            Ok(decision) => decision,
            Err(error) => return self.park(stored, place, Reason::Other.as_str(), error.to_string()),
        };
        match decision {
            Decision::Send(outgoing) => {
                if self.routed < self.parts.max_in_flight {
                    self.routed += 1;
                    self.repeated_through = stored.sequence;
                }
                let job = Job { stored, outgoing: Arc::new(outgoing) };
                if let Some(job) = self.window.add(job, place) {
                    self.hand_over(job);
                }
            }
            Decision::Skip(skip) => {
                metrics.sink_filtered(name, skip.as_str());
                self.window.add_settled(&stored, place, Settled::Filtered);
            }
            Decision::Reject { fault, message } => self.park(stored, place, fault.as_str(), message),
        }
    }

    /// Makes a dead letter of an event that was not handed over.
    fn park(&mut self, stored: Arc<Stored>, place: Place, reason: &str, message: String) {
        self.parts.metrics.sink_error(&self.parts.name, reason);
        self.window.add_parking(&stored, place);
        self.rejected.push((stored, Cause { reason: reason.to_owned(), message }));
    }

    fn hand_over(&mut self, job: Job) {
        let sequence = job.stored.sequence;
        let confirmation = self.parts.sink.send(job.outgoing);
        self.in_flight.push(Box::pin(async move { (sequence, confirmation.await) }));
    }

    /// Whether what is in the buffer may be routed now.
    fn can_route(&self) -> bool {
        !self.reading.buffer.is_empty() && self.halted_until.is_none() && self.takes_more()
    }

    fn next_wake_up(&self, deadline: Option<Instant>) -> Instant {
        let never = Instant::now() + Duration::from_secs(3600);
        // A halt ends with a confirmation if it is still waited for; until then there is nothing to wake up for.
        let halted = self.halted_until.filter(|_| self.in_flight.is_empty());
        let delayed = self.delayed.keys().next().map(|(at, _)| *at).filter(|_| self.halted_until.is_none());
        let unnoted = self.noting.is_none() && self.window.progress() != self.noted;
        let note = (unnoted && self.disk_retry_at.is_none()).then_some(self.note_at);
        let all = [Some(never), halted, delayed, note, self.disk_retry_at, deadline];
        all.into_iter().flatten().min().unwrap_or(never)
    }
}
