//! A connection that is up, and its channels.

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
use tokio::sync::{OnceCell, Semaphore};
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
    /// In confirm mode, nothing unconfirmed on them.
    idle: Mutex<Vec<Channel>>,
    declared: OnceCell<()>,
    /// As many as records may be unconfirmed.
    pub(super) slots: Arc<Semaphore>,
    settings: Settings,
    peer: Arc<str>,
}

impl Link {
    pub(super) fn new(connection: Connection, settings: Settings, peer: Arc<str>) -> Self {
        // Two are left for declaring and for asking. 0 is no limit.
        let channels = match connection.configuration().channel_max() {
            0 => settings.max_unconfirmed,
            most => settings.max_unconfirmed.min(most.saturating_sub(2).max(1)),
        };
        let slots = Arc::new(Semaphore::new(usize::from(channels)));
        Self { connection, idle: Mutex::default(), declared: OnceCell::new(), slots, settings, peer }
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    /// Declares what is to be declared, once per connection.
    pub(super) async fn declare(&self) -> Result<(), SendError> {
        let Some(wanted) = &self.settings.declare else { return Ok(()) };
        let declaring = async {
            let channel = self.connection.create_channel().await?;
            declare::declare(&channel, &self.settings.exchange, wanted).await
        };
        let declaring = async {
            timeout(self.settings.connect_timeout, declaring)
                .await
                .map_err(|_| sink_wide(Reason::Timeout, format!("cannot declare at {}: timed out", self.peer)))?
                .map_err(|error| classify::connecting(&error, "declare at", &self.peer))
        };
        self.declared.get_or_try_init(|| declaring).await.copied()
    }

    /// Publishes one record and waits for what the broker says to it.
    pub(super) async fn publish(&self, outgoing: &Outgoing) -> Result<(), SendError> {
        let message = Message::new(outgoing, self.connection.configuration().frame_max())?;
        if self.connection.status().blocked() {
            let blocked = format!("{} blocks publishers: it is low on memory or disk", self.peer);
            return Err(sink_wide(Reason::Rejected, blocked));
        }
        let Settings { exchange, ack_timeout, unroutable, .. } = &self.settings;
        // A channel that is not put back closes when dropped: after an error, and after the time-out too, since what
        // comes on it then would be about the earlier record.
        let confirmed = timeout(*ack_timeout, self.confirmed(message, &outgoing.payload)).await;
        match confirmed {
            Ok(Ok(confirmation)) => message::judge(&confirmation, outgoing, *unroutable, exchange, &self.peer),
            Ok(Err(error)) => Err(classify::publishing(&error, exchange, &self.peer)),
            Err(_) => {
                let late = format!("no confirmation from {} within {ack_timeout:?}", self.peer);
                Err(record_only(Reason::Timeout, late))
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
        // An error means that it is closed already; a broker that does not answer is not waited for.
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close(200, "e2b-relay ends".into())).await;
    }
}
