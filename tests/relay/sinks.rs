//! A daemon's four sinks on real brokers, and what each of them got.

use crate::support::brokers::{self, unique};
use crate::support::consume::{self, Verdict, judge};
use crate::support::daemon::{Daemon, Home};
use crate::support::load::{Ledger, SECRET};

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

    /// One source, and these four.
    pub(crate) fn configuration(&self) -> String {
        let Self { kafka, nats, amqp, name } = self;
        format!(
            r#"
sources: {{acme: {{webhook: {{secrets: ["{SECRET}"]}}}}}}
sinks:
  lake: {{type: kafka, brokers: ["{kafka}"], topic: {name}}}
  bus: {{type: nats, servers: ["{nats}"], subject: "{name}.{{{{ type }}}}.{{{{ sandbox_id }}}}", stream: {{name: {name}, subjects: ["{name}.>"], create: true}}}}
  queue: {{type: amqp, url: "{amqp}", exchange: {name}, declare: {{exchange_type: topic, queue: {name}}}}}
  audit: {{type: file, path: ./audit.ndjson}}
"#
        )
    }

    pub(crate) async fn until_settled(&self, daemon: &Daemon, events: u64) {
        for sink in ["lake", "bus", "queue", "audit"] {
            daemon.until_settled(sink, events).await;
        }
    }

    pub(crate) async fn judge(&self, home: &Home, ledger: &Ledger) -> [Verdict; 4] {
        let judge = |sink, records: consume::Records| judge(sink, &records, &ledger.acknowledged);
        [
            judge("kafka", consume::kafka(&self.kafka, &self.name).await),
            judge("nats", consume::jetstream(&self.nats, &self.name).await),
            judge("amqp", consume::amqp(&self.amqp, &self.name).await),
            judge("file", consume::file(&home.path().join("audit.ndjson"))),
        ]
    }
}

pub(crate) async fn shared() -> Sinks {
    Sinks::new(brokers::kafka(), brokers::nats(), brokers::amqp()).await
}
