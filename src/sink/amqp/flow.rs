//! Whether the broker takes messages at all. RabbitMQ says `connection.blocked` where it is low on memory or disk, reads
//! nothing more from that connection, and says `connection.unblocked` when that is over: back-pressure, and no failure.

use crate::sink::{Reason, Scope, SendError};
use futures_util::{Stream, StreamExt};
use lapin::{ConnectionStatus, Event};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How soon it is seen that a connection has ended that was blocked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is so at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open,
    /// The broker's own words.
    Blocked(String),
    /// We have closed the connection.
    Closed,
}

/// For `trouble`.
#[derive(Default)]
pub(super) struct Flow {
    /// The newest connection's.
    newest: Mutex<Option<(watch::Receiver<State>, Arc<str>)>>,
    refusal: Arc<Refusal>,
}

/// What a queue has last refused (`basic.nack`, as a full one does), if none was confirmed since.
#[derive(Default)]
struct Refusal(Mutex<Option<String>>);

impl Refusal {
    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    /// Why nothing is confirmed, if it is the broker that wants it so.
    pub(super) fn trouble(&self) -> Option<String> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let blocked = newest.as_ref().and_then(|(state, peer)| match &*state.borrow() {
            State::Blocked(reason) => Some(blocked(peer, reason)),
            State::Open | State::Closed => None,
        });
        blocked.or_else(|| self.refusal.lock().clone())
    }

    /// Watches a connection by what it tells, until it ends.
    pub(super) fn follow(
        &self,
        events: impl Stream<Item = Event> + Send + 'static,
        status: ConnectionStatus,
        peer: Arc<str>,
    ) -> Gauge {
        let state = Arc::new(watch::Sender::new(State::Open));
        let newest = Some((state.subscribe(), Arc::clone(&peer)));
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = newest;
        let gauge = Gauge { state: Arc::clone(&state), peer: Arc::clone(&peer), refusal: Arc::clone(&self.refusal) };
        tokio::spawn(async move {
            let mut events = pin!(events);
            // Errors are those of channels, too, and not every end is told by one.
            while status.connected() {
                let event = match timeout(LOOK_EVERY, events.next()).await {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(_) => continue,
                };
                match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(%peer, reason, "the broker blocks publishers: records wait until it takes them");
                        set(&state, State::Blocked(reason));
                    }
                    Event::ConnectionUnblocked => {
                        tracing::info!(%peer, "the broker takes messages again");
                        set(&state, State::Open);
                    }
                    // Nothing of the rest is about publishing, and lapin's list may grow.
                    _ => {}
                }
            }
            set(&state, State::Open);
        });
        gauge
    }
}

/// One connection's.
pub(super) struct Gauge {
    state: Arc<watch::Sender<State>>,
    peer: Arc<str>,
    refusal: Arc<Refusal>,
}

impl Gauge {
    /// What came of one record.
    pub(super) fn note(&self, outcome: &Result<(), SendError>) {
        match outcome {
            Ok(()) => *self.refusal.lock() = None,
            Err(SendError::Retry { scope: Scope::Record, reason: Reason::Rejected, message }) => {
                *self.refusal.lock() = Some(message.clone());
            }
            Err(_) => {}
        }
    }

    /// In words, if it is blocked.
    pub(super) fn blocked(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Blocked(reason) => Some(blocked(&self.peer, reason)),
            State::Open | State::Closed => None,
        }
    }

    /// Returns once the broker takes messages, or the connection is at its end.
    pub(super) async fn opened(&self) {
        self.until(|state| !matches!(state, State::Blocked(_))).await;
    }

    /// Returns once the broker takes no messages.
    pub(super) async fn shut(&self) {
        self.until(|state| matches!(state, State::Blocked(_))).await;
    }

    /// Returns once [`Self::close`] was called.
    pub(super) async fn closed(&self) {
        self.until(|state| *state == State::Closed).await;
    }

    /// We close the connection: nobody is to wait for the broker any longer.
    pub(super) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    async fn until(&self, wanted: impl FnMut(&State) -> bool) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.state.subscribe().wait_for(wanted).await;
    }
}

/// Once closed it stays so.
fn set(state: &watch::Sender<State>, new: State) {
    state.send_if_modified(|state| {
        let changes = *state != State::Closed;
        if changes {
            *state = new;
        }
        changes
    });
}

fn blocked(peer: &str, reason: &str) -> String {
    format!("{peer} blocks publishers ({reason}): records wait until it takes them")
}
