//! A broker that is slow, away, refuses one or all, loses confirmations, or gives them late and in another order. It outlives
//! the daemons that send to it.

use super::transactions::{self, Log};
use e2b_relay::route::Outgoing;
use e2b_relay::sink::gate::{Entry, Gate, Report};
use e2b_relay::sink::{Order, Reason, Scope, SendError, Sink, Transactions};
use fastrand::Rng;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// How it takes what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Takes records and confirms them later, in any order.
    Late,
    Away,
    /// Of so many events one is never taken, always the same.
    RefusesOneOf(u64),
    /// Nobody's records.
    RefusesAll,
    /// Takes records, and the confirmation is lost.
    Mute,
    /// Has no room for a record now.
    Full,
}

pub(super) const MOODS: [Mood; 8] = [
    Mood::Well,
    Mood::Late,
    Mood::Away,
    Mood::RefusesOneOf(3),
    Mood::RefusesOneOf(40),
    Mood::RefusesAll,
    Mood::Mute,
    Mood::Full,
];

/// What it has taken.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) id: String,
    pub(super) sandbox: String,
    pub(super) sequence: u64,
    /// Sent once more by an operator.
    pub(super) again: bool,
}

pub(super) fn not_now(scope: Scope, reason: Reason) -> SendError {
    SendError::Retry { scope, reason, message: "not now".to_owned() }
}

struct Request {
    client: u64,
    gate: Arc<Gate>,
    outgoing: Arc<Outgoing>,
    reply: Report,
}

pub(super) struct State {
    order: Order,
    pub(super) mood: Mood,
    pub(super) transactions: Log,
    waiting: VecDeque<Request>,
    /// Taken, and by whom sent.
    unconfirmed: Vec<(u64, Report)>,
    clients: u64,
    log: Vec<Taken>,
    /// What it was told that nobody can know any more: from when until when.
    gaps: Vec<(jiff::Timestamp, jiff::Timestamp)>,
    /// By sequence: so many copies more than one may come.
    repeats: BTreeMap<u64, usize>,
    /// Records that it refused at least once.
    refused: BTreeSet<u64>,
    /// By sequence: what became of a record, for people.
    stories: BTreeMap<u64, Vec<String>>,
}

/// Cloning shares it.
#[derive(Clone)]
pub(super) struct Broker(Arc<Mutex<State>>);

