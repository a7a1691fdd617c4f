//! How many connections are open, and which of them gives way to a new one.
//!
//! When all places are taken, the connection that has been waiting for longest without a complete request is closed. A
//! genuine delivery sends its request at once and never waits for long, so a flood of idle or trickling connections only
//! pushes out itself. Connections whose request is being handled are never closed; when there are only such, accepting
//! waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

pub(super) struct Connections {
    max: usize,
    state: Mutex<State>,
    /// Told of every place that becomes free, and of every connection that begins or ends to wait.
    changed: Notify,
}

#[derive(Default)]
struct State {
    open: usize,
    next_turn: u64,
    /// By how long they have been waiting.
    waiting: BTreeMap<u64, Arc<Notify>>,
    /// Those that were asked to close, and have not yet.
    closing: BTreeSet<u64>,
}

impl Connections {
    pub(super) fn new(max: usize) -> Arc<Self> {
        // Without any place nobody could ever be served.
        Arc::new(Self { max: max.max(1), state: Mutex::default(), changed: Notify::new() })
    }

    /// A place for a new connection, at the expense of the one that has been waiting for longest.
    pub(super) async fn place(self: &Arc<Self>) -> Place {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before looking, so that no change between looking and waiting is missed.
            changed.as_mut().enable();
            if let Some(place) = self.free_place() {
                return place;
            }
            self.close_oldest();
            changed.await;
        }
    }

    fn free_place(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.lock();
        if state.open >= self.max {
            return None;
        }
        state.open += 1;
        drop(state);
        let place = Place { connections: Arc::clone(self), evicted: Arc::default(), turn: Mutex::new(None) };
        place.set_waiting(true);
        Some(place)
    }

    /// Asks the connection that has been waiting for longest to close, unless one is closing already.
    pub(super) fn close_oldest(&self) {
        let mut state = self.lock();
        if state.closing.is_empty()
            && let Some((number, oldest)) = state.waiting.pop_first()
        {
            state.closing.insert(number);
            oldest.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection. Free again when dropped.
pub(super) struct Place {
    connections: Arc<Connections>,
    evicted: Arc<Notify>,
    /// While it waits: its number in the queue.
    turn: Mutex<Option<u64>>,
}

impl Place {
    /// Returns when the connection has to give way.
    pub(super) async fn evicted(&self) {
        loop {
            self.evicted.notified().await;
            // Its request may have become complete since it was asked.
            let turn = *self.turn();
            if turn.is_some_and(|number| self.connections.lock().closing.contains(&number)) {
                return;
            }
        }
    }

    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the connection waits for (the rest of) a request, and so may have to give way.
    pub(super) fn set_waiting(&self, waiting: bool) {
        let mut turn = self.turn();
        let mut state = self.connections.lock();
        match (*turn, waiting) {
            (None, true) => {
                state.next_turn += 1;
                *turn = Some(state.next_turn);
                let number = state.next_turn;
                state.waiting.insert(number, Arc::clone(&self.evicted));
                drop(state);
                self.connections.changed.notify_one();
            }
            (Some(number), false) => {
                state.waiting.remove(&number);
                *turn = None;
                if state.closing.remove(&number) {
                    // Not this one, then.
                    drop(state);
                    self.connections.changed.notify_one();
                }
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set_waiting(false);
        self.connections.lock().open -= 1;
        self.connections.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn the_one_that_waits_for_longest_gives_way() {
        let connections = Connections::new(2);
        let first = connections.place().await;
        let second = connections.place().await;
        // The first has been served meanwhile, so that the second has been waiting for longer.
        first.set_waiting(false);
        first.set_waiting(true);
        let mut third = Box::pin(connections.place());
        assert!(third.as_mut().now_or_never().is_none(), "no place until one is really closed");
        second.evicted().await;
        assert!(first.evicted().now_or_never().is_none());
        drop(second);
        third.await;
    }

    #[tokio::test]
    async fn nobody_gives_way_whose_request_is_being_handled() {
        let connections = Connections::new(1);
        let busy = connections.place().await;
        busy.set_waiting(false);
        let mut next = Box::pin(connections.place());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(busy.evicted().now_or_never().is_none());
        busy.set_waiting(true);
        assert!(next.as_mut().now_or_never().is_none(), "asks it to close now");
        busy.evicted().await;
        drop(busy);
        drop(next.await);
        let state = connections.lock();
        assert_eq!((state.open, state.waiting.len(), state.closing.len()), (0, 0, 0), "nothing is left");
    }

    #[tokio::test]
    async fn one_gives_way_at_a_time_and_not_once_its_request_is_complete() {
        let connections = Connections::new(2);
        let (first, second) = (connections.place().await, connections.place().await);
        let mut next = Box::pin(connections.place());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(next.as_mut().now_or_never().is_none());
        assert!(second.evicted().now_or_never().is_none(), "the first is asked, and that is enough");
        first.set_waiting(false);
        assert!(first.evicted().now_or_never().is_none(), "its request came in time");
        assert!(next.as_mut().now_or_never().is_none());
        second.evicted().await;
        drop(second);
        next.await;
    }
}
