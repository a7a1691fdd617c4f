//! One event or control note as it lies in a log: length, CRC-32C, then the content.
//!
//! A frame holds all that the indexes are rebuilt from, so that recovery never decodes a body.

use super::notes::Control;
use crate::event::{Arrival, Event, Origin, Stored, Timestamp};
use crate::store::files::bytes::{Reader, put_text};
use bytes::Bytes;
use std::sync::Arc;

/// Days since 1970-01-01, UTC, of the event's own timestamp.
pub(in crate::store) type Day = i32;

/// Keyed 128-bit hash of dedupe domain and event id.
pub(in crate::store) type DedupeHash = u128;

const EVENT: u8 = 1;
const CONTROL: u8 = 2;
/// An event whose earlier record was damaged: that one's sequence, then as any other.
const EVENT_ANEW: u8 = 3;

/// Bytes before the content: its length and its CRC.
const PREFIX: usize = 8;

/// An event with its dedupe hash, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct EventFrame {
    pub(in crate::store) stored: Stored,
    pub(in crate::store) hash: DedupeHash,
    /// [`crate::store::Record::replaces`].
    pub(in crate::store) replaces: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Frame {
    Event(Box<EventFrame>),
    Control(Control),
}

/// The day of a time.
pub(in crate::store) fn day_of(instant: jiff::Timestamp) -> Day {
    instant.as_second().div_euclid(86_400) as Day
}

/// Appends the frame of an event to `out`.
pub(in crate::store) fn put_event(out: &mut Vec<u8>, frame: &EventFrame) {
    let Stored { sequence, arrival, event } = &frame.stored;
    put(out, |out| {
        match frame.replaces {
            Some(replaced) => {
                out.push(EVENT_ANEW);
                out.extend_from_slice(&replaced.to_le_bytes());
            }
            None => out.push(EVENT),
        }
        out.push(arrival.origin.code());
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&arrival.received_at.as_microsecond().to_le_bytes());
        out.extend_from_slice(&frame.hash.to_le_bytes());
        put_text(out, &arrival.source);
        put_text(out, &event.id);
        put_text(out, &event.kind);
        put_text(out, event.timestamp.as_str());
        put_text(out, &event.sandbox_id);
        // Both are 1 to 128 characters where they are there at all, so that nothing else is written as empty.
        put_text(out, arrival.webhook_id.as_deref().unwrap_or_default());
        put_text(out, arrival.delivery_id.as_deref().unwrap_or_default());
        out.extend_from_slice(&event.body);
    });
}

/// Appends the frame of a control note to `out`.
pub(in crate::store) fn put_control(out: &mut Vec<u8>, control: &Control) {
    // Serialising plain data with string keys into memory cannot fail.
    let json = serde_json::to_vec(control).unwrap_or_default();
    put(out, |out| {
        out.push(CONTROL);
        out.extend_from_slice(&json);
    });
}