impl Broker {
    pub(super) fn new(order: Order) -> Self {
        Self(Arc::new(Mutex::new(State {
            order,
            mood: Mood::Well,
            transactions: Log::default(),
            waiting: VecDeque::new(),
            unconfirmed: Vec::new(),
            clients: 0,
            log: Vec::new(),
            gaps: Vec::new(),
            repeats: BTreeMap::new(),
            refused: BTreeSet::new(),
            stories: BTreeMap::new(),
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A client of its own for each delivery.
    pub(super) fn client(&self, rng: Rng) -> Arc<dyn Sink> {
        let mut state = self.state();
        state.clients += 1;
        let (number, broker) = (state.clients, self.clone());
        let transactions =
            (state.order == Order::Batched).then(|| transactions::Client { broker: self.clone(), number });
        Arc::new(Client { number, gate: Arc::default(), broker, transactions, rng: Mutex::new(rng) })
    }

    pub(super) fn be(&self, mood: Mood) {
        self.state().mood = mood;
    }

    pub(super) fn mood(&self) -> Mood {
        self.state().mood
    }

    pub(super) fn log(&self) -> Vec<Taken> {
        self.state().log.clone()
    }

    pub(super) fn gaps(&self) -> Vec<(jiff::Timestamp, jiff::Timestamp)> {
        self.state().gaps.clone()
    }

    pub(super) fn may_repeat(&self, sequence: u64) -> usize {
        self.state().repeats.get(&sequence).copied().unwrap_or(0)
    }

    pub(super) fn story(&self, sequence: u64) -> String {
        self.state().stories.get(&sequence).map(|story| story.join(", ")).unwrap_or_default()
    }

    /// Whether it refused a record: one that was to be a dead letter when a kill came, comes late.
    pub(super) fn has_refused(&self, sequence: u64) -> bool {
        self.state().refused.contains(&sequence)
    }

    /// A delivery begins behind a position: what was taken behind it may come again, but where the broker keeps the position
    /// of this very sink. Returns how much that is.
    pub(super) fn begins_behind(&self, position: u64, is_new: bool) -> usize {
        let mut state = self.state();
        if state.order == Order::Batched && !is_new {
            return 0;
        }
        let taken = state.log.iter().filter(|taken| !taken.again && taken.sequence > position);
        let taken: BTreeSet<u64> = taken.map(|taken| taken.sequence).collect();
        for sequence in &taken {
            *state.repeats.entry(*sequence).or_default() += 1;
            state.tell(*sequence, format!("another begins behind {position}"));
        }
        taken.len()
    }

    /// The daemon is killed, and all clients with it.
    pub(super) fn end(&self, rng: &mut Rng) {
        let clients = self.state().clients;
        for client in 1..=clients {
            self.leave(client, rng);
        }
    }

    /// A client goes, by a kill say: of what it had handed over some was taken.
    fn leave(&self, client: u64, rng: &mut Rng) {
        let mut state = self.state();
        state.leave_transactions(client, rng);
        state.unconfirmed.retain(|(of, _)| *of != client);
        let (its, rest): (VecDeque<Request>, VecDeque<Request>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|request| request.client == client);
        state.waiting = rest;
        let most = rng.usize(0..=its.len());
        // In the order of the calls, so that nothing is overtaken.
        for request in its.into_iter().take(most) {
            if matches!(state.mood, Mood::Well | Mood::Late | Mood::Mute) {
                state.take(&request.outgoing);
            }
        }
    }

    /// Does something with what waits. `false` where nothing does.
    pub(super) fn act(&self, rng: &mut Rng) -> bool {
        let mut state = self.state();
        if !state.unconfirmed.is_empty() && (state.mood != Mood::Late || rng.u8(0..4) == 0) {
            let at = rng.usize(0..state.unconfirmed.len());
            let _ = state.unconfirmed.swap_remove(at).1.send(Ok(()));
            return true;
        }
        if rng.bool() && state.act_on_transactions(rng) {
            return true;
        }
        if state.waiting.is_empty() {
            return false;
        }
        let at = match state.order {
            Order::OnePerSandbox => rng.usize(0..state.waiting.len()),
            Order::Pipelined | Order::Batched => 0,
        };
        let Some(Request { client, gate, outgoing, reply }) = state.waiting.remove(at) else { return false };
        match state.mood {
            _ if state.refuses(&outgoing) => {
                state.note_refused(outgoing.sequence);
                let _ = reply.send(Err(SendError::Reject { reason: Reason::Rejected, message: "no".to_owned() }));
            }
            Mood::Well | Mood::RefusesOneOf(_) => {
                state.take(&outgoing);
                let _ = reply.send(Ok(()));
            }
            Mood::Late => {
                state.take(&outgoing);
                state.unconfirmed.push((client, reply));
            }
            Mood::Mute => {
                state.take(&outgoing);
                *state.repeats.entry(outgoing.sequence).or_default() += 1;
                state.fail(&gate, reply, Scope::Sink, Reason::Timeout);
            }
            Mood::Away => state.fail(&gate, reply, Scope::Sink, Reason::Connect),
            Mood::RefusesAll => state.fail(&gate, reply, Scope::Sink, Reason::Auth),
            Mood::Full => state.fail(&gate, reply, Scope::Record, Reason::Other),
        }
        true
    }
}

impl State {
    /// Whether a record is one of those that it never takes.
    pub(super) fn refuses(&self, outgoing: &Outgoing) -> bool {
        let Mood::RefusesOneOf(of) = self.mood else { return false };
        outgoing.id.bytes().fold(7u64, |sum, byte| sum * 31 % 10_007 + u64::from(byte)).is_multiple_of(of)
    }

    pub(super) fn note_refused(&mut self, sequence: u64) {
        self.refused.insert(sequence);
        self.tell(sequence, "refused".to_owned());
    }

    pub(super) fn tell(&mut self, sequence: u64, what: String) {
        self.stories.entry(sequence).or_default().push(what);
    }

    pub(super) fn take(&mut self, outgoing: &Outgoing) {
        let again = if outgoing.again().is_some() { " again" } else { "" };
        self.tell(outgoing.sequence, format!("taken{again} when {:?}", self.mood));
        self.gaps.extend((outgoing.kind == "relay.gap").then(|| gap(&outgoing.payload)));
        self.log.push(Taken {
            id: outgoing.id.clone(),
            sandbox: outgoing.sandbox_id.clone(),
            sequence: outgoing.sequence,
            again: outgoing.again().is_some(),
        });
    }

    /// A client that keeps the order of its calls fails those behind it, too, and takes nothing more until that is seen.
    fn fail(&mut self, gate: &Arc<Gate>, reply: Report, scope: Scope, reason: Reason) {
        let error = not_now(scope, reason);
        if self.order == Order::Pipelined {
            gate.close(&error);
            for request in self.waiting.drain(..) {
                request.gate.close(&error);
                let _ = request.reply.send(Err(error.clone()));
            }
        }
        let _ = reply.send(Err(error));
    }
}

fn gap(record: &[u8]) -> (jiff::Timestamp, jiff::Timestamp) {
    let record: serde_json::Value = serde_json::from_slice(record).unwrap();
    let time = |name: &str| record["event_data"][name].as_str().unwrap().parse().unwrap();
    (time("from"), time("to"))
}

struct Client {
    broker: Broker,
    number: u64,
    gate: Arc<Gate>,
    transactions: Option<transactions::Client>,
    rng: Mutex<Rng>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.broker.leave(self.number, &mut self.rng.lock().unwrap());
    }
}

impl Sink for Client {
    fn order(&self) -> Order {
        self.broker.state().order
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>> {
        let answer = match self.broker.mood() {
            Mood::Away => Err(not_now(Scope::Sink, Reason::Connect)),
            _ => Ok("a broker".to_owned()),
        };
        async { answer }.boxed()
    }

    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        let ticket = match self.gate.enter() {
            Entry::Open(ticket) | Entry::Idle(ticket) => ticket,
            Entry::Closed(ticket, why) if self.order() == Order::Pipelined => return ticket.refuse(why),
            Entry::Closed(ticket, _) => ticket,
        };
        let (reply, confirmed) = oneshot::channel();
        let request = Request { client: self.number, gate: Arc::clone(&self.gate), outgoing, reply };
        let mut state = self.broker.state();
        let again = if request.outgoing.again().is_some() { " again" } else { "" };
        state.tell(request.outgoing.sequence, format!("handed over{again} by {}", self.number));
        state.waiting.push_back(request);
        drop(state);
        ticket.wait(confirmed, || not_now(Scope::Sink, Reason::Connect))
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.transactions.as_ref().map(|transactions| transactions as &dyn Transactions)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.broker.leave(self.number, &mut self.rng.lock().unwrap());
        async {}.boxed()
    }
}
