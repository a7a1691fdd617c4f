//! One connection, from the first byte to the last.

use super::activity::Activity;
use super::io::{Trace, Traced};
use super::listener::Limits;
use crate::shutdown::Shutdown;
use crate::source::webhook::Received;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

/// Longest header of one HTTP/1 request, and with it the read buffer of a connection, in bytes. Thousands of slow
/// senders cost this each, whatever they have sent.
const HTTP1_BUFFER: usize = 8 << 10;

/// Longest header of one HTTP/2 request, in bytes.
const HTTP2_HEADER: u32 = 16 << 10;

/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 128;

/// What an HTTP/2 peer may send before we have read it, in bytes, per request and per connection. Bodies are copied out
/// as they come and counted there; this is what one connection costs beside that.
const HTTP2_STREAM_WINDOW: u32 = 64 << 10;
const HTTP2_CONNECTION_WINDOW: u32 = 128 << 10;

/// How long, and how much, is still read from a peer that goes on sending after its answer. Closing at once would reset
/// the connection, and the peer might never see the answer (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 8 << 20;

/// How long a peer that has connected and not asked yet has for that, once the listener ends: its request may be under way,
/// and hyper would close without an answer.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// The answer to a header that does not end; hyper would close without one.
const HEADER_TIMEOUT: &str = concat!(
    "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 62\r\n\r\n",
    r#"{"success":false,"error":"the request did not arrive in time"}"#
);

/// What answers the requests.
pub trait App:
    Service<axum::extract::Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> App for S where
    S: Service<axum::extract::Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Why HTTP has ended on a connection.
enum End {
    /// As the peer or a response's header wanted, or by an error.
    Http,
    /// No request came, or not the whole of its header.
    Idle,
    /// A new connection needs the place.
    Evicted,
}

pub(super) async fn serve<S>(
    stream: S,
    peer: SocketAddr,
    app: impl App,
    activity: Arc<Activity>,
    limits: Limits,
    mut shutdown: Shutdown,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let trace = Trace::new();
    let end = http(stream, peer, &trace, app, &activity, &limits, &mut shutdown).await;
    let Some(mut stream) = trace.take_back() else { return };
    let answer = match end {
        End::Evicted => return,
        End::Http => "",
        End::Idle if trace.is_inside_http1_header() => HEADER_TIMEOUT,
        End::Idle => return,
    };
    if trace.is_ended_by_peer() || shutdown.is_requested() {
        return;
    }
    tokio::select! {
        () = linger(&mut stream, answer) => {}
        () = tokio::time::sleep(LINGER) => {}
        () = activity.evicted() => {}
        () = shutdown.requested() => {}
    }
}

async fn http<S>(
    stream: S,
    peer: SocketAddr,
    trace: &Arc<Trace<S>>,
    app: impl App,
    activity: &Arc<Activity>,
    limits: &Limits,
    shutdown: &mut Shutdown,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn({
        let (trace, activity) = (Arc::clone(trace), Arc::clone(activity));
        move |request: Request<Incoming>| {
            let in_progress = activity.begin();
            let mut request = request.map(|body| Body::new(in_progress.watch(body)));
            // Requests of HTTP/2 share the connection, so there only the header's end is known.
            let began = if request.version() == Version::HTTP_2 { None } else { trace.request_began() };
            request.extensions_mut().insert(Received(began.unwrap_or_else(Instant::now)));
            request.extensions_mut().insert(ConnectInfo(peer));
            let answering = app.clone().oneshot(request);
            async move {
                let response = answering.await;
                // An answer that comes bit by bit is not made before its last one.
                response.map(|response| response.map(|body| Body::new(in_progress.until_sent(body))))
            }
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    // A peer may end its side after the request and still wants the answer.
    builder.http1().half_close(true).max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(HTTP2_HEADER)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW);
    let stream = TokioIo::new(Traced::new(stream, Arc::clone(trace)));
    let mut connection = Box::pin(builder.serve_connection(stream, service));
    let (mut draining, mut closing) = (false, pending::<()>().boxed());
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    // The peer's doing; whatever of it concerns a delivery was answered and counted there.
                    tracing::debug!(%error, "a connection ended early");
                }
                return End::Http;
            }
            () = shutdown.requested(), if !draining => {
                draining = true;
                let grace = if activity.is_fresh() { FIRST_REQUEST } else { Duration::ZERO };
                closing = tokio::time::sleep(grace).boxed();
            }
            () = closing.as_mut() => {
                closing = pending().boxed();
                connection.as_mut().graceful_shutdown();
            }
            () = activity.idle_for(limits.request_timeout) => return End::Idle,
            () = activity.evicted() => return End::Evicted,
        }
    }
}

/// Says the last word and reads what the peer still sends, until it ends. The caller bounds the time.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, answer: &str) {
    if stream.write_all(answer.as_bytes()).await.is_err() || stream.shutdown().await.is_err() {
        return;
    }
    // Not in the future itself, where every connection would have it from its beginning.
    let mut scrap = vec![0; 4096];
    let mut left = LINGER_BYTES;
    while let Ok(length) = stream.read(&mut scrap).await
        && length > 0
        && length <= left
    {
        left -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_made_answer_has_the_length_that_it_names() {
        let (header, body) = HEADER_TIMEOUT.split_once("\r\n\r\n").expect("a header");
        assert!(header.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    }
}
