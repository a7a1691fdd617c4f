//! A store that no daemon has open: what to open it with, and events that are offered to it directly.

use bytes::Bytes;
use e2b_relay::event::{Arrival, Event, Origin, Stored, Timestamp};
use e2b_relay::executor::Executor;
use e2b_relay::health::Health;
use e2b_relay::metrics::Metrics;
use e2b_relay::store::{
    Accepted, AttachError, Cause, DamagedSpan, DeadLetter, Handles, Limits, OnSled, OpenError, Ordinals, Parts,
    Progress, Reader, RealDisk, Record, Refused, Resolution, Settings, SinkStart, Step, TAIL, TailReader, open,
    open_migrating, since_boot,
};
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;
use tokio::sync::watch;

/// All handles of an open store in one, for tests that use most of them: whatever belongs to a sink goes by its name.
#[derive(Debug)]
pub(crate) struct Store(Handles);

impl Store {
    pub(crate) fn open(settings: Settings, parts: Parts) -> Result<Self, OpenError> {
        open(settings, parts).map(Self)
    }

    pub(crate) fn open_migrating(settings: Settings, parts: Parts, steps: &[Step]) -> Result<Self, OpenError> {
        open_migrating(settings, parts, steps).map(Self)
    }

    pub(crate) async fn accept(&self, event: Event, arrival: Arrival) -> Result<Accepted, Refused> {
        self.log.accept(event, arrival).await
    }

    pub(crate) fn reader(&self) -> Reader {
        self.log.reader()
    }

    pub(crate) fn tail_reader(&self) -> TailReader {
        self.log.tail_reader()
    }

    pub(crate) fn ordinals_at(&self, sequence: u64) -> io::Result<Ordinals> {
        self.log.ordinals_at(sequence)
    }

    pub(crate) fn damaged_spans(&self) -> watch::Receiver<Vec<DamagedSpan>> {
        self.log.damaged_spans()
    }

    pub(crate) fn refusing(&self) -> watch::Receiver<Option<Refused>> {
        self.log.refusing()
    }

    pub(crate) async fn attach(&self, sinks: &[SinkStart]) -> Result<(), AttachError> {
        self.registry.attach(sinks).await
    }

    pub(crate) fn progress(&self, sink: &str) -> Progress {
        self.registry.claim(sink).progress()
    }

    pub(crate) fn advance(&self, sink: &str, progress: Progress) -> io::Result<()> {
        self.registry.claim(sink).keep(progress)
    }

    pub(crate) fn park(&self, sink: &str, letters: &[(Arc<Stored>, Cause)]) -> io::Result<usize> {
        self.registry.claim(sink).park(letters)
    }

    pub(crate) fn dead_letters_waiting(&self, sink: &str) -> u64 {
        self.letters.waiting(sink)
    }

    pub(crate) fn dead_letters(&self, sink: &str) -> Vec<(u64, DeadLetter)> {
        self.letters.of(sink)
    }

    pub(crate) fn dead_letter_event(&self, sink: &str, sequence: u64) -> io::Result<Option<Stored>> {
        self.letters.event(sink, sequence)
    }

    pub(crate) fn resolve(&self, sink: &str, sequences: &[u64], how: Resolution) -> io::Result<usize> {
        self.letters.resolve(sink, sequences, how)
    }

    pub(crate) fn close(&self) {
        self.engine.close();
    }
}

impl Deref for Store {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.0
    }
}

/// The machine's disk and clock, and nobody who looks.
pub(crate) fn parts() -> Parts {
    Parts {
        disk: Arc::new(RealDisk),
        kv: Arc::new(OnSled),
        executor: Executor::default(),
        tail: TAIL,
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
