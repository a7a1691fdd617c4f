//! Records for a sink, and sending them as `deliver` would.

#![allow(dead_code)]

use bytes::Bytes;
use e2b_relay::backoff::Backoff;
use e2b_relay::route::Outgoing;
use e2b_relay::sink::{SendError, Sink};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// For what takes milliseconds, or the seconds that a broker needs to come up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The `number`-th record of a sandbox.
pub(crate) fn record(address: &str, sandbox: &str, number: usize) -> Arc<Outgoing> {
    Arc::new(Outgoing {
        sequence: number as u64,
        id: format!("{sandbox}-{number}"),
        kind: "sandbox.lifecycle.created".to_owned(),
        sandbox_id: sandbox.to_owned(),
        address: address.to_owned(),
        key: String::new(),
        payload: Bytes::from(format!("{{\"id\":\"{sandbox}-{number}\"}}")),
        content_type: "application/json",
        unix_seconds: 1_754_513_976,
        headers: vec![("x-further".to_owned(), "kept".to_owned())],
    })
}

/// Records of `sandboxes` sandboxes, `each` per sandbox, round-robin as they would arrive.
pub(crate) fn records(address: impl Fn(&str) -> String, sandboxes: usize, each: usize) -> Vec<Arc<Outgoing>> {
    let numbers = (0..each).flat_map(|number| (0..sandboxes).map(move |sandbox| (sandbox, number)));
    numbers
        .map(|(sandbox, number)| {
            let sandbox = format!("sbx{sandbox}");
            record(&address(&sandbox), &sandbox, number)
        })
        .collect()
}

/// Sends one until it is confirmed, with back-off between the attempts. Returns how many attempts it took.
pub(crate) async fn deliver(sink: &dyn Sink, record: Arc<Outgoing>) -> usize {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(200), fastrand::Rng::new());
    let attempts = async {
        loop {
            match sink.send(record.clone()).await {
                Ok(()) => return backoff.attempt() as usize + 1,
                Err(SendError::Retry { .. }) => tokio::time::sleep(backoff.next_delay()).await,
                Err(error) => panic!("{} will never be delivered: {error}", record.id),
            }
        }
    };
    timeout(PATIENCE, attempts).await.unwrap_or_else(|_| panic!("{} was not delivered in time", record.id))
}

/// Sends all until each is confirmed: one record of a sandbox at a time, sandboxes side by side. Returns the attempts.
pub(crate) async fn deliver_all(sink: &dyn Sink, records: &[Arc<Outgoing>]) -> usize {
    let mut sandboxes: BTreeMap<&str, Vec<&Arc<Outgoing>>> = BTreeMap::new();
    for record in records {
        sandboxes.entry(&record.sandbox_id).or_default().push(record);
    }
    let sandboxes = sandboxes.into_values().map(|records| async move {
        let mut attempts = 0;
        for record in records {
            attempts += deliver(sink, record.clone()).await;
        }
        attempts
    });
    join_all(sandboxes).await.into_iter().sum()
}

/// The outcome, which must come before anybody loses patience.
pub(crate) async fn outcome(sent: impl Future<Output = Result<(), SendError>>) -> Result<(), SendError> {
    timeout(PATIENCE, sent).await.expect("the send ends")
}

/// `sandbox` and `number` of an id that [`record`] made.
pub(crate) fn parse_id(id: &str) -> (String, usize) {
    let (sandbox, number) = id.rsplit_once('-').expect("an id of ours");
    (sandbox.to_owned(), number.parse().expect("a number"))
}

/// Asserts that each record is there exactly once, and those of one sandbox in order.
pub(crate) fn assert_each_once_in_order(found: &[String], records: &[Arc<Outgoing>]) {
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        *expected.entry(record.sandbox_id.clone()).or_default() += 1;
    }
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for id in found {
        let (sandbox, number) = parse_id(id);
        let next = next.entry(sandbox).or_default();
        assert_eq!(number, *next, "{id} is doubled or out of order");
        *next += 1;
    }
    assert_eq!(next, expected);
}
