//! `GET /api/tap`: events as they are stored, line by line, for people to watch.
//!
//! It reads the journal like a sink does, and holds nobody up: what a slow listener has not taken is passed over, and he
//! is told of how many events that was.

use super::events::record;
use super::journal::{Journal, Query, Tail};
use super::paging::given;
use super::reply::{Params, problem};
use crate::shutdown::Shutdown;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Listeners at a time; one more is refused.
const MAX_TAPS: usize = 8;
/// Events that wait for one listener, and about how many bytes of them; what comes beyond either is passed over.
const MAX_WAITING: usize = 1000;
const MAX_BYTES: usize = 4 << 20;
/// About how many bytes are handed on at once.
const PIECE: usize = 64 << 10;
/// Events are let come together for so long.
const REST: Duration = Duration::from_millis(50);
/// An empty line after so long without another one, so that nobody on the way takes the connection for dead.
const STILL_THERE: Duration = Duration::from_secs(5);

/// One line of the answer; beside these there are empty ones, which mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TapLine<T> {
    /// As consumers get it in `format: json`.
    Event(T),
    /// So many events came at this place that were not waited for.
    Skipped(u64),
    /// The last line: why there are no more.
    Ended(String),
}

/// What stands behind the `?`; an empty value is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    #[serde(rename = "type")]
    kind: String,
    sandbox_id: String,
    source: String,
}

/// Whoever listens. Cloning shares it.
#[derive(Clone)]
pub(super) struct Taps {
    journal: Journal,
    places: Arc<Semaphore>,
    ending: Shutdown,
}

impl Taps {
    /// They end once `ending` is requested.
    pub(super) fn new(journal: Journal, ending: Shutdown) -> Self {
        Self { journal, places: Arc::new(Semaphore::new(MAX_TAPS)), ending }
    }
}

/// From the next event on.
pub(super) async fn listen(State(taps): State<Taps>, Params(wanted): Params<Wanted>) -> Response {
    let Taps { journal, places, ending } = taps;
    let query = match Query::of_type(given(&wanted.kind)) {
        Ok(query) => Query {
            sandbox_id: given(&wanted.sandbox_id).map(str::to_owned),
            source: given(&wanted.source).map(str::to_owned),
            ..query
        },
        Err(error) => return problem(StatusCode::BAD_REQUEST, format!("type: {error}")),
    };
    let Ok(place) = places.try_acquire_owned() else {
        let message = format!("{MAX_TAPS} taps are open, and no more may be; end one of them");
        return problem(StatusCode::SERVICE_UNAVAILABLE, message);
    };
    let waiting = Arc::new(Waiting::default());
    let mut reading = JoinSet::new();
    reading.spawn(read(journal.tail(query), journal.instance().to_owned(), Arc::clone(&waiting), ending));
    let told = Told { waiting, is_first: true, is_over: false, _reading: reading, _place: place };
    let body = Body::from_stream(stream::unfold(told, Told::next));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn read(mut tail: Tail, instance: String, waiting: Arc<Waiting>, mut ending: Shutdown) {
    let why = loop {
        // Looked at first: what came before the end is read then.
        let is_last = ending.is_requested();
        let (mut open, to, own) = (tail, Arc::clone(&waiting), instance.clone());
        let read = tokio::task::spawn_blocking(move || {
            let read = open.read_all(|stored| to.add(record(stored, &own)));
            (open, read)
        });
        match read.await {
            Ok((open, Ok(()))) => tail = open,
            Ok((_, Err(error))) => break format!("the journal cannot be read: {error}"),
            Err(error) => break format!("the journal cannot be read: {error}"),
        }
        if is_last {
            break "the daemon ends".to_owned();
        }
        tokio::select! {
            () = ending.requested() => {}
            () = tail.more() => tokio::time::sleep(REST).await,
        }
    };
    waiting.end(why);
}

/// What the listener has not taken yet.
#[derive(Default)]
struct Waiting {
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Default)]
struct Held {
    lines: VecDeque<TapLine<Box<RawValue>>>,
    bytes: usize,
}

