//! Every duration of the settings has bounds, and whoever leaves them is told by key, place and remedy.

use super::{SECRET, relay, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Key, and whether it may be 0.
const KEYS: [(&str, bool); 18] = [
    ("server.request_timeout", false),
    ("server.commit_timeout", false),
    ("store.dedupe_window", false),
    ("store.retention", true),
    ("sources.acme.api.timeout", false),
    ("sources.acme.backfill.interval", false),
    ("sources.acme.backfill.overlap", true),
    ("sources.acme.backfill.lookback", true),
    ("sources.acme.metrics.interval", false),
    ("sources.acme.reconcile.interval", false),
    ("sources.acme.register.interval", false),
    ("sinks.audit.rotate_every", false),
    ("sinks.bus.connect_timeout", false),
    ("sinks.bus.ack_timeout", false),
    ("sinks.bus.stream.max_age", false),
    ("sinks.bus.stream.duplicate_window", false),
    ("sinks.queue.connect_timeout", false),
    ("sinks.queue.ack_timeout", false),
];

/// A configuration with each of them, one to a line, all at `usual` but one; and the line of that one.
fn configuration(odd: &str, value: &str) -> (String, usize) {
    let duration = |key: &str| {
        // Within the dedupe window; a stream keeps a record no shorter than it knows it.
        let usual = match key {
            "store.dedupe_window" => "8d",
            "sinks.bus.stream.max_age" => "2h",
            _ => "1h",
        };
        if key == odd { value } else { usual }
    };
    let mut lines = Vec::new();
    let mut place = 0;
    for line in TEMPLATE.lines() {
        let (indent, name) = line.split_at(line.len() - line.trim_start().len());
        match name.strip_prefix('@') {
            Some(key) => {
                lines.push(format!("{indent}{}: {}", key.rsplit('.').next().unwrap(), duration(key)));
                if key == odd {
                    place = lines.len();
                }
            }
            None => lines.push(line.replace("SECRET", SECRET)),
        }
    }
    assert!(place > 0, "{odd} is not in the template");
    (lines.join("\n"), place)
}

const TEMPLATE: &str = "\
server:
  listen: 127.0.0.1:0
  @server.request_timeout
  @server.commit_timeout
admin: {listen: '127.0.0.1:0'}
store:
  path: ./data
  @store.dedupe_window
  @store.retention
sources:
  acme:
    webhook: {secrets: [SECRET]}
    api:
      url: http://127.0.0.1:1
      api_key: e2b_0123
      @sources.acme.api.timeout
    backfill:
      @sources.acme.backfill.interval
      @sources.acme.backfill.overlap
      @sources.acme.backfill.lookback
    metrics:
      @sources.acme.metrics.interval
    reconcile:
      @sources.acme.reconcile.interval
    register:
      url: http://127.0.0.1/webhooks/e2b
      @sources.acme.register.interval
sinks:
  audit:
    type: file
    path: ./audit.ndjson
    @sinks.audit.rotate_every
  bus:
    type: nats
    servers: [nats://127.0.0.1:1]
    @sinks.bus.connect_timeout
    @sinks.bus.ack_timeout
    stream:
      name: E2B
      @sinks.bus.stream.max_age
      @sinks.bus.stream.duplicate_window
  queue:
    type: amqp
    url: amqp://127.0.0.1:1
    @sinks.queue.connect_timeout
    @sinks.queue.ack_timeout
";

/// The names of all keys of the schema that are durations.
fn durations(schema: &Value, names: &mut BTreeSet<String>) {
    for (name, value) in schema.as_object().into_iter().flatten() {
        if value.get("format").is_some_and(|format| format == "duration") {
            names.insert(name.clone());
        }
        durations(value, names);
    }
    schema.as_array().into_iter().flatten().for_each(|value| durations(value, names));
}

fn command(folder: &Path, command: &str, text: &str) -> super::Run {
    std::fs::write(folder.join("e2b-relay.yaml"), text).unwrap();
    run(relay(folder).arg(command))
}

#[test]
fn a_duration_beyond_its_bounds_is_refused_by_key_place_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let schema = run(relay(folder.path()).args(["config", "schema"])).stdout;
    let mut named = BTreeSet::new();
    durations(&serde_json::from_str(&schema).unwrap(), &mut named);
    let tested: BTreeSet<String> = KEYS.iter().map(|(key, _)| key.rsplit('.').next().unwrap().to_owned()).collect();
    assert_eq!(named, tested, "each duration of the settings is in the table");

    let usual = command(folder.path(), "check", &configuration("store.retention", "7d").0);
    assert_eq!(usual.code, Some(0), "{}", usual.said());
    let mut wrong = Vec::new();
    for (key, may_be_zero) in KEYS {
        for (value, is_fine) in [("20000years", false), ("101years", false), ("0s", may_be_zero), ("1us", false)] {
            let (text, line) = configuration(key, value);
            for subcommand in ["check", "run"] {
                let run = command(folder.path(), subcommand, &text);
                let place = format!("e2b-relay.yaml:{line}: {key}: ");
                let is_told = run.stderr.lines().any(|line| line.contains(&place) && line.contains("; "));
                if run.code != Some(if is_fine { 0 } else { 78 }) || (!is_fine && !is_told) {
                    let said = run.said();
                    let said = said.lines().next().unwrap_or_default();
                    wrong.push(format!("{subcommand} {key}: {value}: exit {:?}: {said}", run.code));
                }
                // One that is taken would run.
                if run.code != Some(78) || value == "101years" {
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
