//! AMQP 0.9.1, as RabbitMQ speaks it: persistent, mandatory, and delivered when the broker has confirmed it.

mod classify;
mod connect;
mod declare;
mod link;
mod message;
mod settings;
mod worker;

pub use settings::{Declare, ExchangeType, QueueType, Settings, Unroutable};

use super::handover::{self, Handover};
use super::{InvalidSetting, peer};
use super::{Order, SendError, Sink};
use crate::route::Outgoing;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A sink of type `amqp`.
pub struct Amqp {
    handover: Handover,
    peer: Arc<str>,
}

impl Amqp {
    /// Starts the worker, so it is to be called within the runtime; connects when first asked to.
    pub fn new(settings: Settings) -> Result<Self, InvalidSetting> {
        let uri = settings.uri()?;
        settings.check()?;
        let tls = peer::tls(settings.ca_file.as_deref(), settings.insecure_skip_verify)?;
        let peer: Arc<str> = peer::without_credentials(settings.url.expose()).into();
        let (handover, commands) = handover::channel(peer.clone());
        let connector = connect::Connector::new(settings, uri, tls, peer.clone());
        tokio::spawn(worker::Worker::new(connector, commands).run());
        Ok(Self { handover, peer })
    }

    /// The broker, for people to read.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl Sink for Amqp {
    fn order(&self) -> Order {
        Order::OnePerSandbox
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>> {
        self.handover.probe().boxed()
    }

    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        self.handover.send(outgoing)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.handover.close().boxed()
    }
}
