//! A record as an AMQP message, and what the broker's confirmation of it means.

use super::settings::Unroutable;
use crate::route::Outgoing;
use crate::sink::handover::{record_only, reject, sink_wide};
use crate::sink::{Reason, SendError};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Confirmation};

/// AMQP 0.9.1, `delivery-mode`: kept over a restart of the broker.
const PERSISTENT: u8 = 2;

/// In bytes: what a header frame holds beside the texts we put into it, generously.
const HEADER_FRAME_OVERHEAD: usize = 512;

/// In bytes, of a header's two lengths and its type.
const FIELD_OVERHEAD: usize = 6;

/// What is published, ready for the wire.
pub(super) struct Message {
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
}

impl Message {
    /// `frame_max` is the negotiated limit in bytes, 0 for none. A header does not span frames: one that is too large
    /// would end the connection, and every other record's send with it.
    pub(super) fn new(outgoing: &Outgoing, frame_max: u32) -> Result<Self, SendError> {
        let routing_key = ShortString::try_new(outgoing.address.as_str())
            .map_err(|_| reject(Reason::Template, "the routing key is longer than 255 bytes"))?;
        let property = |name: &str, text: &str| {
            ShortString::try_new(text).map_err(|_| reject(Reason::TooLarge, format!("{name} is longer than 255 bytes")))
        };
        let mut headers = FieldTable::default();
        let mut size = HEADER_FRAME_OVERHEAD + outgoing.id.len() + outgoing.kind.len() + outgoing.content_type.len();
        for (name, value) in &outgoing.headers {
            size += name.len() + value.len() + FIELD_OVERHEAD;
            headers.insert(property("a header's name", name)?, AMQPValue::LongString(LongString::from(value.as_str())));
        }
        let limit = usize::try_from(frame_max).unwrap_or(usize::MAX);
        if limit != 0 && size > limit {
            return Err(reject(Reason::TooLarge, format!("the headers do not fit into a frame of {limit} bytes")));
        }
        let properties = BasicProperties::default()
            .with_message_id(property("the id", &outgoing.id)?)
            .with_type(property("the type", &outgoing.kind)?)
            .with_content_type(property("the content type", outgoing.content_type)?)
            // The protocol knows no time before 1970.
            .with_timestamp(u64::try_from(outgoing.unix_seconds).unwrap_or(0))
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers);
        Ok(Self { routing_key, properties })
    }
}

/// `peer` and `exchange` are for the message.
pub(super) fn judge(
    confirmation: &Confirmation,
    outgoing: &Outgoing,
    policy: Unroutable,
    exchange: &str,
    peer: &str,
) -> Result<(), SendError> {
    match confirmation {
        // Confirmed *and* returned: the broker has dealt with the message, by finding no queue for it.
        Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
            let key = &outgoing.address;
            let message = if exchange.is_empty() {
                format!(
                    "there is no queue {key:?} at {peer}, and the default exchange routes to the queue named; declare it"
                )
            } else {
                format!(
                    "no queue at {peer} is bound to the exchange {exchange:?} for the routing key {key:?}; bind one, or \
                         let the relay do it by declare.queue"
                )
            };
            Err(match policy {
                Unroutable::DeadLetter => reject(Reason::Unroutable, message),
                Unroutable::Drop => SendError::Drop { reason: Reason::Unroutable, message },
                Unroutable::Halt => sink_wide(Reason::Unroutable, message),
            })
        }
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Nack(None) => Err(record_only(
            Reason::Rejected,
            format!("{peer} did not take the record (basic.nack): a queue is full or away"),
        )),
        Confirmation::NotRequested => {
            Err(record_only(Reason::Other, format!("{peer} was not asked for a confirmation")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Scope;
    use bytes::Bytes;

    fn outgoing() -> Outgoing {
        Outgoing {
            sequence: 1,
            id: "id-1".to_owned(),
            kind: "sandbox.lifecycle.created".to_owned(),
            sandbox_id: "sbx".to_owned(),
            address: "key".to_owned(),
            key: String::new(),
            payload: Bytes::from_static(b"{}"),
            content_type: "application/json",
            unix_seconds: 1_754_513_976,
            headers: vec![("ce".to_owned(), "1".to_owned())],
        }
    }

    #[test]
    fn the_properties_are_the_contracts() {
        let message = Message::new(&outgoing(), 131_072).expect("fits");
        let properties = message.properties;
        assert_eq!(properties.message_id().as_ref().map(ShortString::as_str), Some("id-1"));
        assert_eq!(properties.kind().as_ref().map(ShortString::as_str), Some("sandbox.lifecycle.created"));
        assert_eq!(properties.content_type().as_ref().map(ShortString::as_str), Some("application/json"));
        assert_eq!(properties.timestamp(), &Some(1_754_513_976));
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert!(properties.headers().as_ref().is_some_and(|headers| headers.contains_key("ce")));
    }

    #[test]
    fn what_the_protocol_cannot_carry_is_a_dead_letter() {
        let long = || "x".repeat(256);
        for (outgoing, reason) in [
            (Outgoing { address: long(), ..outgoing() }, Reason::Template),
            (Outgoing { id: long(), ..outgoing() }, Reason::TooLarge),
            (Outgoing { kind: long(), ..outgoing() }, Reason::TooLarge),
            (Outgoing { headers: vec![(long(), String::new())], ..outgoing() }, Reason::TooLarge),
            (Outgoing { headers: vec![("ce".to_owned(), "x".repeat(4096))], ..outgoing() }, Reason::TooLarge),
        ] {
            let refused = Message::new(&outgoing, 4096).err();
            assert!(matches!(refused, Some(SendError::Reject { reason: found, .. }) if found == reason), "{refused:?}");
        }
    }

    #[test]
    fn a_negative_confirmation_is_the_records_own_trouble() {
        let outcome = judge(&Confirmation::Nack(None), &outgoing(), Unroutable::Halt, "e2b", "amqp://h");
        let expected = matches!(outcome, Err(SendError::Retry { scope: Scope::Record, reason: Reason::Rejected, .. }));
        assert!(expected, "{outcome:?}");
        assert_eq!(judge(&Confirmation::Ack(None), &outgoing(), Unroutable::Halt, "e2b", "amqp://h"), Ok(()));
    }
}
