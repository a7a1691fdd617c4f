//! What the fuzz targets of this room stand on: the driver, which they share with those of `tests/fuzz`, a file in memory,
//! and damage.

#[path = "../../tests/fuzz/driver.rs"]
pub(in crate::store) mod driver;
#[path = "../../tests/support/seed.rs"]
mod seed;

use super::files::disk::File;
use super::log::frame::EventFrame;
use crate::event::{Arrival, Event, Origin, Stored, Timestamp};
use fastrand::Rng;
use std::io;
use std::sync::{Arc, RwLock};

/// A file in memory.
#[derive(Default)]
pub(in crate::store) struct Memory(RwLock<Vec<u8>>);

impl Memory {
    pub(in crate::store) fn of(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self(RwLock::new(bytes.to_vec())))
    }
}

impl File for Memory {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.read().unwrap();
        let rest = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn write_all_at(&self, new: &[u8], offset: u64) -> io::Result<()> {
        let (mut bytes, start) = (self.0.write().unwrap(), usize::try_from(offset).unwrap());
        let end = start + new.len();
        let length = bytes.len().max(end);
        bytes.resize(length, 0);
        bytes[start..end].copy_from_slice(new);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_and_reread(&self) -> io::Result<()> {
        Ok(())
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap().len() as u64)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.write().unwrap().resize(usize::try_from(length).unwrap(), 0);
        Ok(())
    }
}

/// What CRC-32C finds for certain, as long as the length is not hit: up to three bits, or any within 32 of each other. Where
/// the length is, it does not find one in four thousand million.
pub(in crate::store) fn damage(bytes: &mut [u8], random: &mut Rng) {
    if random.bool() {
        for _ in 0..random.usize(1..=3) {
            bytes[random.usize(..bytes.len())] ^= 1 << random.u8(..8);
        }
    } else {
        let start = random.usize(..bytes.len());
        bytes.iter_mut().skip(start).take(4).for_each(|byte| *byte = random.u8(..));
    }
}

/// Some event, with texts of `input`.
pub(in crate::store) fn drawn(input: &[u8], sequence: u64, random: &mut Rng) -> EventFrame {
    let origins = [Origin::Webhook, Origin::Backfill, Origin::Metrics, Origin::Reconcile, Origin::Relay];
    let received_at = jiff::Timestamp::from_microsecond(random.i64(-1 << 52..1 << 52)).unwrap();
    let happened = jiff::Timestamp::new(random.i64(-62_000_000_000..253_000_000_000), random.i32(..1_000_000_000));
    let optional = |random: &mut Rng| random.bool().then(|| text(input, random));
    EventFrame {
        stored: Stored {
            sequence,
            arrival: Arrival {
                source: text(input, random).into(),
                origin: origins[random.usize(..origins.len())],
                received_at,
                webhook_id: optional(random),
                delivery_id: optional(random),
            },
            event: Event {
                id: text(input, random),
                kind: text(input, random),
                timestamp: Timestamp::from(happened.unwrap_or_default()),
                sandbox_id: text(input, random),
                body: serde_json::json!({"text": String::from_utf8_lossy(input)}).to_string().into(),
            },
        },
        hash: random.u128(..),
        replaces: random.bool().then(|| random.u64(..)),
    }
}

/// 1 to 255 characters of the input.
pub(in crate::store) fn text(input: &[u8], random: &mut Rng) -> String {
    let start = random.usize(..=input.len());
    let text: String = String::from_utf8_lossy(&input[start..]).chars().take(random.usize(1..=255)).collect();
    if text.is_empty() { "x".to_owned() } else { text }
}