impl Waiting {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, record: Option<Box<RawValue>>) {
        let Some(record) = record else { return };
        let mut held = self.held();
        let length = record.get().len();
        let is_full = held.lines.len() >= MAX_WAITING || (held.bytes + length > MAX_BYTES && !held.lines.is_empty());
        match held.lines.back_mut() {
            Some(TapLine::Skipped(skipped)) if is_full => *skipped += 1,
            _ if is_full => held.lines.push_back(TapLine::Skipped(1)),
            _ => {
                held.bytes += length;
                held.lines.push_back(TapLine::Event(record));
            }
        }
        drop(held);
        self.changed.notify_one();
    }

    fn end(&self, why: String) {
        self.held().lines.push_back(TapLine::Ended(why));
        self.changed.notify_one();
    }

    /// Some of them, as text; and whether the last one is among them.
    fn take(&self) -> (Vec<u8>, bool) {
        let (mut text, mut is_over) = (Vec::new(), false);
        let mut held = self.held();
        while text.len() < PIECE
            && let Some(line) = held.lines.pop_front()
        {
            if let TapLine::Event(record) = &line {
                held.bytes -= record.get().len();
            }
            is_over = matches!(line, TapLine::Ended(_));
            // Plain data with names for keys: it cannot fail.
            text.append(&mut serde_json::to_vec(&line).unwrap_or_default());
            text.push(b'\n');
        }
        (text, is_over)
    }
}

/// The answer's body. Dropped when the listener goes away, and the reading with it.
struct Told {
    waiting: Arc<Waiting>,
    /// An empty line at once says that the tap is open.
    is_first: bool,
    is_over: bool,
    _reading: JoinSet<()>,
    _place: OwnedSemaphorePermit,
}

impl Told {
    /// The next lines, once there are any.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.is_over {
            return None;
        }
        let mut text = b"\n".to_vec();
        while !std::mem::take(&mut self.is_first) {
            (text, self.is_over) = self.waiting.take();
            if !text.is_empty() {
                break;
            }
            if tokio::time::timeout(STILL_THERE, self.waiting.changed.notified()).await.is_err() {
                text = b"\n".to_vec();
                break;
            }
        }
        Some((Ok(Bytes::from(text)), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::to_raw_value;

    /// Events are a number, and something that makes them long enough for several pieces.
    fn told(waiting: &Waiting) -> Vec<TapLine<u64>> {
        let (text, _) = waiting.take();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| match serde_json::from_slice::<TapLine<(u64, String)>>(line).expect("a line") {
                TapLine::Event((number, _)) => TapLine::Event(number),
                TapLine::Skipped(skipped) => TapLine::Skipped(skipped),
                TapLine::Ended(why) => TapLine::Ended(why),
            })
            .collect()
    }

    #[test]
    fn what_is_passed_over_is_told_at_its_place() {
        let waiting = Waiting::default();
        let padding = "x".repeat(500);
        let add = |from: u64, to: u64| (from..to).for_each(|n| waiting.add(to_raw_value(&(n, &padding)).ok()));
        let most = MAX_WAITING as u64;
        add(0, most + 5);
        let mut lines = told(&waiting);
        assert!(lines.len() > 100 && lines.len() < MAX_WAITING / 2, "{}", lines.len());
        add(5000, 5002);
        waiting.end("over".to_owned());
        while !matches!(lines.last(), Some(TapLine::Ended(_))) {
            lines.extend(told(&waiting));
        }
        let expected = (0..most).map(TapLine::Event).chain([TapLine::Skipped(5)]);
        let expected: Vec<_> =
            expected.chain([5000, 5001].map(TapLine::Event)).chain([TapLine::Ended("over".to_owned())]).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn large_events_are_passed_over_by_their_bytes() {
        let waiting = Waiting::default();
        let large = "x".repeat(MAX_BYTES / 4);
        (0..10).for_each(|_| waiting.add(to_raw_value(&large).ok()));
        let held = waiting.held();
        assert!(held.lines.len() == 4 && matches!(held.lines.back(), Some(TapLine::Skipped(7))));
    }
}
