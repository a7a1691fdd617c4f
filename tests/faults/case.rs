//! One fault, one provider, one daemon.

use super::table::Row;
use crate::simulate::KEY;
use crate::support::daemon::{Daemon, Home, Metrics, PATIENCE, reqwest_client};
use crate::support::forward::Forwarder;
use crate::support::load::SECRET;
use crate::support::oracle::{self, Answer, Got, Ledger, Remains, Terms};
use crate::support::{consume, verify};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// What was left when all had come.
pub(super) struct Case {
    /// The provider's.
    pub(super) ledger: Value,
    /// The relay's.
    metrics: Metrics,
    pub(super) records: Vec<Value>,
    /// Samples of the sandboxes that then ran, as the provider listed them: how many, and how many there could be.
    samples: (usize, usize),
    ended_at: jiff::Timestamp,
}

/// `e2b-relay simulate`; killed when dropped.
struct Provider {
    base: String,
    client: reqwest::Client,
    _child: Child,
}

impl Provider {
    async fn start(row: &Row, deliver_to: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
        command.args(["simulate", "--listen", "127.0.0.1:0", "--events-per-second", "0", "--api-key", KEY]);
        command.args(["--deliver-to", deliver_to, "--secret", SECRET]).args(row.arguments);
        if !row.fault.is_empty() {
            command.args([&format!("--{}", row.fault), row.part]);
        }
        let mut child = command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let base = line.strip_prefix("E2B_API_URL=").unwrap().to_owned();
        Self { base, client: reqwest_client(), _child: child }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let reply = request.header("X-API-Key", KEY).send().await.unwrap();
        assert!(reply.status().is_success(), "{reply:?}");
        reply.json().await.unwrap()
    }

    async fn ledger(&self) -> Value {
        self.send(self.client.get(format!("{}/simulator/ledger", self.base))).await
    }

    /// How many samples of the running sandboxes are listed, and how many there could be.
    async fn samples(&self) -> (usize, usize) {
        let get = |path: String| self.send(self.client.get(format!("{}{path}", self.base)));
        let (mut listed, mut possible) = (0, 0);
        for sandbox in get("/sandboxes".to_owned()).await.as_array().unwrap() {
            let started: jiff::Timestamp = sandbox["startedAt"].as_str().unwrap().parse().unwrap();
            let (from, to) = (started.as_second(), jiff::Timestamp::now().as_second());
            let path = format!("/sandboxes/{}/metrics?start={from}&end={to}", sandbox["sandboxID"].as_str().unwrap());
            listed += get(path).await.as_array().unwrap().len();
            possible += usize::try_from(to - from).unwrap() / 5;
        }
        (listed, possible)
    }
}

impl Case {
    /// Waits until the file has every event that the provider told, and the metric has moved; holds both to the oracle.
    pub(super) async fn run(row: &Row) -> Self {
        let front = Forwarder::start("http://127.0.0.1:1").await;
        let provider = Provider::start(row, &format!("{}/webhooks/e2b", front.url)).await;
        let home = Home::new(&format!(
            "sources:\n  acme:\n    webhook: {{secrets: ['{SECRET}']}}\n    \
             api: {{url: '{}', api_key: {KEY}, timeout: 2s}}\n{}\
             sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
            provider.base, row.keys
        ));
        let daemon = home.start().await;
        front.retarget(&format!("http://{}", daemon.public));
        let happen = format!("{}/simulator/events?{}", provider.base, row.events);
        provider.send(provider.client.post(happen)).await;
        if row.fault == "shifting-pages" {
            // Else it would never end: each look at the list makes one more event.
            daemon.until("a sweep", |metrics| metrics.sum("backfill_recovered_total", "") >= 300.0).await;
            let calm = provider.client.put(format!("{}/simulator/faults", provider.base));
            provider.send(calm.body("{\"shifting-pages\": 0}").header("content-type", "application/json")).await;
        }
        let case = Self::settle(row, &provider, &home, &daemon).await;
        assert!(daemon.terminate().await.success());
        verify::sound(&home).await;
        case.judge(row, &home);
        case
    }

