//! What waits for the committer: webhooks before everything else, each lane bounded.

use crate::event::{Arrival, Event, Origin};
use crate::store::dedupe::day_index::DayIndex;
use crate::store::errors::Refused;
use crate::store::log::frame::{Day, DedupeHash};
use crate::store::log::notes::Control;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Most events in one group.
pub(super) const MAX_GROUP: usize = 1024;
/// About how many bytes of bodies one group holds.
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Most events of backfill, scrape and the relay's own that wait.
const MAX_BACKGROUND: usize = 4096;

/// What became of an event that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// On disk, for the first time.
    New {
        /// Its place in the log.
        sequence: u64,
    },
    /// Its id is known, and on disk.
    Duplicate,
}

pub(in crate::store) type Reply = oneshot::Sender<Result<Accepted, Refused>>;

pub(in crate::store) struct Entry {
    pub(in crate::store) event: Event,
    pub(in crate::store) arrival: Arrival,
    pub(in crate::store) hash: DedupeHash,
    pub(in crate::store) reply: Reply,
}

pub(in crate::store) enum Command {
    /// Makes a note durable.
    Note(Control, oneshot::Sender<Result<(), Refused>>),
    /// An index is ready.
    DayOpened(DayIndex),
    /// This day's index is not to be had now, and is tried again.
    DayUnavailable(Day, Refused),
    /// The indexes of these days know ids whose records are gone: they are made anew.
    Rebuild(Vec<Day>),
}

#[derive(Default)]
struct State {
    commands: Vec<Command>,
    webhooks: VecDeque<Entry>,
    background: VecDeque<Entry>,
    closed: bool,
    /// The committer waits, and nobody has woken it yet.
    waits: bool,
    /// Nobody takes anything out any more.
    ended: bool,
}

/// What the committer takes at once.
#[derive(Default)]
pub(in crate::store) struct Work {
    pub(super) commands: Vec<Command>,
    pub(in crate::store) entries: Vec<Entry>,
    /// Nothing more will come.
    pub(in crate::store) closed: bool,
}

pub(in crate::store) struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
    max_webhooks: usize,
}

impl Inbox {
    pub(in crate::store) fn new(max_webhooks: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), max_webhooks }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most events that wait here, and again most that wait for the index of one day.
    pub(in crate::store) fn limit(&self) -> usize {
        self.max_webhooks + MAX_BACKGROUND
    }

    /// Offers an event; its answer goes to `entry.reply`, or comes back at once where it cannot wait.
    pub(in crate::store) fn offer(&self, entry: Entry) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Draining);
        }
        let (lane, limit) = if entry.arrival.origin == Origin::Webhook {
            (&mut state.webhooks, self.max_webhooks)
        } else {
            (&mut state.background, MAX_BACKGROUND)
        };
        if lane.len() >= limit {
            return Err(Refused::Overloaded);
        }
        lane.push_back(entry);
        self.wake(state);
        Ok(())
    }

    /// Dropped, and with it who waits for its answer, where nobody takes it any more.
    pub(in crate::store) fn command(&self, command: Command) {
        let mut state = self.state();
        if !state.ended {
            state.commands.push(command);
            self.wake(state);
        }
    }

    /// A committer that is at work looks here by itself, and is spared the system call.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let waits = std::mem::take(&mut state.waits);
        drop(state);
        if waits {
            self.arrived.notify_one();
        }
    }

    /// Refuses whatever comes from now on; what waits is still worked off.
    pub(in crate::store) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.wake(state);
    }

    /// Nobody takes anything out any more: what comes is refused, and what waits is handed back.
    pub(in crate::store) fn end(&self) -> Vec<Entry> {
        let mut state = self.state();
        (state.closed, state.ended) = (true, true);
        let State { commands, webhooks, background, .. } = &mut *state;
        commands.clear();
        webhooks.drain(..).chain(background.drain(..)).collect()
    }

    /// Whether the committer sleeps until something comes.
    #[cfg(test)]
    pub(super) fn is_waited_at(&self) -> bool {
        self.state().waits
    }

    /// Waits for work, at most for `tick`, once it is closed only where a command is `owed`; takes what is there and fits
    /// into one group.
    pub(in crate::store) fn take(&self, tick: Duration, owed: bool) -> Work {
        let mut state = self.state();
        if state.is_empty() && (owed || !state.closed) {
            state.waits = true;
            (state, _) = self.arrived.wait_timeout(state, tick).unwrap_or_else(PoisonError::into_inner);
            state.waits = false;
        }
        let mut work = Work { commands: std::mem::take(&mut state.commands), ..Work::default() };
        let mut bytes = 0;
        take_lane(&mut state.webhooks, &mut work.entries, &mut bytes, MAX_GROUP, MAX_GROUP_BYTES);
        let room = (MAX_GROUP / 2).min(MAX_GROUP - work.entries.len());
        let most = work.entries.len() + room;
        let limit = (bytes + MAX_GROUP_BYTES / 2).min(MAX_GROUP_BYTES);
        take_lane(&mut state.background, &mut work.entries, &mut bytes, most, limit);
        work.closed = state.closed && state.is_empty();
        work
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.webhooks.is_empty() && self.background.is_empty()
    }
}

fn take_lane(lane: &mut VecDeque<Entry>, out: &mut Vec<Entry>, bytes: &mut usize, most: usize, most_bytes: usize) {
    while out.len() < most && *bytes < most_bytes {
        let Some(entry) = lane.pop_front() else { return };
        *bytes += entry.event.body.len();
        out.push(entry);
    }
}
