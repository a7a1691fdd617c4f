//! A connection that is up, and its channels.

use super::connect::Socket;
use super::flow::{Flow, Gauge};
use super::message::{self, Message};
use super::settings::{Server, Settings};
use super::{classify, declare, greeting};
use crate::route::Outgoing;
use crate::sink::handover::{record_only, sink_wide};
use crate::sink::{Reason, SendError};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::{AMQPScheme, SASLMechanism};
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
    server: Server,
    peer: Arc<str>,
}

impl Link {
    pub(super) fn new(connection: Connection, socket: Socket, settings: Settings, server: Server, flow: &Flow) -> Self {
        let peer = Arc::clone(&server.peer);
        let flow = flow.follow(connection.events_listener(), connection.status().clone(), Arc::clone(&peer));
        // Two are left for declaring and for asking. 0 is no limit.
        let channels = match connection.configuration().channel_max() {
            0 => settings.max_unconfirmed,
            most => settings.max_unconfirmed.min(most.saturating_sub(2).max(1)),
        };
        let slots = Semaphore::new(usize::from(channels));
        let declared = tokio::sync::Mutex::default();
        Self { connection, socket, flow, idle: Mutex::default(), declared, slots, settings, server, peer }
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
                Ok(confirmation) => {
                    let outcome = message::judge(&confirmation, outgoing, *unroutable, exchange, &self.peer);
                    self.flow.note(&outcome);
                    outcome
                }
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

    /// `RabbitMQ 3.13.7, no TLS, as relay, exchange e2b, queue e2b-events (12 messages)`.
    pub(super) async fn describe(&self) -> Result<String, SendError> {
        if let Some(blocked) = self.flow.blocked() {
            return Err(sink_wide(Reason::Rejected, blocked));
        }
        let (exchange, uri) = (&self.settings.exchange, &self.server.uri);
        let tls = if uri.scheme == AMQPScheme::AMQPS { "TLS" } else { "no TLS" };
        let whom = match uri.query.auth_mechanism {
            Some(SASLMechanism::External) => "by a certificate".to_owned(),
            _ => format!("as {}", uri.authority.userinfo.username),
        };
        let mut words = vec![greeting::of(&self.server, &self.settings).await, tls.to_owned(), whom];
        if exchange.is_empty() {
            words.push("default exchange".to_owned());
        } else {
            let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let asked = self.ask(async |channel| {
                let name = exchange.as_str().into();
                channel.exchange_declare(name, ExchangeKind::Topic, passive, FieldTable::default()).await
            });
            words.push(match asked.await? {
                Some(()) => format!("exchange {exchange}"),
                None => format!("exchange {exchange} to be declared"),
            });
        }
        if let Some(queue) =
            self.settings.declare.as_ref().map(|declare| &declare.queue).filter(|name| !name.is_empty())
        {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let asked = self.ask(async |channel| {
                channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await
            });
            words.push(match asked.await? {
                Some(found) => format!("queue {queue} ({} messages)", found.message_count()),
                None => format!("queue {queue} to be declared"),
            });
        }
        Ok(words.join(", "))
    }

    /// Asks for something that may be missing; `None` if it is and is to be declared.
    async fn ask<T>(&self, question: impl AsyncFnOnce(Channel) -> lapin::Result<T>) -> Result<Option<T>, SendError> {
        let asking = async { question(self.connection.create_channel().await?).await };
        let answer = timeout(self.settings.connect_timeout, asking)
            .await
            .map_err(|_| sink_wide(Reason::Timeout, format!("no answer from {}", self.peer)))?;
        match answer.map_err(|error| classify::publishing(&error, &self.settings.exchange, &self.peer)) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.reason() == Reason::Unroutable && self.settings.declare.is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn close(&self) {
        self.flow.close();
        // An error means that it is closed already; a broker that does not answer is not waited for.
        if timeout(CLOSE_TIMEOUT, self.connection.close(200, "e2b-relay ends".into())).await.is_err() {
            self.socket.end();
        }
    }
}
