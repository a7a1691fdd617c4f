//! Reading a delivery's body within its limits.

use super::buffer::{Buffers, NoRoom};
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::time::Instant;

/// Why a body is not there as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Over `max_body`.
    TooLarge,
    /// Not there at the deadline.
    TooSlow,
    /// `max_buffered` is used up.
    NoRoom,
    /// The sender went away, or does not keep to HTTP.
    Broken,
}

impl From<NoRoom> for Unread {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Whether the announced length alone is too much.
pub(super) fn is_announced_over(body: &Body, max: usize) -> bool {
    body.size_hint().lower() > max as u64
}

/// Every byte up to `max`, by `deadline`.
pub(super) async fn read(
    mut body: Body,
    max: usize,
    deadline: Instant,
    buffers: &Arc<Buffers>,
) -> Result<Bytes, Unread> {
    let expected = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let mut arriving = buffers.arriving(expected);
    let late = tokio::time::sleep_until(deadline);
    tokio::pin!(late);
    loop {
        // Most bodies are there already, and need no timer; what never ends to be there is over `max` at last.
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = &mut late => return Err(Unread::TooSlow),
            () = arriving.taken() => return Err(Unread::NoRoom),
        };
        match frame {
            None => return Ok(arriving.finish()?),
            Some(Err(_)) => return Err(Unread::Broken),
            Some(Ok(frame)) => {
                // Trailers are nothing that was signed.
                let Ok(chunk) = frame.into_data() else { continue };
                if arriving.length().saturating_add(chunk.len()) > max {
                    return Err(Unread::TooLarge);
                }
                arriving.push(&chunk)?;
            }
        }
    }
}