    async fn settle(row: &Row, provider: &Provider, home: &Home, daemon: &Daemon) -> Self {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let case = Self {
                ledger: provider.ledger().await,
                metrics: daemon.metrics().await,
                records: records_so_far(home),
                samples: provider.samples_if(row).await,
                ended_at: jiff::Timestamp::now(),
            };
            let underway = case.events().iter().any(|event| event["fate"] == "underway");
            let waits = case.metrics.sum("sink_lag_events", "audit") > 0.0;
            let missing = case.missing();
            let moved = case.moved(row) >= (row.least)(&case) as f64;
            if !underway && !waits && missing == 0 && moved && (row.struck)(&case) {
                return case;
            }
            let late = tokio::time::Instant::now() >= deadline;
            assert!(!late, "{}: {missing} are missing; {}: {}", row.fault, row.moves.0, case.moved(row));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn judge(&self, row: &Row, home: &Home) {
        let mut ledger = Ledger::default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for event in self.events() {
            ledger.note(&text(&event["sandbox_id"]), &text(&event["id"]), Answer::Acknowledged);
        }
        let records: Vec<Value> = consume::file(&home.path().join("audit.ndjson"));
        let got: Vec<Got> =
            records.into_iter().filter(is_lifecycle).map(|one| serde_json::from_value(one).unwrap()).collect();
        // A sandbox's events came by two roads, or out of order on purpose.
        let terms = Terms { repeats: 0, unordered: true };
        oracle::judge(row.fault, &got, &Remains::default(), &ledger, terms).assert_kept();
    }

    fn events(&self) -> &[Value] {
        self.ledger["events"].as_array().unwrap()
    }

    fn lifecycle(&self) -> impl Iterator<Item = &Value> {
        self.records.iter().filter(|record| is_lifecycle(record))
    }

    fn missing(&self) -> usize {
        let here: BTreeSet<&str> = self.lifecycle().map(|record| record["id"].as_str().unwrap()).collect();
        self.events().iter().filter(|event| !here.contains(event["id"].as_str().unwrap())).count()
    }

    /// How far the row's series have moved.
    pub(super) fn moved(&self, row: &Row) -> f64 {
        self.sum(row.moves)
    }

    pub(super) fn sum(&self, (family, label): (&str, &str)) -> f64 {
        self.metrics.sum(family, label)
    }

    /// One of the counts of the provider's ledger.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.ledger["summary"][name].as_u64().unwrap()
    }

    pub(super) fn told(&self) -> u64 {
        self.count("made")
    }

    pub(super) fn summary(&self) -> String {
        self.ledger["summary"].to_string()
    }

    /// The places in the ledger, in the order in which they were taken.
    pub(super) fn arrived(&self) -> Vec<usize> {
        let places: BTreeMap<&str, usize> =
            self.events().iter().enumerate().map(|(place, event)| (event["id"].as_str().unwrap(), place)).collect();
        let mut arrived: Vec<(u64, usize)> = self
            .lifecycle()
            .map(|record| (record["relay"]["sequence"].as_u64().unwrap(), places[record["id"].as_str().unwrap()]))
            .collect();
        arrived.sort_unstable();
        arrived.into_iter().map(|(_, place)| place).collect()
    }

    /// Seconds from an event to its arrival: of all that came late the most, or, where one came before its own time, the
    /// least.
    pub(super) fn latest(&self) -> f64 {
        let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let late = |record: &Value| {
            time(&record["relay"]["received_at"]).duration_since(time(&record["timestamp"])).as_secs_f64()
        };
        let (least, most) = self
            .lifecycle()
            .map(late)
            .fold((0.0_f64, 0.0_f64), |(least, most), late| (least.min(late), most.max(late)));
        if least < -1.0 { least } else { most }
    }

    /// How many different times the events have.
    pub(super) fn times(&self) -> usize {
        self.lifecycle().map(|record| record["timestamp"].as_str().unwrap()).collect::<BTreeSet<_>>().len()
    }

    /// Seconds from the time up to which the list is verified.
    pub(super) fn verified_ago(&self) -> f64 {
        let verified = self.sum(("backfill_verified_through_timestamp_seconds", ""));
        self.ended_at.as_duration().as_secs_f64() - verified
    }

    /// Whether samples are missing, and the rest came.
    pub(super) fn lacks_samples(&self) -> bool {
        let (listed, possible) = self.samples;
        let told = self.records.iter().filter(|record| record["type"] == "sandbox.metrics").count();
        println!("{told} samples told, {listed} of {possible} listed of what runs");
        told > 0 && listed * 4 < possible * 3
    }
}

impl Provider {
    async fn samples_if(&self, row: &Row) -> (usize, usize) {
        if row.fault == "missing-samples" { self.samples().await } else { (0, 0) }
    }
}

/// Whole lines: the last may just be being written.
fn records_so_far(home: &Home) -> Vec<Value> {
    let text = std::fs::read_to_string(home.path().join("audit.ndjson")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_lifecycle(record: &Value) -> bool {
    record["type"].as_str().unwrap().starts_with("sandbox.lifecycle.")
}
