//! The provider's list of events: each is listed a while after it happened, pages shift while they are read, and the API has
//! trouble of every kind. It outlives the daemons that ask it.

use bytes::Bytes;
use e2b_relay::client::{ClientError, Exchange, Method, Reply};
use fastrand::Rng;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The most that an event is listed late; the backfill's `overlap` is more.
pub(super) const LATE: Duration = Duration::from_millis(1_500);

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// Of so many calls one has no answer, a broken one, or one of 500.
    OneOf(u8),
    Away,
    TooMany,
    Unauthorized,
    /// No page that begins further down.
    Deepest(usize),
    /// Each row comes twice.
    Doubled,
}

pub(super) const TROUBLES: [Trouble; 9] = [
    Trouble::None,
    Trouble::None,
    Trouble::OneOf(2),
    Trouble::OneOf(5),
    Trouble::Away,
    Trouble::TooMany,
    Trouble::Unauthorized,
    Trouble::Deepest(100),
    Trouble::Doubled,
];

#[derive(Clone)]
pub(super) struct Happened {
    pub(super) at: jiff::Timestamp,
    listed_at: jiff::Timestamp,
    pub(super) id: String,
    sandbox: String,
    body: String,
}

type Now = Box<dyn Fn() -> jiff::Timestamp + Send + Sync>;

struct State {
    rng: Rng,
    trouble: Trouble,
    /// By number.
    events: BTreeMap<u64, Happened>,
    /// True time, whatever the host's clock says.
    now: Now,
    failed: u64,
}

/// Cloning shares it.
#[derive(Clone)]
pub(super) struct Provider(Arc<Mutex<State>>);

impl Provider {
    pub(super) fn new(rng: Rng, now: Now) -> Self {
        let state = State { rng, trouble: Trouble::None, events: BTreeMap::new(), now, failed: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn be(&self, trouble: Trouble) {
        self.state().trouble = trouble;
    }

    pub(super) fn failed(&self) -> u64 {
        self.state().failed
    }

    /// Something happens, about now by the clock of one of its machines. `body` is told when.
    pub(super) fn happens(&self, number: u64, id: &str, sandbox: &str, body: impl FnOnce(jiff::Timestamp) -> String) {
        let mut state = self.state();
        let now = (state.now)();
        // Some at one and the same time.
        let before = if state.rng.u8(0..4) == 0 { state.rng.u64(0..3) * 100_000 } else { state.rng.u64(0..300_000) };
        let at = now - Duration::from_micros(before);
        let listed_at = at + Duration::from_micros(state.rng.u64(0..LATE.as_micros() as u64));
        let (id, sandbox) = (id.to_owned(), sandbox.to_owned());
        let happened = Happened { at, listed_at: listed_at.max(now), id, sandbox, body: body(at) };
        state.events.insert(number, happened);
    }

    pub(super) fn event(&self, number: u64) -> Option<Happened> {
        self.state().events.get(&number).cloned()
    }

    /// All that it will ever tell.
    pub(super) fn ids(&self) -> Vec<String> {
        self.state().events.values().map(|event| event.id.clone()).collect()
    }

    /// When the last of it happened.
    pub(super) fn newest(&self) -> Option<jiff::Timestamp> {
        self.state().events.values().map(|event| event.at).max()
    }
}

fn parameter(target: &str, name: &str) -> Option<usize> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

impl State {
    fn answer(&mut self, target: &str) -> Result<Reply, ClientError> {
        let (offset, limit) = (parameter(target, "offset").unwrap_or(0), parameter(target, "limit").unwrap_or(100));
        let peer = || "the provider".to_owned();
        let now = (self.now)();
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap();
        let reply = |status, body: String| Reply::new(status, &[("date", date.clone())], Bytes::from(body));
        let fails = match self.trouble {
            Trouble::OneOf(calls) => self.rng.u8(0..calls) == 0,
            Trouble::Deepest(offset_at_most) => offset > offset_at_most,
            Trouble::None | Trouble::Doubled => false,
            Trouble::Away | Trouble::TooMany | Trouble::Unauthorized => true,
        };
        if fails {
            self.failed += 1;
            return match self.trouble {
                Trouble::Away => Err(ClientError::Connect { peer: peer(), problem: "refused".to_owned() }),
                Trouble::TooMany => Ok(Reply::new(429, &[("retry-after", "1".to_owned())], Bytes::new())),
                Trouble::Unauthorized => Ok(reply(401, String::new())),
                Trouble::Deepest(_) => Ok(reply(400, r#"{"message": "offset is too large"}"#.to_owned())),
                _ => match self.rng.u8(0..4) {
                    0 => Err(ClientError::Timeout { peer: peer() }),
                    1 => Err(ClientError::Broken { peer: peer(), problem: "reset".to_owned() }),
                    2 => Ok(reply(500, "<html>".to_owned())),
                    _ => Ok(reply(200, r#"[{"id": "ev"#.to_owned())),
                },
            };
        }
        let path = target.split('?').next().unwrap_or_default();
        let sandbox = path.strip_prefix("/events/sandboxes/");
        let is_listed =
            |event: &&Happened| event.listed_at <= now && sandbox.is_none_or(|sandbox| event.sandbox == sandbox);
        let mut rows: Vec<&Happened> = self.events.values().filter(is_listed).collect();
        // In any order where they happened at one time.
        self.rng.shuffle(&mut rows);
        rows.sort_by_key(|event| std::cmp::Reverse(event.at));
        if self.trouble == Trouble::Doubled {
            rows = rows.into_iter().flat_map(|row| [row, row]).collect();
        }
        let page: Vec<&str> = rows.into_iter().skip(offset).take(limit).map(|event| event.body.as_str()).collect();
        Ok(reply(200, format!("[{}]", page.join(","))))
    }
}

impl Exchange for Provider {
    fn exchange<'a>(
        &'a self,
        _: Method,
        target: &'a str,
        _: &'a [(&'a str, &'a str)],
        _: Bytes,
    ) -> BoxFuture<'a, Result<Reply, ClientError>> {
        async move {
            let micros = self.state().rng.u64(100..30_000);
            tokio::time::sleep(Duration::from_micros(micros)).await;
            let answer = self.state().answer(target);
            let micros = self.state().rng.u64(100..30_000);
            tokio::time::sleep(Duration::from_micros(micros)).await;
            answer
        }
        .boxed()
    }

    fn peer(&self) -> String {
        "the provider".to_owned()
    }
}
