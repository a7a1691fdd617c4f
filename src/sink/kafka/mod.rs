//! Apache Kafka, by librdkafka's idempotent producer.
//!
//! Records enter librdkafka's queue in the order of the calls, and idempotence keeps that order through every repeat of
//! the client's own. They never expire there: with `message.timeout.ms=0` a cluster that is down shows in [`Sink::trouble`]
//! and in the age of what is unsent, not in failed sends. A send that fails all the same (an unknown topic, missing
//! rights, a fatal error) closes the gate: nothing more is taken until each earlier record has reported, so that
//! `deliver` can send them again in their order. Records of other batches may have been confirmed by then; what is sent
//! again lands behind those.
//!
//! With `exactly_once` records go in transactions instead, see `transactions`; what is replayed goes as above.
//!
//! A broker refuses whole batches, so one record that is too large takes its neighbours with it. They are then sent
//! again one by one, and only what is refused alone is rejected.

mod client;
mod complaint;
mod elsewhere;
mod failure;
mod files;
mod oauth;
mod positions;
mod producer;
mod properties;
mod redirect;
mod settings;
mod transactions;

pub use properties::Properties;
pub use settings::{Compression, Mechanism, Sasl, Settings, Tls};

use super::gate::{Entry, Gate};
use super::{InvalidSetting, Order, Reason, Scope, SendError, Sink, Transactions};
use crate::route::Outgoing;
use client::Batching;
use complaint::Trouble;
use failure::{Circumstances, explain, judge};
use futures_util::future::BoxFuture;
use producer::Producer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use settings::MAX_TOPIC;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use transactions::Transactional;

/// How often a probe waits for the brokers, and how long each time.
const PROBES: usize = 5;
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// So many records are sent one by one after a batch was refused, before batches are tried again.
const SINGLY: u64 = 1_000;

/// Sends records to one Kafka cluster.
pub struct Kafka {
    settings: Settings,
    gate: Arc<Gate>,
    trouble: Arc<Trouble>,
    state: Mutex<State>,
    transactions: Option<Transactional>,
}

enum State {
    /// No producer yet, or the last one has died.
    Idle,
    Running(Arc<Producer>),
    Closed,
}

