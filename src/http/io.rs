//! A connection's bytes: when a request began, the stream back once HTTP has done with it, and an end to peers that do not
//! read.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A peer that takes no byte of its answer for so long is not waited for any more: each connection is a place.
const UNREAD: Duration = Duration::from_secs(30);

/// The beginning of HTTP/2's preface, which no HTTP/1 request has (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// What the stream's user does not tell.
pub(super) struct Trace<S> {
    state: Mutex<State<S>>,
}

struct State<S> {
    /// The first bytes of the connection, as many as the preface has.
    first: Vec<u8>,
    /// When the first byte came since something was last written.
    request_began: Option<Instant>,
    ended_by_peer: bool,
    /// The stream, once its user has dropped it.
    returned: Option<S>,
}

impl<S> Trace<S> {
    pub(super) fn new() -> Arc<Self> {
        let state = State { first: Vec::new(), request_began: None, ended_by_peer: false, returned: None };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// When the request began whose header is or was being read.
    pub(super) fn request_began(&self) -> Option<Instant> {
        self.lock().request_began
    }

    /// Whether a part of an HTTP/1 request's header has come.
    pub(super) fn is_inside_http1_header(&self) -> bool {
        let state = self.lock();
        state.request_began.is_some() && !HTTP2_PREFACE.starts_with(&state.first)
    }

    /// Whether the peer will send nothing more.
    pub(super) fn is_ended_by_peer(&self) -> bool {
        self.lock().ended_by_peer
    }

    /// The stream, if its user has dropped it.
    pub(super) fn take_back(&self) -> Option<S> {
        self.lock().returned.take()
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if bytes.is_empty() {
            state.ended_by_peer = true;
            return;
        }
        let missing = HTTP2_PREFACE.len() - state.first.len();
        state.first.extend(bytes.iter().take(missing));
        state.request_began.get_or_insert_with(Instant::now);
    }
}

/// The stream, watched.
pub(super) struct Traced<S> {
    /// `None` only while being dropped.
    stream: Option<S>,
    trace: Arc<Trace<S>>,
    /// Runs while the peer takes nothing; made only then.
    unread: Option<Pin<Box<Sleep>>>,
}

impl<S> Traced<S> {
    pub(super) fn new(stream: S, trace: Arc<Trace<S>>) -> Self {
        Self { stream: Some(stream), trace, unread: None }
    }

    /// Ends a write that has been waiting for the peer for too long.
    fn bounded<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let unread = self.unread.get_or_insert_with(|| Box::pin(tokio::time::sleep(UNREAD)));
        unread.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Unpin> Traced<S> {
    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S> Drop for Traced<S> {
    fn drop(&mut self) {
        self.trace.lock().returned = self.stream.take();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Traced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let had_room = buffer.remaining() > 0;
        let result = self.stream()?.poll_read(context, buffer);
        if had_room && matches!(result, Poll::Ready(Ok(()))) {
            self.trace.saw(buffer.filled().get(before..).unwrap_or_default());
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Traced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.trace.lock().request_began = None;
        let written = self.stream()?.poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream()?.poll_flush(context);
        self.bounded(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.trace.lock().request_began = None;
        let written = self.stream()?.poll_write_vectored(context, buffers);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up_and_a_slow_one_is_not() {
        let (ours, theirs) = tokio::io::duplex(16);
        let began = Instant::now();
        let mut traced = Traced::new(ours, Trace::new());
        let error = traced.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, UNREAD));
        drop(theirs);

        let (ours, mut theirs) = tokio::io::duplex(16);
        let slow = tokio::spawn(async move {
            let mut read = 0;
            while let Ok(length @ 1..) = theirs.read(&mut [0; 8]).await {
                read += length;
                tokio::time::sleep(UNREAD * 9 / 10).await;
            }
            read
        });
        let mut traced = Traced::new(ours, Trace::new());
        traced.write_all(&[0; 64]).await.unwrap();
        drop(traced);
        assert_eq!(slow.await.unwrap(), 64);
    }
}
