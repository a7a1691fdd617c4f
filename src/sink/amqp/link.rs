//! A connection that is up, and its channels.

use super::connect::Socket;
use super::flow::{Flow, Gauge};
use super::message::{self, Message};
use super::settings::Settings;
use super::{classify, declare};
use crate::route::Outgoing;
use crate::sink::handover::{record_only, sink_wide};
use crate::sink::{Reason, SendError};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection, ExchangeKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// For a good-bye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection with a pool of channels, on each of which at most one record is unconfirmed.
///
/// One record per channel, because only then it is certain what the broker speaks of. A returned message carries no
/// delivery tag, and lapin gives it to whichever confirmation it reads next, while RabbitMQ confirms several at once: of
/// 3,000 records in flight on one channel, a third of them unroutable, 10 unroutable ones came back as delivered. And
/// what closes a channel (a message over the broker's size limit, say) concerns one record, and no other's send.
pub(super) struct Link {
    connection: Connection,
    socket: Socket,
    flow: Gauge,
    /// In confirm mode, nothing unconfirmed on them.
    idle: Mutex<Vec<Channel>>,
    /// How often that was done; held while it is done.
    declared: tokio::sync::Mutex<u64>,
    /// As many as records may be unconfirmed.
    slots: Semaphore,
    settings: Settings,
    peer: Arc<str>,
}

impl Link {
    pub(super) fn new(connection: Connection, socket: Socket, settings: Settings, peer: Arc<str>, flow: &Flow) -> Self {
        let flow = flow.follow(connection.events_listener(), connection.status().clone(), Arc::clone(&peer));
        // Two are left for declaring and for asking. 0 is no limit.
        let channels = match connection.configuration().channel_max() {
            0 => settings.max_unconfirmed,
            most => settings.max_unconfirmed.min(most.saturating_sub(2).max(1)),
        };
        let slots = Semaphore::new(usize::from(channels));
        let declared = tokio::sync::Mutex::default();
        Self { connection, socket, flow, idle: Mutex::default(), declared, slots, settings, peer }
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    /// Declares what is to be declared, unless that was done more than `known` times on this connection; returns how often
    /// it was done.
    pub(super) async fn declare(&self, known: u64) -> Result<u64, SendError> {
        let Some(wanted) = &self.settings.declare else { return Ok(0) };
        let mut declared = self.declared.lock().await;
        if *declared > known {
            return Ok(*declared);
        }
        let declaring = async {
            let channel = self.connection.create_channel().await?;
            declare::declare(&channel, &self.settings.exchange, wanted).await
        };
        timeout(self.settings.connect_timeout, declaring)
            .await
            .map_err(|_| sink_wide(Reason::Timeout, format!("cannot declare at {}: timed out", self.peer)))?
            .map_err(|error| classify::connecting(&error, "declare at", &self.peer))?;
        *declared += 1;
        Ok(*declared)
    }

    /// Publishes one record and waits for what the broker says to it. `declared` is what [`Self::declare`] said before.
    pub(super) async fn publish(&self, outgoing: &Outgoing, declared: u64) -> Result<(), SendError> {
        let publishing = async {
            let _slot = self.slots.acquire().await;
            match self.publish_once(outgoing).await {
                // Somebody may have deleted what was declared, and of that nothing tells but the records.
                Err(error) if declared > 0 && error.reason() == Reason::Unroutable => {
                    self.declare(declared).await?;
                    self.publish_once(outgoing).await
                }
                outcome => outcome,
            }
        };
        tokio::select! {
            outcome = publishing => outcome,
            () = self.flow.closed() => {
                Err(sink_wide(Reason::Connect, format!("the connection to {} is closed", self.peer)))
            }
        }
    }

    async fn publish_once(&self, outgoing: &Outgoing) -> Result<(), SendError> {
        let message = Message::new(outgoing, self.connection.configuration().frame_max())?;
        self.flow.opened().await;
        let Settings { exchange, ack_timeout, unroutable, .. } = &self.settings;
        // A channel that is not put back closes when dropped: after an error, and after the time-out too, since what
        // comes on it then would be about the earlier record.
        tokio::select! {
            confirmed = self.confirmed(message, &outgoing.payload) => match confirmed {
                Ok(confirmation) => message::judge(&confirmation, outgoing, *unroutable, exchange, &self.peer),
                Err(error) => Err(classify::publishing(&error, exchange, &self.peer)),
            },
            () = self.out_of_patience() => {
                let late = format!("no confirmation from {} within {ack_timeout:?}", self.peer);
                Err(record_only(Reason::Timeout, late))
            }
        }
    }

    /// Returns once a confirmation is late. While the broker blocks publishers it is not: the record lies in a buffer
    /// between here and there, and another copy would only lie behind it. That the broker is still there, the
    /// heart-beats tell.
    async fn out_of_patience(&self) {
        loop {
            self.flow.opened().await;
            if timeout(self.settings.ack_timeout, self.flow.shut()).await.is_err() {
                return;
            }
        }
    }

    async fn confirmed(&self, message: Message, payload: &[u8]) -> lapin::Result<Confirmation> {
        let channel = self.channel().await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.settings.exchange.as_str().into();
        let Message { routing_key, properties } = message;
        let confirm = channel.basic_publish(exchange, routing_key, options, payload, properties).await?;
        let confirmation = confirm.await?;
        self.idle().push(channel);
        Ok(confirmation)
    }

    async fn channel(&self) -> lapin::Result<Channel> {
        loop {
            let Some(channel) = self.idle().pop() else { break };
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the exchange is there. lapin does not tell what the broker calls itself.
    pub(super) async fn describe(&self) -> Result<String, SendError> {
        if let Some(blocked) = self.flow.blocked() {
            return Err(sink_wide(Reason::Rejected, blocked));
        }
        let exchange = &self.settings.exchange;
        if exchange.is_empty() {
            return Ok("AMQP 0.9.1 broker, default exchange".to_owned());
        }
        let asking = async {
            let channel = self.connection.create_channel().await?;
            let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let name = exchange.as_str().into();
            channel.exchange_declare(name, ExchangeKind::Topic, passive, FieldTable::default()).await
        };
        timeout(self.settings.connect_timeout, asking)
            .await
            .map_err(|_| sink_wide(Reason::Timeout, format!("no answer from {}", self.peer)))?
            .map_or_else(
                |error| match classify::publishing(&error, exchange, &self.peer) {
                    SendError::Retry { reason: Reason::Unroutable, .. } if self.settings.declare.is_some() => {
                        Ok(format!("AMQP 0.9.1 broker, exchange {exchange} to be declared"))
                    }
                    error => Err(error),
                },
                |()| Ok(format!("AMQP 0.9.1 broker, exchange {exchange}")),
            )
    }

    pub(super) async fn close(&self) {
        self.flow.close();
        // An error means that it is closed already; a broker that does not answer is not waited for.
        if timeout(CLOSE_TIMEOUT, self.connection.close(200, "e2b-relay ends".into())).await.is_err() {
            self.socket.end();
        }
    }
}
