//! What one connection is doing: waiting for a request, receiving one, or having one handled.

use super::connections::Place;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Shared by the connection's task and its requests, of which HTTP/2 has many at once.
pub(super) struct Activity {
    place: Place,
    state: Mutex<State>,
    idle_again: Notify,
}

struct State {
    /// Whose header has arrived and whose response is not made.
    requests: usize,
    /// Those of them whose body has arrived too.
    complete: usize,
    idle_since: Instant,
    /// No request has begun yet.
    fresh: bool,
}

impl Activity {
    pub(super) fn new(place: Place) -> Arc<Self> {
        let state = State { requests: 0, complete: 0, idle_since: Instant::now(), fresh: true };
        Arc::new(Self { place, state: Mutex::new(state), idle_again: Notify::new() })
    }

    /// A request's header has arrived.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        let mut state = self.lock();
        state.requests += 1;
        state.fresh = false;
        drop(state);
        InProgress(Arc::new(Progress { activity: Arc::clone(self), complete: Mutex::new(false) }))
    }

    /// Whether no request has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.lock().fresh
    }

    /// Returns when no request has been in progress for `limit`.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let (requests, since) = {
                let state = self.lock();
                (state.requests, state.idle_since)
            };
            if requests > 0 {
                self.idle_again.notified().await;
            } else if since.elapsed() >= limit {
                return;
            } else {
                tokio::time::sleep_until(since + limit).await;
            }
        }
    }

    /// Returns when the connection has to give way to a new one.
    pub(super) async fn evicted(&self) {
        self.place.evicted().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request, until its response is made, the body's last piece included.
pub(super) struct InProgress(Arc<Progress>);

struct Progress {
    activity: Arc<Activity>,
    complete: Mutex<bool>,
}

impl InProgress {
    /// Tells when the body has arrived.
    pub(super) fn watch(&self, body: Incoming) -> WatchedBody {
        let watched = WatchedBody { body, progress: Arc::clone(&self.0) };
        watched.look();
        watched
    }

    /// Holds the request in progress until its response has been handed to the connection as a whole.
    pub(super) fn until_sent<B>(self, body: B) -> HeldBody<B> {
        HeldBody { body, in_progress: Some(self) }
    }
}

impl Progress {
    fn set_complete(&self) {
        let mut complete = self.complete.lock().unwrap_or_else(PoisonError::into_inner);
        if !*complete {
            *complete = true;
            let mut state = self.activity.lock();
            state.complete += 1;
            self.activity.place.set_waiting(false);
        }
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        let mut complete = self.0.complete.lock().unwrap_or_else(PoisonError::into_inner);
        // From now on the body's end, should it still be seen, means nothing.
        let was_complete = std::mem::replace(&mut *complete, true);
        let mut state = activity.lock();
        state.requests -= 1;
        state.complete -= usize::from(was_complete);
        if state.complete == 0 {
            activity.place.set_waiting(true);
        }
        if state.requests == 0 {
            state.idle_since = Instant::now();
            activity.idle_again.notify_one();
        }
    }
}

/// The body of a response in the making.
pub(super) struct HeldBody<B> {
    body: B,
    in_progress: Option<InProgress>,
}

impl<B: Body + Unpin> Body for HeldBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            self.in_progress = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that tells when it is there as a whole.
pub(super) struct WatchedBody {
    body: Incoming,
    progress: Arc<Progress>,
}

impl WatchedBody {
    fn look(&self) {
        if self.body.is_end_stream() {
            self.progress.set_complete();
        }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.progress.set_complete(),
            Some(_) => self.look(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