impl Kafka {
    /// Checks the settings; nothing is connected.
    pub fn new(settings: &Settings) -> Result<Self, InvalidSetting> {
        settings.check()?;
        let trouble = Arc::default();
        let transactions = settings.exactly_once.then(|| Transactional::new(settings, Arc::clone(&trouble)));
        Ok(Self {
            settings: settings.clone(),
            gate: Arc::default(),
            trouble,
            state: Mutex::new(State::Idle),
            transactions,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer, made if there is none.
    fn producer(&self, state: &mut State, batching: Batching) -> Result<Arc<Producer>, SendError> {
        match state {
            State::Running(producer) => Ok(Arc::clone(producer)),
            State::Closed => Err(retry(Reason::Other, "kafka: the sink is closed".to_owned())),
            State::Idle => {
                let (gate, trouble) = (Arc::clone(&self.gate), Arc::clone(&self.trouble));
                let producer =
                    Producer::start(&self.settings, &self.settings.client_config(batching), batching, gate, trouble)
                        .map(Arc::new)
                        .map_err(|message| retry(Reason::Other, format!("kafka: {message}")))?;
                *state = State::Running(Arc::clone(&producer));
                Ok(producer)
            }
        }
    }

    /// With nothing on its way the producer can be replaced without harm to the order.
    fn renew(&self, state: &mut State) -> Batching {
        let State::Running(producer) = state else { return Batching::Full };
        let better = producer.better_batching(SINGLY);
        if better == Some(Batching::Single) {
            tracing::warn!(
                batch_size = self.settings.batch_size(),
                "kafka: a batch was refused, records are sent one by one for a while; if a topic's max.message.bytes is \
                 below librdkafka.batch.size, lower the latter"
            );
        }
        if better.is_some() || producer.is_dead() {
            *state = State::Idle;
        }
        better.unwrap_or(Batching::Full)
    }

    /// The topic that has to exist, whatever comes.
    fn literal_topic(&self) -> Option<String> {
        if self.settings.is_topic_templated() {
            return self.settings.fallback_topic.clone();
        }
        Some(self.settings.topic.clone())
    }

    /// The client's own complaint says more than the error of a request that had no answer.
    fn unavailable(&self, code: RDKafkaErrorCode) -> SendError {
        let brokers = self.settings.brokers.join(", ");
        match self.trouble.get() {
            Some(complaint) => retry(complaint.reason, format!("kafka at {brokers}: {}", complaint.text)),
            None => judge(
                code,
                Circumstances { templated: false, alone: false },
                format!("kafka at {brokers}: {}", explain(code)),
            ),
        }
    }
}

impl Sink for Kafka {
    fn order(&self) -> Order {
        if self.transactions.is_some() { Order::Batched } else { Order::Pipelined }
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>> {
        Box::pin(async move {
            let producer = {
                let mut state = self.lock();
                if matches!(&*state, State::Running(producer) if producer.is_dead()) {
                    *state = State::Idle;
                }
                self.producer(&mut state, Batching::Full)?
            };
            if self.transactions.is_some() {
                positions::check(&self.settings, &producer).await?;
            }
            let topic = self.literal_topic();
            let (asked, trouble) = (topic.clone(), Arc::clone(&self.trouble));
            let answer = tokio::task::spawn_blocking(move || {
                let mut answer = producer.metadata(asked.as_deref(), PROBE_TIMEOUT);
                // Once the client knows what is wrong there is no need to wait for more of it.
                for _ in 1..PROBES {
                    if answer.is_ok() || trouble.get().is_some() {
                        break;
                    }
                    answer = producer.metadata(asked.as_deref(), PROBE_TIMEOUT);
                }
                answer
            })
            .await;
            match answer {
                Ok(Ok(metadata)) => describe(&metadata, topic.as_deref()),
                Ok(Err(code)) => Err(self.unavailable(code)),
                Err(error) => Err(retry(Reason::Other, format!("kafka: the probe ended early: {error}"))),
            }
        })
    }

    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        // Held until the record is in the queue, so that the order of the calls is that of the records.
        let mut state = self.lock();
        let (ticket, batching) = match self.gate.enter() {
            Entry::Closed(ticket, why) => return ticket.refuse(why),
            Entry::Idle(ticket) => (ticket, self.renew(&mut state)),
            Entry::Open(ticket) => (ticket, Batching::Full),
        };
        if let Err(rejected) = check(&outgoing) {
            return ticket.refuse(rejected);
        }
        let (report, receiver) = oneshot::channel();
        let handed = self.producer(&mut state, batching).and_then(|producer| producer.send(&outgoing, report));
        match handed {
            Ok(()) => ticket.wait(receiver, || retry(Reason::Other, "kafka: the producer ended".to_owned())),
            Err(error) => ticket.refuse(error),
        }
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.transactions.as_ref().map(|transactions| transactions as &dyn Transactions)
    }

    fn trouble(&self) -> Option<(Reason, String)> {
        self.trouble.get().map(|complaint| (complaint.reason, complaint.text))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(transactions) = &self.transactions {
                transactions.close().await;
            }
            let state = std::mem::replace(&mut *self.lock(), State::Closed);
            if let State::Running(producer) = state {
                Producer::end(producer).await;
            }
        })
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(transactions) = &self.transactions {
            transactions.end();
        }
    }
}

fn retry(reason: Reason, message: String) -> SendError {
    SendError::Retry { scope: Scope::Sink, reason, message }
}

/// What librdkafka would answer less clearly, or take for something else.
fn check(outgoing: &Outgoing) -> Result<(), SendError> {
    let reject = |message: String| Err(SendError::Reject { reason: Reason::Template, message });
    let topic = &outgoing.address;
    if topic.is_empty() || topic == "." || topic == ".." || topic.len() > MAX_TOPIC {
        return reject(format!("kafka: a topic of {} characters is no topic", topic.len()));
    }
    if !topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return reject("kafka: the topic holds characters that no topic may".to_owned());
    }
    if outgoing.key.is_empty() {
        return reject("kafka: the key is empty, and without one the order of the sandbox is lost".to_owned());
    }
    Ok(())
}

/// What the brokers answered, for people; an error if the topic cannot be written to.
fn describe(metadata: &Metadata, topic: Option<&str>) -> Result<String, SendError> {
    let brokers = match metadata.brokers().len() {
        1 => "1 broker".to_owned(),
        count => format!("{count} brokers"),
    };
    let Some(name) = topic else { return Ok(brokers) };
    let found = metadata.topics().iter().find(|found| found.name() == name);
    let error = match found {
        None => Some(RDKafkaErrorCode::UnknownTopic),
        Some(found) => found.error().map(RDKafkaErrorCode::from),
    };
    if let Some(code) = error {
        let circumstances = Circumstances { templated: false, alone: false };
        return Err(judge(code, circumstances, format!("kafka topic {name}: {}", explain(code))));
    }
    let partitions = found.map_or(&[][..], |found| found.partitions());
    let leaderless = partitions.iter().filter(|partition| partition.leader() < 0).count();
    let count = partitions.len();
    match leaderless {
        0 => Ok(format!("{brokers}, topic {name} with {count} partitions")),
        without => Ok(format!("{brokers}, topic {name} with {count} partitions, {without} of them without a leader")),
    }
}

#[cfg(test)]
mod tests {
    use super::elsewhere::Witness;
    use super::*;

    /// Nobody is there; a client does not need it to be made and ended.
    fn settings() -> Settings {
        Settings { brokers: vec!["127.0.0.1:1".to_owned()], ..Settings::default() }
    }

    #[tokio::test]
    async fn a_runtimes_thread_ends_no_producer_whoever_holds_it_last() {
        let kafka = Kafka::new(&settings()).unwrap();
        // As by a probe that is cancelled when the sink is closed already.
        let last = kafka.producer(&mut kafka.lock(), Batching::Full).unwrap();
        let trouble = Arc::downgrade(&kafka.trouble);
        kafka.close().await;
        drop((kafka, last));
        assert_eq!(Witness::ended_here(), 0, "it has blocked this thread");
        while trouble.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
