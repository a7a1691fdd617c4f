//! What operators have sent once more, beside the live road: events of the past (`replay`), and dead letters (`letters`); and
//! a sink that they tell to go on (`gap`).
//!
//! Such a record keeps its id and says in a header what it is. It takes the same sink, and so the same connection; between
//! the two roads no order is kept.

mod forward;
mod gap;
mod letter;
mod letters;
mod replay;
mod send;

pub(super) use gap::Accepted;
pub use letters::{Retried, Retrying};
pub use replay::{Ended, Found, Replay, Wanted};

use super::BACKOFF;
use super::status::{About, Status};
use crate::backoff::Backoff;
use crate::decode::Redaction;
use crate::executor::Executor;
use crate::metrics::Metrics;
use crate::route::Router;
use crate::shutdown::Shutdown;
use crate::sink::Sink;
use crate::store::{Claim, EventLog};
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, Notify, mpsc, watch};

/// What both need of a sink.
pub(super) struct Road {
    pub(super) name: String,
    pub(super) about: About,
    pub(super) log: EventLog,
    /// What of the store is this sink's.
    pub(super) claim: Claim,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) router: Arc<Router>,
    pub(super) redaction: Redaction,
    pub(super) metrics: Metrics,
    pub(super) executor: Executor,
    /// For jitter.
    pub(super) random: std::sync::Mutex<fastrand::Rng>,
}

/// One sink, for operators. Cloning is cheap; it outlives the sink, and then says that the daemon ends.
#[derive(Clone)]
pub struct Handle {
    road: Arc<Road>,
    status: watch::Receiver<Status>,
    replay: Arc<watch::Sender<Option<Replay>>>,
    /// Held while a replay is begun or ended.
    changing: Arc<Mutex<()>>,
    /// Held while letters are retried.
    retrying: Arc<Mutex<()>>,
    /// Told when letters have come.
    parked: Arc<Notify>,
    /// To the loop, where somebody accepts a gap.
    accepting: mpsc::Sender<Accepted>,
    ending: Shutdown,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// One at a time.
    #[error("{0}")]
    Busy(&'static str),
    /// What was asked for makes no sense; says what to change.
    #[error("{0}")]
    Invalid(String),
    /// The store's disk.
    #[error("the store: {0}")]
    Store(#[from] std::io::Error),
    /// There is nothing to be accepted.
    #[error("the sink is not halted at a gap in the log; `sinks list` says how it is doing")]
    NoGap,
    /// Nothing is missing that could be given up.
    #[error(
        "nothing is missing at this gap: the sink's position and the store's log contradict each other, as after one of them \
         was put back from a copy; take the sink out of the settings, `sinks forget` it, and put it back with `start`"
    )]
    Contradiction,
    /// The sink goes, or the daemon ends.
    #[error("the sink is being stopped; ask again once it is back")]
    Ending,
}

impl Road {
    fn backoff(&self) -> Backoff {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        Backoff::new(BACKOFF.0, BACKOFF.1, random.fork())
    }
}

impl Handle {
    /// And where the loop hears of a gap that is accepted.
    pub(super) fn new(
        road: Road,
        status: watch::Receiver<Status>,
        ending: Shutdown,
    ) -> (Self, mpsc::Receiver<Accepted>) {
        let replay = Arc::new(watch::Sender::new(replay::recall(&road)));
        let (changing, retrying, parked) = <(Arc<Mutex<()>>, Arc<Mutex<()>>, Arc<Notify>)>::default();
        let (accepting, accepted) = gap::channel();
        let road = Arc::new(road);
        (Self { road, status, replay, changing, retrying, parked, accepting, ending }, accepted)
    }

    /// Letters have come.
    pub(super) fn parked(&self) {
        self.parked.notify_one();
    }

    /// What it is.
    pub fn about(&self) -> &About {
        &self.road.about
    }

    /// How the sink is doing.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}
