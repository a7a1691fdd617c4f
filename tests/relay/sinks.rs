//! A daemon's four sinks on real brokers, and what each of them got.

use crate::support::brokers::{self, unique};
use crate::support::daemon::{Daemon, Home, Metrics};
use crate::support::load::SECRET;
use crate::support::oracle::{self, Got, Ledger, Terms, Verdict};
use crate::support::{consume, verify};
use serde::de::DeserializeOwned;

/// Their names: Kafka, JetStream, AMQP, file.
pub(crate) const NAMES: [&str; 4] = ["lake", "bus", "queue", "audit"];
/// What a sink may have sent and not yet noted at one moment, which a kill repeats.
pub(crate) const IN_FLIGHT: usize = 1_000;

/// Four sinks, one of each kind that keeps what it gets.
pub(crate) struct Sinks {
    kafka: String,
    nats: String,
    amqp: String,
    /// Topic, stream, and queue.
    name: String,
}

impl Sinks {
    pub(crate) async fn new(kafka: String, nats: String, amqp: String) -> Self {
        let name = unique("relay");
        consume::create_topic(&kafka, &name, 4).await;
        Self { kafka, nats, amqp, name }
    }

    /// The topic, stream and queue.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// One source, and these four.
    pub(crate) fn configuration(&self) -> String {
        self.configuration_with("")
    }

    /// The same with further keys of each sink, such as `, types: [a]`.
    pub(crate) fn configuration_with(&self, keys: &str) -> String {
        self.configuration_of(&format!("{{acme: {{webhook: {{secrets: [\"{SECRET}\"]}}}}}}"), keys)
    }

    /// The same with other sources.
    pub(crate) fn configuration_of(&self, sources: &str, keys: &str) -> String {
        self.configuration_named(sources, NAMES, [keys; 4])
    }

    /// The same with other names, and with further keys of each sink.
    pub(crate) fn configuration_named<N: std::fmt::Display>(
        &self,
        sources: &str,
        [lake, bus, queue, audit]: [N; 4],
        [of_lake, of_bus, of_queue, of_audit]: [&str; 4],
    ) -> String {
        let Self { kafka, nats, amqp, name } = self;
        format!(
            r#"
sources: {sources}
sinks:
  {lake}: {{type: kafka, brokers: ["{kafka}"], topic: {name}{of_lake}}}
  {bus}: {{type: nats, servers: ["{nats}"], subject: "{name}.{{{{ type }}}}.{{{{ sandbox_id }}}}", stream: {{name: {name}, subjects: ["{name}.>"], create: true}}{of_bus}}}
  {queue}: {{type: amqp, url: "{amqp}", exchange: {name}, declare: {{exchange_type: topic, queue: {name}}}{of_queue}}}
  {audit}: {{type: file, path: ./audit.ndjson{of_audit}}}
"#
        )
    }

    /// What each has, in the order of [`NAMES`]; the queue is empty afterwards.
    pub(crate) async fn records<T: DeserializeOwned + Send + 'static>(&self, home: &Home) -> [Vec<T>; 4] {
        [
            consume::kafka(&self.kafka, &self.name).await,
            consume::jetstream(&self.nats, &self.name).await,
            consume::amqp(&self.amqp, &self.name).await,
            consume::file(&home.path().join("audit.ndjson")),
        ]
    }

    pub(crate) async fn until_settled(&self, daemon: &Daemon, events: u64) {
        for sink in NAMES {
            daemon.until_settled(sink, events).await;
        }
    }

    /// Waits until no sink has anything left to send.
    pub(crate) async fn until_caught_up(&self, daemon: &Daemon) {
        for sink in NAMES {
            until_caught_up(daemon, sink).await;
        }
    }

    /// Proves the stopped daemon's store sound, and that each sink kept the promise, with at most so many copies beyond
    /// the first, in the order of [`NAMES`].
    pub(crate) async fn judge(&self, home: &Home, ledger: &Ledger, repeats: [usize; 4]) -> [Verdict; 4] {
        let proof = verify::sound(home).await;
        let judge = |index: usize, got: &[Got]| {
            let terms = Terms { repeats: repeats[index], unordered: false };
            let remains = verify::remains(home, &proof, NAMES[index]);
            let verdict = oracle::judge(NAMES[index], got, &remains, ledger, terms);
            verdict.assert_kept();
            verdict
        };
        let got = self.records(home).await;
        std::array::from_fn(|index| judge(index, &got[index]))
    }
}

/// Waits until a sink has nothing left to send: not what this daemon has accepted, and nothing from before. What it tells
/// of its lag is up to a second old.
pub(crate) async fn until_caught_up(daemon: &Daemon, sink: &str) {
    let label = format!("sink=\"{sink}\"");
    let caught_up = |metrics: &Metrics| {
        metrics.sum("sink_lag_events", &label) == 0.0 && metrics.settled(sink) >= metrics.sum("events_total", "") as u64
    };
    daemon.until(&format!("{sink} catches up"), caught_up).await;
}

/// A row of the table in tests/README.md.
pub(crate) fn print_row(fault: &str, rounds: usize, verdicts: &[Verdict]) {
    let acknowledged = verdicts[0].acknowledged;
    let of = |count: fn(&Verdict) -> usize| {
        verdicts.iter().map(|verdict| format!("{} {}", verdict.sink, count(verdict))).collect::<Vec<_>>().join(", ")
    };
    println!(
        "row: {fault} | {rounds} | {acknowledged} | lost: {} | doubled: {} | dead letters: {}",
        of(|verdict| verdict.lost),
        of(|verdict| verdict.doubled),
        of(|verdict| verdict.dead_lettered),
    );
}

pub(crate) async fn shared() -> Sinks {
    Sinks::new(brokers::kafka(), brokers::nats(), brokers::amqp()).await
}
