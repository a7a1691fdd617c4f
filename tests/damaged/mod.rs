//! What a damaged journal costs: it is told, what the provider still lists is fetched again for the sinks that lack it,
//! and nothing comes twice to those that had it.
#![cfg(test)]

mod cut;
mod flipped;
mod gap;
mod transactions;

use crate::relay::sinks::until_caught_up;
use crate::reload::reload;
use crate::simulate::{KEY, Running};
use crate::support::brokers::{self, unique};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home};
use crate::support::verify;
use serde_json::Value;
use std::collections::BTreeSet;

/// No broker is there.
const NOBODY: &str = "nats://127.0.0.1:1";

/// Sinks that take everything at once, and one whose broker is away.
struct Site {
    home: Home,
    /// The configuration's part about the source.
    source: String,
    /// Further sinks.
    more: String,
    stream: String,
}

impl Site {
    fn new(source: &str, more: &str) -> Self {
        let (source, more, stream) = (source.to_owned(), more.to_owned(), unique("damaged"));
        let site = Self { home: Home::new(""), source, more, stream };
        site.configure(NOBODY);
        site
    }

    /// With that server for the sink `bus`.
    fn configure(&self, server: &str) {
        let Self { home, source, more, stream } = self;
        home.configure(&format!(
            r#"
store: {{max_size: 64MiB}}
sources: {{acme: {source}}}
sinks:
  audit: {{type: file, path: ./audit.ndjson}}
  copy: {{type: file, path: ./copy.ndjson}}
  bus: {{type: nats, servers: ["{server}"], subject: "{stream}.{{{{ type }}}}.{{{{ sandbox_id }}}}", stream: {{name: {stream}, subjects: ["{stream}.>"], create: true}}}}
{more}"#
        ));
    }

    /// What a file sink has.
    fn file(&self, sink: &str) -> Vec<Value> {
        consume::file(&self.home.path().join(format!("{sink}.ndjson")))
    }

    /// Gives the sink that was away its broker; what that has in the end.
    async fn bus(&self, daemon: &Daemon) -> Vec<Value> {
        self.configure(&brokers::nats());
        assert_eq!(reload(daemon).await.0, ["bus"]);
        until_caught_up(daemon, "bus").await;
        consume::jetstream(&brokers::nats(), &self.stream).await
    }

    /// Both file sinks have these, each once.
    fn assert_once(&self, told: &[String]) {
        for sink in ["audit", "copy"] {
            assert_eq!(sorted(ids(&self.file(sink))), sorted(told.to_vec()), "{sink}");
        }
    }
}

/// A source with the simulated API, which it reads by itself only if `enabled`.
fn api(provider: &Running, enabled: bool) -> String {
    let url = &provider.base;
    format!("{{api: {{url: '{url}', api_key: {KEY}}}, backfill: {{enabled: {enabled}, interval: 1h, lookback: 3h}}}}")
}

/// Of the provider's own events.
fn ids(records: &[Value]) -> Vec<String> {
    let own = records.iter().filter(|record| record["type"] != "relay.gap");
    own.map(|record| record["id"].as_str().unwrap().to_owned()).collect()
}

/// The records that say that something is lost for good, copies of one aside.
fn gaps(records: &[Value]) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let gaps = records.iter().filter(|record| record["type"] == "relay.gap");
    gaps.filter(|gap| seen.insert(gap["id"].to_string())).cloned().collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

/// The line of the log that says what is gone: an ERROR that names each of these numbers.
fn alarm(daemon: &Daemon, numbers: &[u64]) -> String {
    let names = |line: &str, number: u64| {
        line.split(|letter: char| !letter.is_ascii_digit()).any(|word| word == number.to_string())
    };
    let lines = daemon.log();
    let errors: Vec<&String> = lines.iter().filter(|line| line.contains("\"level\":\"ERROR\"")).collect();
    let found = errors.iter().find(|line| numbers.iter().all(|number| names(line, *number)));
    found.unwrap_or_else(|| panic!("no ERROR at the start names {numbers:?}: {errors:?}")).to_string()
}

/// Of a stopped daemon's store: whatever is damaged, what each sink was given adds up.
async fn accounted(home: &Home) {
    let (_, out, err) = verify::run(home).await;
    let proof: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    let faults = proof["faults"].as_array().unwrap().iter().map(|fault| fault.as_str().unwrap());
    let sums: Vec<&str> = faults.filter(|fault| fault.contains("accounted for")).collect();
    assert!(sums.is_empty(), "{sums:?}: {}", proof["sinks"]);
}