fn put(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    content(out);
    let length = (out.len() - start - PREFIX) as u32;
    let crc = crc32c::crc32c(out.get(start + PREFIX..).unwrap_or_default());
    if let Some((length_place, crc_place)) =
        out.get_mut(start..start + PREFIX).and_then(|prefix| prefix.split_at_mut_checked(4))
    {
        length_place.copy_from_slice(&length.to_le_bytes());
        crc_place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Reads the frame at the front of `bytes` and takes it off; `None` when it is not whole and sound.
pub(in crate::store) fn take(bytes: &mut Bytes) -> Option<Frame> {
    let mut prefix = Reader(bytes.get(..PREFIX)?);
    let length = prefix.u32()? as usize;
    let crc = prefix.u32()?;
    let end = PREFIX.checked_add(length)?;
    if bytes.len() < end {
        return None;
    }
    let mut content = bytes.split_to(end);
    let content = content.split_off(PREFIX);
    if crc32c::crc32c(&content) != crc {
        return None;
    }
    let mut reader = Reader(&content);
    match reader.u8()? {
        EVENT => event(&content, reader, None).map(|frame| Frame::Event(Box::new(frame))),
        EVENT_ANEW => {
            let replaced = reader.u64()?;
            event(&content, reader, Some(replaced)).map(|frame| Frame::Event(Box::new(frame)))
        }
        CONTROL => serde_json::from_slice(reader.0).ok().map(Frame::Control),
        _ => None,
    }
}

fn event(content: &Bytes, mut reader: Reader<'_>, replaces: Option<u64>) -> Option<EventFrame> {
    let origin = Origin::from_code(reader.u8()?)?;
    let sequence = reader.u64()?;
    let received_at = jiff::Timestamp::from_microsecond(reader.i64()?).ok()?;
    let hash = reader.u128()?;
    let source: Arc<str> = reader.text()?.into();
    let id = reader.text()?.to_owned();
    let kind = reader.text()?.to_owned();
    let timestamp = Timestamp::parse(reader.text()?).ok()?;
    let sandbox_id = reader.text()?.to_owned();
    let webhook_id = Some(reader.text()?.to_owned()).filter(|text| !text.is_empty());
    let delivery_id = Some(reader.text()?.to_owned()).filter(|text| !text.is_empty());
    let body = content.slice_ref(reader.0);
    Some(EventFrame {
        stored: Stored {
            sequence,
            arrival: Arrival { source, origin, received_at, webhook_id, delivery_id },
            event: Event { id, kind, timestamp, sandbox_id, body },
        },
        hash,
        replaces,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log::notes::SinkRegistration;

    fn sample() -> EventFrame {
        EventFrame {
            stored: Stored {
                sequence: 4711,
                arrival: Arrival {
                    source: "acme".into(),
                    origin: Origin::Webhook,
                    received_at: jiff::Timestamp::from_microsecond(1_754_513_976_412_001).unwrap(),
                    webhook_id: Some("w-1".into()),
                    delivery_id: None,
                },
                event: Event {
                    id: "f5911677-cb60-498f-afed-f68143b3cc59".into(),
                    kind: "sandbox.lifecycle.killed".into(),
                    timestamp: Timestamp::parse("2025-08-06T20:59:36.120Z").unwrap(),
                    sandbox_id: "iz62km2v0zwlow3i7icxv".into(),
                    body: Bytes::from_static(b"{\"id\": 1}"),
                },
            },
            hash: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
            replaces: None,
        }
    }

    #[test]
    fn what_is_put_is_taken() {
        let mut out = Vec::new();
        put_event(&mut out, &sample());
        let anew = EventFrame { replaces: Some(17), ..sample() };
        put_event(&mut out, &anew);
        let control = Control::Sinks(vec![SinkRegistration::new("lake", 7)]);
        put_control(&mut out, &control);
        let mut bytes = Bytes::from(out);
        assert_eq!(take(&mut bytes), Some(Frame::Event(Box::new(sample()))));
        assert_eq!(take(&mut bytes), Some(Frame::Event(Box::new(anew))));
        assert_eq!(take(&mut bytes), Some(Frame::Control(control)));
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_frame_with_any_bit_flipped_or_any_byte_missing_is_refused() {
        let mut out = Vec::new();
        put_event(&mut out, &sample());
        for bit in 0..out.len() * 8 {
            let mut broken = out.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(take(&mut Bytes::from(broken)), None, "bit {bit}");
        }
        for length in 0..out.len() {
            assert_eq!(take(&mut Bytes::copy_from_slice(&out[..length])), None, "length {length}");
        }
    }

    #[test]
    fn days_are_those_of_utc() {
        assert_eq!(day_of("1970-01-01T23:59:59Z".parse().unwrap()), 0);
        assert_eq!(day_of("1969-12-31T23:59:59Z".parse().unwrap()), -1);
        assert_eq!(day_of("2025-08-06T00:00:00Z".parse().unwrap()), 20_306);
    }
}
