//! What the broker is asked to have: an exchange, a queue, and a binding of the two, all durable. Declaring what is there
//! already, with the same properties, changes nothing.

use super::settings::{Declare, ExchangeType};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};

pub(super) async fn declare(channel: &Channel, exchange: &str, declare: &Declare) -> lapin::Result<()> {
    let kind = match declare.exchange_type {
        ExchangeType::Topic => ExchangeKind::Topic,
        ExchangeType::Direct => ExchangeKind::Direct,
        ExchangeType::Fanout => ExchangeKind::Fanout,
        ExchangeType::Headers => ExchangeKind::Headers,
    };
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default()).await?;
    if declare.queue.is_empty() {
        return Ok(());
    }
    let mut arguments = FieldTable::default();
    if let Some(queue_type) = declare.queue_type {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from(queue_type.as_str())));
    }
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(declare.queue.as_str().into(), durable, arguments).await?;
    let (queue, key) = (declare.queue.as_str().into(), declare.binding_key.as_str().into());
    channel.queue_bind(queue, exchange.into(), key, QueueBindOptions::default(), FieldTable::default()).await
}
