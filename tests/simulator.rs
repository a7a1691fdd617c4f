//! The simulated E2B against the daemon, in one process: two implementations of one contract, written apart.

use crate::simulate::Running;
use e2b_relay::app::{Daemon, End};
use e2b_relay::http::Inherited;
use e2b_relay::settings::{self, Environment};
use e2b_relay::shutdown::{self, Trigger as ShutdownTrigger};
use e2b_relay::simulator::provider::Options;
use e2b_relay::simulator::{self, Dialect, Fate, Fault, Shape, Trigger, TriggerOptions};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::task::JoinHandle;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A daemon with one source and one file.
struct Relay {
    public: SocketAddr,
    records: PathBuf,
    stop: ShutdownTrigger,
    running: JoinHandle<End>,
    _folder: TempDir,
}

impl Relay {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("relay.yaml");
        let configuration = serde_json::json!({
            "server": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "sources": {"sim": {"team_id": simulator::TEAM_ID, "webhook": {"secrets": [SECRET]}}},
            "sinks": {"audit": {"type": "file", "path": "audit.ndjson"}},
        });
        std::fs::write(&file, configuration.to_string()).expect("the configuration");
        let nothing: Environment = std::iter::empty::<(std::ffi::OsString, std::ffi::OsString)>().collect();
        let loaded = settings::load(&[file], &nothing).expect("a sound configuration");
        let daemon = Daemon::start(loaded, Inherited::default()).await.expect("the daemon starts");
        let public = daemon.public_address();
        let (stop, shutdown) = shutdown::channel();
        let running = tokio::spawn(daemon.run(shutdown));
        Self { public, records: folder.path().join("audit.ndjson"), stop, running, _folder: folder }
    }

    fn url(&self) -> String {
        format!("http://{}/webhooks/e2b", self.public)
    }

    /// Drains, and gives what the file holds.
    async fn stop(self) -> Vec<serde_json::Value> {
        self.stop.fire();
        assert_eq!(self.running.await.expect("no panic"), End::Drained);
        let text = std::fs::read_to_string(&self.records).expect("the records");
        text.lines().map(|line| serde_json::from_str(line).expect("one record on each line")).collect()
    }
}

/// By the schema that consumers are given.
fn assert_valid(records: &[serde_json::Value]) {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/config/record.schema.json");
    let schema = std::fs::read_to_string(schema).expect("the schema");
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).expect("JSON")).expect("a schema");
    for record in records {
        let faults: Vec<String> =
            validator.iter_errors(record).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{faults:#?}\n{record:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_delivered_is_there_once_and_what_was_forged_or_withheld_is_not() {
    for shape in [Shape::V1, Shape::V2] {
        let relay = Relay::start().await;
        let deliver_to = Some((relay.url(), SECRET.to_owned().into()));
        let provider = Running::start(Options { shape: Some(shape), deliver_to, ..Options::default() }).await;
        for fault in [Fault::RepeatDeliveries, Fault::ForgeDeliveries, Fault::DropDeliveries] {
            provider.faults.set(fault, 0.05).expect("a part");
        }
        provider.happen(400, 0).await;
        let fates = provider.until_settled().await;
        let summary = provider.ledger.summary();
        assert!(summary.repeated > 0 && summary.forged > 0 && summary.withheld > 0, "{summary:?}");
        assert_eq!(summary.delivered + summary.forged + summary.withheld, 400, "{summary:?}");
        assert_eq!(fates.len(), 400);
        judge(&provider, relay.stop().await);
    }
}

fn judge(provider: &Running, records: Vec<serde_json::Value>) {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        assert_eq!(record["relay"]["source"], "sim");
        *times.entry(record["id"].as_str().expect("an id").to_owned()).or_default() += 1;
    }
    for entry in provider.ledger.entries() {
        let expected = usize::from(matches!(entry.fate, Fate::Delivered { .. }));
        if let Fate::Forged(status) = entry.fate {
            assert_eq!(status, Some(401));
        }
        assert_eq!(times.remove(&entry.id.expect("both shapes have ids")), (expected > 0).then_some(1));
    }
    assert!(times.is_empty(), "records that nobody sent: {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shape_in_every_dialect_is_taken_and_becomes_the_same_record() {
    let relay = Relay::start().await;
    let mut sent = 0;
    for (shape, dialect) in [
        (Shape::V1, Dialect::E2b),
        (Shape::V2, Dialect::E2b),
        (Shape::V1, Dialect::Hmac),
        (Shape::V2, Dialect::Hmac),
        (Shape::SelfHosted, Dialect::Hmac),
    ] {
        for kind in ["created", "updated", "paused", "resumed", "checkpointed", "killed"] {
            sent += 1;
            let options = TriggerOptions { shape, dialect, seed: sent, ..TriggerOptions::new(relay.url(), SECRET) };
            let trigger = Trigger::new(kind, &[], &options, jiff::Timestamp::now()).expect("a delivery");
            let reply = trigger.send().await.expect("an answer");
            let answer = String::from_utf8_lossy(&reply.body).into_owned();
            assert_eq!(reply.status, 200, "{shape:?} {dialect:?} {kind}: {answer}");
        }
    }
    let records = relay.stop().await;
    assert_eq!(records.len() as u64, sent);
    assert_valid(&records);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        *kinds.entry(record["type"].as_str().expect("a type")).or_default() += 1;
        assert!(record["sandbox_id"].is_string() && record["timestamp"].is_string(), "{record}");
        assert_eq!(record["sandbox_team_id"], simulator::TEAM_ID);
        assert!(record.get("sandboxId").is_none() && record.get("eventData").is_none(), "{record}");
    }
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    assert!(kinds.values().all(|count| *count == 5), "{kinds:?}");
}
