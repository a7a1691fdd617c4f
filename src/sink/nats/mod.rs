//! NATS: JetStream, where a record is delivered when a stream has stored it, or core NATS, where it is delivered when the
//! server has read it.
//!
//! Both wait for a message to an inbox of our own. With JetStream it is the stream's acknowledgement of one record. With
//! core NATS it is a marker that we publish behind the records: a server handles what one connection sends in order, so
//! the marker's return proves that all before it was read. (The client's `flush` proves less, that the bytes have left
//! this process; and after a lost connection it succeeds on the next one.)
//!
//! async-nats' own acknowledgement futures are not used: those of records that time out are never forgotten by its
//! request multiplexer, and they learn of a lost connection by their time-out only.
//!
//! A user whose rights are limited needs to publish to the subjects, and to subscribe to `_INBOX.>`; without JetStream
//! also to publish there.

mod classify;
mod doubts;
mod inspect;
mod link;
mod message;
mod pending;
mod settings;
mod worker;

pub use settings::{Discard, Settings, Stream};

use super::handover::{self, Handover};
use super::{InvalidSetting, peer};
use super::{Order, SendError, Sink};
use crate::route::Outgoing;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A sink of type `nats`.
pub struct Nats {
    handover: Handover,
    peer: Arc<str>,
    doubts: Arc<doubts::Doubts>,
}

impl Nats {
    /// Starts the worker, so it is to be called within the runtime; connects when first asked to.
    ///
    /// `dedupe_prefix` is the sink's name when another sink feeds the same stream: an id is known to the stream once, not
    /// once per sink.
    pub fn new(settings: Settings, dedupe_prefix: Option<String>) -> Result<Self, InvalidSetting> {
        let servers = settings.servers()?;
        settings.check(&servers)?;
        let tls = peer::tls(&settings.tls())?;
        let peer: Arc<str> = servers.peer.as_str().into();
        let (handover, commands) = handover::channel(peer.clone());
        let connector = link::Connector::new(settings, servers, tls)?;
        let doubts = Arc::<doubts::Doubts>::default();
        tokio::spawn(worker::Worker::new(connector, dedupe_prefix, commands, Arc::clone(&doubts)).run());
        Ok(Self { handover, peer, doubts })
    }

    /// The servers, for people to read.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl Sink for Nats {
    fn order(&self) -> Order {
        Order::OnePerSandbox
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>> {
        self.handover.probe().boxed()
    }

    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        self.handover.send(outgoing)
    }

    fn swallowed(&self) -> Vec<u64> {
        self.doubts.swallowed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.handover.close().boxed()
    }
}
