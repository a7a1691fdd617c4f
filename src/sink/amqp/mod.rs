//! AMQP 0.9.1, as RabbitMQ speaks it: persistent, mandatory, and delivered when the broker has confirmed it.

mod classify;
mod connect;
mod declare;
mod flow;
mod greeting;
mod link;
mod message;
mod settings;
mod worker;

pub use settings::{Declare, ExchangeType, QueueType, Settings, Unroutable};

use super::handover::{self, Handover};
use super::{InvalidSetting, peer};
use super::{Order, Reason, SendError, Sink};
use crate::route::Outgoing;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A sink of type `amqp`.
pub struct Amqp {
    handover: Handover,
    peer: Arc<str>,
    flow: Arc<flow::Flow>,
}

impl Amqp {
    /// Starts the worker, so it is to be called within the runtime; connects when first asked to.
    pub fn new(settings: Settings) -> Result<Self, InvalidSetting> {
        let servers = settings.servers()?;
        settings.check()?;
        let tls = peer::tls(&settings.tls())?;
        let peers: Vec<&str> = servers.iter().map(|server| &*server.peer).collect();
        let peer: Arc<str> = peers.join(", ").into();
        let (handover, commands) = handover::channel(peer.clone());
        let flow = Arc::<flow::Flow>::default();
        let connector = connect::Connector::new(settings, servers, tls, Arc::clone(&flow));
        tokio::spawn(worker::Worker::new(connector, commands).run());
        Ok(Self { handover, peer, flow })
    }

    /// The brokers, for people to read.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl Sink for Amqp {
    fn order(&self) -> Order {
        Order::OnePerSandbox
    }

    fn waits_for_a_first_route(&self) -> bool {
        true
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>> {
        self.handover.probe().boxed()
    }

    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        self.handover.send(outgoing)
    }

    fn trouble(&self) -> Option<(Reason, String)> {
        self.flow.trouble().map(|blocked| (Reason::Rejected, blocked))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.handover.close().boxed()
    }
}
