//! A store that no daemon has open: what to open it with, and events that are offered to it directly.

use bytes::Bytes;
use e2b_relay::event::{Arrival, Event, Origin, Stored, Timestamp};
use e2b_relay::health::Health;
use e2b_relay::metrics::Metrics;
use e2b_relay::store::{Accepted, Limits, Parts, Progress, RealDisk, Record, Store, since_boot};
use std::ops::Range;
use std::sync::Arc;

/// The machine's disk and clock, and nobody who looks.
pub(crate) fn parts() -> Parts {
    Parts {
        disk: Arc::new(RealDisk),
        clock: Arc::new(jiff::Timestamp::now),
        boot_clock: Arc::new(since_boot),
        metrics: Metrics::new("test", "test").unwrap(),
        max_in_flight: 100_000,
        health: Health::default(),
    }
}

/// By webhook, from `acme`.
pub(crate) fn arrival(received_at: jiff::Timestamp) -> Arrival {
    Arrival { source: "acme".into(), origin: Origin::Webhook, received_at, webhook_id: None, delivery_id: None }
}

/// Offers `event-N` of now for each number, of seven sandboxes, 600 bytes each.
pub(crate) async fn accept(store: &Store, numbers: Range<u64>) -> Vec<Accepted> {
    let now = jiff::Timestamp::now();
    let offers = numbers.map(|number| {
        let event = Event {
            id: format!("event-{number}"),
            kind: "sandbox.lifecycle.created".to_owned(),
            timestamp: Timestamp::from(now),
            sandbox_id: format!("sandbox-{}", number % 7),
            body: Bytes::from(vec![b'x'; 600]),
        };
        store.accept(event, arrival(now))
    });
    futures_util::future::join_all(offers).await.into_iter().map(Result::unwrap).collect()
}

/// The records behind a sequence, at most so many, read from the disk.
pub(crate) fn records_after(store: &Store, after: u64, most: usize) -> Vec<Record> {
    store.reader().read_after(after, Limits { events: most, bytes: 8 << 20 }).unwrap().records
}

/// All events behind a sequence, samples among them.
pub(crate) fn events_after(store: &Store, mut after: u64) -> Vec<Stored> {
    let (mut reader, mut all) = (store.reader(), Vec::new());
    loop {
        let batch = reader.read_after(after, Limits { events: 4_096, bytes: 8 << 20 }).unwrap();
        after = batch.through;
        if batch.records.is_empty() {
            return all;
        }
        all.extend(batch.into_events());
    }
}

/// Notes that a sink has settled everything up to a sequence, by the counts of `progress`.
pub(crate) fn advance(store: &Store, sink: &str, position: u64, progress: Progress) {
    let ordinals = store.ordinals_at(position).unwrap();
    store.advance(sink, Progress { position, ordinals, ..progress }).unwrap();
}
