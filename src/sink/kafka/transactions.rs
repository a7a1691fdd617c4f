//! Exactly once: each batch is one transaction together with the sink's position (KIP-98).
//!
//! The position is a record of the topic `e2b-relay.positions`, whose key is the name that the position has. It is read
//! from there only after the brokers have shut out whoever wrote under this name before (`init_transactions`) and a
//! transaction of one's own, which writes a mark behind everything, was committed: a reader with `read_committed` who
//! has seen the mark has seen every position before it.
//!
//! What becomes of a commit whose answer was lost is not guessed: the commit is called again, and where the producer is
//! of no more use the position is read anew.

use super::client::Batching;
use super::complaint::Trouble;
use super::failure::{explain, reason};
use super::positions::{self, TOPIC};
use super::producer::Producer;
use super::settings::Settings;
use super::{SINGLY, retry};
use crate::route::Outgoing;
use crate::sink::{CommitError, Reason, SendError, Transactions};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};

/// How long one call may wait for the brokers before it is looked whether to end, and called again.
const CALL: Duration = Duration::from_secs(5);
/// How often `init_transactions` is called before the sink backs off. Longer than a transaction may take that somebody
/// left undone, so that the wait is not begun anew each time.
const INIT_CALLS: u32 = 14;

/// The transactional producer, which is there between an opening and an error that nobody can tell the end of.
pub(super) struct Transactional {
    settings: Settings,
    trouble: Arc<Trouble>,
    open: Mutex<Option<Open>>,
    ended: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Open {
    producer: Arc<Producer>,
    name: String,
}

/// What came of a call that was repeated as long as that helps.
enum Called {
    Done,
    /// The transaction is to be aborted, and nothing of it is there.
    Abort(String),
    /// Nobody knows.
    Lost(String),
}

impl Transactional {
    pub(super) fn new(settings: &Settings, trouble: Arc<Trouble>) -> Self {
        Self { settings: settings.clone(), trouble, open: Mutex::default(), ended: Arc::default() }
    }

    /// Ends calls that wait, soon.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Drops the producer, and what it has not committed.
    pub(super) async fn close(&self) {
        self.end();
        let open = self.open.lock().await.take();
        end(open).await;
    }

    fn start(&self, batching: Batching, name: &str) -> Result<Arc<Producer>, SendError> {
        let config = self.settings.transactional_config(batching, &format!("e2b-relay/{name}"));
        let producer = Producer::start(&self.settings, &config, batching, Arc::default(), Arc::clone(&self.trouble));
        producer.map(Arc::new).map_err(|message| retry(Reason::Other, format!("kafka: {message}")))
    }

    /// With the client's own complaint, which says more than that a call timed out.
    fn failed(&self, what: &str, error: &str) -> SendError {
        match self.trouble.get() {
            Some(complaint) => retry(
                complaint.reason,
                format!("kafka: {what}: {error}; last complaint of the client: {}", complaint.text),
            ),
            None => retry(Reason::Other, format!("kafka: {what}: {error}")),
        }
    }

    /// Makes a producer that is the only one under this name.
    async fn take_over(&self, batching: Batching, name: &str) -> Result<Open, SendError> {
        let producer = self.start(batching, name)?;
        let (called, ended) = (Arc::clone(&producer), Arc::clone(&self.ended));
        let answer = blocking(move || {
            let mut answer = called.base().init_transactions(CALL);
            for _ in 1..INIT_CALLS {
                match &answer {
                    Err(KafkaError::Transaction(error)) if error.is_retriable() && !ended.load(Ordering::Acquire) => {}
                    _ => break,
                }
                answer = called.base().init_transactions(CALL);
            }
            answer
        })
        .await?;
        match answer {
            Ok(()) => Ok(Open { producer, name: name.to_owned() }),
            Err(error) => {
                let said = said(&error);
                let code = error.rdkafka_error_code();
                end(Some(Open { producer, name: name.to_owned() })).await;
                Err(match code.map(reason) {
                    Some(Reason::Auth) => retry(Reason::Auth, format!("kafka: no transactions: {said}")),
                    _ => self.failed("no transactions", &said),
                })
            }
        }
    }

