//! A sweep that an operator asks for: by the same poller, so that there is one sweep at a time, within one budget, through
//! the same door.

use super::fetch::List;
use super::{Backfill, Cut, earlier};
use crate::e2b::MAX_EVENTS;
use crate::intake::Age;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

/// Orders that wait for the poller; what comes beyond them is refused.
const MAX_WAITING: usize = 4;

/// What to sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// Only this sandbox's events, by its own list.
    pub sandbox_id: Option<String>,
    /// How far back. Without it as far as the poller goes, or for one sandbox as far as the dedupe window does.
    pub since: Option<jiff::Timestamp>,
    /// Whether events are taken that are older than the dedupe window.
    pub any_age: bool,
}

/// What a sweep has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BackfillTally")]
pub struct Tally {
    /// Listed events that were looked at; each is one of the next four.
    pub found: u64,
    /// Accepted: nobody had told of them before.
    pub new: u64,
    /// In the store already.
    pub known: u64,
    /// Refused: older than the dedupe window allows.
    pub too_old: u64,
    /// Refused for another reason: too far in the future, no event, another team's.
    pub refused: u64,
    /// Pages that were read.
    pub pages: u64,
    /// Calls that those took, repeated ones included.
    pub calls: u64,
}

/// Why a sweep by hand did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// In the API's or the disk's words.
    #[error("{0}")]
    Cut(String),
    /// The daemon ends, or the poller makes room for one with other settings.
    #[error(
        "the daemon ends, or its settings were read again; ask again once it is back: what was taken by then is known, and \
         is not taken twice"
    )]
    Draining,
}

/// No order is taken now: several wait already, or the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Hands orders to a source's poller. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Handle(mpsc::Sender<Task>);

/// The handles of all sources that have an API, by name. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Handles(Arc<RwLock<BTreeMap<String, Handle>>>);

impl Handles {
    /// These and no others from now on.
    pub fn replace(&self, handles: BTreeMap<String, Handle>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = handles;
    }

    /// Those there are now.
    pub fn all(&self) -> BTreeMap<String, Handle> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the poller gets.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) order: Order,
    pub(super) progress: watch::Sender<Tally>,
    pub(super) ended: oneshot::Sender<Result<Tally, Unfinished>>,
}

/// A sweep that waits or is under way. Dropping it ends the sweep.
#[derive(Debug)]
pub struct Underway {
    /// What it has come to so far.
    pub progress: watch::Receiver<Tally>,
    ended: oneshot::Receiver<Result<Tally, Unfinished>>,
}

pub(super) fn channel() -> (Handle, mpsc::Receiver<Task>) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (Handle(sender), receiver)
}

impl Handle {
    /// Asks for a sweep; it begins once those that were asked for before, and the poller's own, have ended.
    ///
    /// # Errors
    /// If too many wait.
    pub fn ask(&self, order: Order) -> Result<Underway, Busy> {
        let (progress, seen) = watch::channel(Tally::default());
        let (ended, end) = oneshot::channel();
        self.0.try_send(Task { order, progress, ended }).map_err(|_| Busy)?;
        Ok(Underway { progress: seen, ended: end })
    }
}

impl Underway {
    /// Waits for the end; not to be called again after it.
    pub async fn ended(&mut self) -> Result<Tally, Unfinished> {
        // A poller that is gone has ended with the daemon.
        (&mut self.ended).await.unwrap_or(Err(Unfinished::Draining))
    }
}

impl From<Cut> for Unfinished {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Draining => Self::Draining,
            Cut::Api(_) | Cut::Spool(_) | Cut::Store(_) | Cut::ClockSet | Cut::Abandoned => Self::Cut(cut.to_string()),
        }
    }
}

impl Backfill {
    /// Does what an operator asked for, and tells him what it came to.
    pub(super) async fn obey(&mut self, task: Task) {
        let Task { order, progress, ended } = task;
        let source = self.parts.source.clone();
        self.offer.tally = Tally::default();
        self.offer.age = if order.any_age { Age::Any } else { Age::Known };
        self.watcher = Some(progress);
        let swept = match (&order.sandbox_id, order.since) {
            (None, None) => {
                // Nothing is taken for quiet: whoever asks wants the whole of it looked at.
                self.known = None;
                self.poll().await
            }
            (sandbox_id, since) => {
                let list = sandbox_id.clone().map_or(List::Team, List::Sandbox);
                self.look_back(&list, since, order.any_age).await
            }
        };
        self.watcher = None;
        self.offer.age = Age::Known;
        let tally = self.offer.tally;
        match &swept {
            Ok(()) => tracing::info!(%source, ?order, ?tally, "a backfill by hand has ended"),
            Err(cut) => {
                tracing::warn!(%source, ?order, ?tally, error = %cut, "a backfill by hand did not come to its end")
            }
        }
        // Whoever asked may have gone away.
        let _ = ended.send(swept.map(|()| tally).map_err(Unfinished::from));
    }

    /// Takes what a list has from `since` on. The cursor stays where it is: it says that everything up to it is in the
    /// store, which one sandbox's list does not tell, nor one that is read from some other time on.
    async fn look_back(&mut self, list: &List, since: Option<Timestamp>, any_age: bool) -> Result<(), Cut> {
        let window = earlier(self.parts.intake.now(), self.parts.intake.dedupe_window());
        let mut floor = since.unwrap_or(if any_age { Timestamp::MIN } else { window });
        loop {
            let (page, _) = self.fetch(list, 0, MAX_EVENTS).await?;
            // What lies below the floor was not asked for, however old it is.
            let fetched = self.walk(list, page, floor, Timestamp::MIN).await?;
            match self.accept(fetched.spool).await? {
                // What stands above the depth that the API refuses is taken; what lies below was not looked at.
                None => return fetched.refused.map_or(Ok(()), |refused| Err(refused.into())),
                Some(rest) if rest == floor => {
                    let full = io::Error::new(io::ErrorKind::StorageFull, "too small for the events of one time");
                    return Err(full.into());
                }
                Some(rest) => floor = rest,
            }
        }
    }
}
