//! What a broker with transactions does: records and the sink's position, all of it or nothing, and only by whoever has opened
//! last.

use super::broker::{self, Broker, Mood, State};
use e2b_relay::route::Outgoing;
use e2b_relay::sink::{CommitError, Reason, Scope, SendError, Transactions};
use fastrand::Rng;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

type Opened = Result<Option<String>, SendError>;
type Committed = Result<(), CommitError>;

enum Asked {
    Open(Vec<String>, oneshot::Sender<Opened>),
    Commit(Vec<Arc<Outgoing>>, String, oneshot::Sender<Committed>),
}

/// Of one broker.
#[derive(Default)]
pub(super) struct Log {
    asked: VecDeque<(u64, Asked)>,
    /// Who may commit, and under which name.
    open: Option<(u64, String)>,
    /// The positions by name.
    positions: BTreeMap<String, String>,
}

fn not_now(reason: Reason) -> SendError {
    broker::not_now(Scope::Sink, reason)
}

impl State {
    /// Does what was asked first. `false` where nothing was.
    pub(super) fn act_on_transactions(&mut self, rng: &mut Rng) -> bool {
        let Some((client, asked)) = self.transactions.asked.pop_front() else { return false };
        match asked {
            Asked::Open(names, reply) => _ = reply.send(self.open(client, &names)),
            Asked::Commit(records, position, reply) => _ = reply.send(self.commit(client, &records, position, rng)),
        }
        true
    }

    fn open(&mut self, client: u64, names: &[String]) -> Opened {
        let name = names.first().cloned().unwrap_or_default();
        match self.mood {
            Mood::Away | Mood::Full => return Err(not_now(Reason::Connect)),
            Mood::RefusesAll => return Err(not_now(Reason::Auth)),
            Mood::Mute => {
                self.transactions.open = Some((client, name));
                return Err(not_now(Reason::Timeout));
            }
            Mood::Well | Mood::Late | Mood::RefusesOneOf(_) => {}
        }
        self.transactions.open = Some((client, name));
        Ok(names.iter().find_map(|name| self.transactions.positions.get(name)).cloned())
    }

    fn commit(&mut self, client: u64, records: &[Arc<Outgoing>], position: String, rng: &mut Rng) -> Committed {
        let Some((_, name)) = self.transactions.open.clone().filter(|(of, _)| *of == client) else {
            return Err(CommitError::Unknown(not_now(Reason::Other)));
        };
        let refused: Vec<(u64, SendError)> = records
            .iter()
            .filter(|record| self.refuses(record))
            .map(|record| {
                let no = SendError::Reject { reason: Reason::Rejected, message: "no".to_owned() };
                (record.sequence, no)
            })
            .collect();
        refused.iter().for_each(|(sequence, _)| self.note_refused(*sequence));
        match self.mood {
            _ if !refused.is_empty() => return Err(CommitError::Refused(refused)),
            Mood::Away if rng.bool() => return Err(CommitError::Unknown(not_now(Reason::Connect))),
            Mood::Mute if rng.bool() => return Err(CommitError::Unknown(not_now(Reason::Timeout))),
            Mood::Away => return Err(CommitError::Aborted(not_now(Reason::Connect))),
            Mood::RefusesAll => return Err(CommitError::Aborted(not_now(Reason::Auth))),
            Mood::Full => return Err(CommitError::Aborted(not_now(Reason::Other))),
            Mood::Well | Mood::Late | Mood::Mute | Mood::RefusesOneOf(_) => {}
        }
        records.iter().for_each(|record| self.take(record));
        self.transactions.positions.insert(name, position);
        if self.mood == Mood::Mute { Err(CommitError::Unknown(not_now(Reason::Timeout))) } else { Ok(()) }
    }

    /// A client goes: what it had asked for last is done, or not.
    pub(super) fn leave_transactions(&mut self, client: u64, rng: &mut Rng) {
        let (its, rest): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.transactions.asked).into_iter().partition(|(of, _)| *of == client);
        self.transactions.asked = rest;
        for (client, asked) in its {
            if let Asked::Commit(records, position, _) = asked
                && rng.bool()
            {
                let _ = self.commit(client, &records, position, rng);
            }
        }
    }
}

/// One client's.
pub(super) struct Client {
    pub(super) broker: Broker,
    pub(super) number: u64,
}

impl Transactions for Client {
    fn open<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Opened> {
        let (reply, opened) = oneshot::channel();
        self.broker.state().transactions.asked.push_back((self.number, Asked::Open(names.to_vec(), reply)));
        async { opened.await.unwrap_or_else(|_| Err(not_now(Reason::Connect))) }.boxed()
    }

    fn commit<'a>(&'a self, records: &'a [Arc<Outgoing>], position: String) -> BoxFuture<'a, Committed> {
        let (reply, committed) = oneshot::channel();
        let mut state = self.broker.state();
        records.iter().for_each(|record| state.tell(record.sequence, format!("committed by {}", self.number)));
        state.transactions.asked.push_back((self.number, Asked::Commit(records.to_vec(), position, reply)));
        drop(state);
        async { committed.await.unwrap_or_else(|_| Err(CommitError::Unknown(not_now(Reason::Connect)))) }.boxed()
    }
}