    async fn call(&self, producer: &Arc<Producer>, call: Call) -> Called {
        let (producer, ended) = (Arc::clone(producer), Arc::clone(&self.ended));
        let called = blocking(move || repeat(&producer, call, &ended)).await;
        called.unwrap_or_else(|error| Called::Lost(error.to_string()))
    }

    /// One transaction, whole. The reports of its records are waited for before the position is written: an unfinished
    /// transaction keeps others from reading the positions behind its own.
    async fn transact(
        &self,
        producer: &Arc<Producer>,
        records: &[Arc<Outgoing>],
        position: Arc<Outgoing>,
    ) -> Result<(), CommitError> {
        if let Err(error) = producer.base().begin_transaction() {
            return Err(CommitError::Unknown(self.failed("cannot begin a transaction", &said(&error))));
        }
        let mut sent = Sent::default();
        sent.send(producer, records).await;
        sent.send(producer, &[position]).await;
        let why = match sent.failed.first() {
            Some((_, error)) => error.clone(),
            None => match self.call(producer, Call::Commit).await {
                Called::Done => return Ok(()),
                Called::Abort(said) => self.failed("the transaction was aborted", &said),
                Called::Lost(said) => return Err(CommitError::Unknown(self.failed("the transaction's end", &said))),
            },
        };
        match self.call(producer, Call::Abort).await {
            Called::Done => {}
            Called::Abort(said) | Called::Lost(said) => {
                return Err(CommitError::Unknown(self.failed("the transaction's end", &said)));
            }
        }
        let refused = sent.refused().await;
        if refused.is_empty() { Err(CommitError::Aborted(why)) } else { Err(CommitError::Refused(refused)) }
    }
}

type Reported = BoxFuture<'static, (u64, Result<(), SendError>)>;

/// Records of one transaction.
#[derive(Default)]
struct Sent {
    unreported: FuturesUnordered<Reported>,
    failed: Vec<(u64, SendError)>,
}

impl Sent {
    /// Sends, and waits for every report, or for the first failure: the rest then waits in librdkafka until the transaction
    /// is aborted.
    async fn send(&mut self, producer: &Producer, records: &[Arc<Outgoing>]) {
        for record in records {
            if !self.failed.is_empty() {
                return;
            }
            let sequence = record.sequence;
            let (report, reported) = oneshot::channel();
            match producer.send(record, report) {
                Ok(()) => self.unreported.push(Box::pin(async move {
                    let lost = || Err(retry(Reason::Other, "kafka: the producer ended".to_owned()));
                    (sequence, reported.await.unwrap_or_else(|_| lost()))
                })),
                Err(error) => self.failed.push((sequence, error)),
            }
        }
        while self.failed.is_empty()
            && let Some((sequence, outcome)) = self.unreported.next().await
        {
            self.failed.extend(outcome.err().map(|error| (sequence, error)));
        }
    }

    /// Those that will never be taken. After an abort: that reports whatever was not.
    async fn refused(self) -> Vec<(u64, SendError)> {
        let Self { unreported, mut failed } = self;
        let rest: Vec<_> = unreported.collect().await;
        failed.extend(rest.into_iter().filter_map(|(sequence, outcome)| Some((sequence, outcome.err()?))));
        failed.retain(|(_, error)| !matches!(error, SendError::Retry { .. }));
        failed
    }
}

impl Transactions for Transactional {
    fn open<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<Option<String>, SendError>> {
        Box::pin(async move {
            let Some(name) = names.first() else {
                return Err(retry(Reason::Other, "kafka: a position without a name".to_owned()));
            };
            let mut open = self.open.lock().await;
            end(open.take()).await;
            let opened = self.take_over(Batching::Full, name).await?;
            positions::check(&self.settings, &opened.producer).await?;
            let mark = uuid::Uuid::new_v4().to_string();
            match self.transact(&opened.producer, &[], position(&format!("{name}/mark"), mark.clone())).await {
                Ok(()) => {}
                Err(CommitError::Aborted(error) | CommitError::Unknown(error)) => return Err(error),
                Err(CommitError::Refused(refused)) => {
                    let message = refused.first().map_or_else(String::new, |(_, error)| error.to_string());
                    return Err(retry(Reason::Rejected, message));
                }
            }
            let settings = self.settings.clone();
            let keys: Vec<String> = names.to_vec();
            let found = blocking(move || positions::read(&settings, &keys, &mark)).await??;
            self.trouble.clear();
            *open = Some(opened);
            Ok(found)
        })
    }

    fn commit<'a>(&'a self, records: &'a [Arc<Outgoing>], to: String) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            let mut open = self.open.lock().await;
            let Some(Open { producer, name }) = open.clone() else {
                return Err(CommitError::Unknown(retry(Reason::Other, "kafka: not opened".to_owned())));
            };
            // Known before, so that no transaction is begun in vain for each.
            let refused: Vec<_> =
                records.iter().filter_map(|record| Some((record.sequence, super::check(record).err()?))).collect();
            if !refused.is_empty() {
                return Err(CommitError::Refused(refused));
            }
            let outcome = self.transact(&producer, records, position(&name, to)).await;
            if let Err(CommitError::Unknown(_)) = &outcome {
                end(open.take()).await;
            } else if let Some(batching) = producer.better_batching(SINGLY) {
                // Nothing is on its way, so that another producer may take over.
                end(open.take()).await;
                *open = self.take_over(batching, &name).await.ok();
            }
            outcome
        })
    }
}

#[derive(Clone, Copy)]
enum Call {
    Commit,
    Abort,
}

/// Calls until there is an answer; a call that timed out goes on where it was.
fn repeat(producer: &Producer, call: Call, ended: &AtomicBool) -> Called {
    loop {
        let answer = match call {
            Call::Commit => producer.base().commit_transaction(CALL),
            Call::Abort => producer.base().abort_transaction(CALL),
        };
        match answer {
            Ok(()) => return Called::Done,
            Err(error) if ended.load(Ordering::Acquire) => return Called::Lost(said(&error)),
            Err(KafkaError::Flush(_)) => {}
            Err(KafkaError::Transaction(error)) if error.is_fatal() => return Called::Lost(error.string()),
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => return Called::Abort(error.string()),
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            Err(error) => return Called::Lost(said(&error)),
        }
    }
}

/// The position as a record of its topic.
fn position(name: &str, text: String) -> Arc<Outgoing> {
    Arc::new(Outgoing {
        // No event has it.
        sequence: 0,
        id: name.to_owned(),
        kind: "relay.position".to_owned(),
        sandbox_id: String::new(),
        address: TOPIC.to_owned(),
        key: name.to_owned(),
        payload: Bytes::from(text),
        content_type: "application/json",
        unix_seconds: 0,
        headers: Vec::new(),
    })
}

fn said(error: &KafkaError) -> String {
    match error {
        KafkaError::Transaction(error) => {
            let explained = explain(error.code());
            format!("{} ({explained})", error.string())
        }
        other => other.to_string(),
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SendError> {
    let ended = |error: tokio::task::JoinError| retry(Reason::Other, format!("kafka: a call ended early: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(ended)
}

/// Waits until the brokers hear no more of it, so that whoever comes next meets nobody.
async fn end(open: Option<Open>) {
    if let Some(Open { producer, .. }) = open {
        Producer::end(producer).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::elsewhere::Witness;
    use super::*;

    #[tokio::test]
    async fn a_runtimes_thread_ends_no_transactional_producer() {
        let settings = Settings { brokers: vec!["127.0.0.1:1".to_owned()], exactly_once: true, ..Settings::default() };
        let transactional = Transactional::new(&settings, Arc::default());
        let producer = transactional.start(Batching::Full, "store/lake").unwrap();
        *transactional.open.lock().await = Some(Open { producer, name: "store/lake".to_owned() });
        let trouble = Arc::downgrade(&transactional.trouble);
        // As when a sink is dropped that was not closed.
        drop(transactional);
        assert_eq!(Witness::ended_here(), 0, "it has blocked this thread");
        while trouble.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
