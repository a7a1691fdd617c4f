//! `e2b-relay dev`, as a newcomer starts it.

use crate::support::daemon::{PATIENCE, reqwest_client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// What ran, in an empty folder and without a network's settings.
struct Dev {
    child: Child,
    stderr: BufReader<ChildStderr>,
    stdout: std::path::PathBuf,
    folder: tempfile::TempDir,
    said: String,
}

/// What was left when it had ended.
struct Ended {
    code: Option<i32>,
    records: Vec<Value>,
    said: String,
    left: usize,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stdout = folder.path().join("stdout");
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_e2b-relay"))
            .arg("dev")
            .args(arguments)
            .env_clear()
            .env("TMPDIR", folder.path().join("tmp"))
            .current_dir(folder.path().join("tmp"))
            .stdout(std::fs::File::create(&stdout).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, stdout, folder, said: String::new() }
    }

    /// The next line on standard error; without its end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "it ended: {}", self.said);
        self.said.push_str(&line);
        line.trim_end().to_owned()
    }

    /// Whole lines so far.
    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.stdout).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn end(mut self) -> Ended {
        self.stderr.read_to_string(&mut self.said).unwrap();
        let code = self.child.wait().unwrap().code();
        let left = std::fs::read_dir(self.folder.path().join("tmp")).unwrap().count();
        Ended { code, records: self.records(), said: std::mem::take(&mut self.said), left }
    }
}

/// It is not left behind by a test that fails.
impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each event's id, with how it came; none twice.
fn lifecycle(records: &[Value]) -> BTreeMap<String, String> {
    let mut ways = BTreeMap::new();
    for record in records {
        if record["type"].as_str().unwrap().starts_with("sandbox.lifecycle.") {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let before = ways.insert(text(&record["id"]), text(&record["relay"]["origin"]));
            assert_eq!(before, None, "twice: {record}");
        }
    }
    ways
}

fn by(ways: &BTreeMap<String, String>, origin: &str) -> usize {
    ways.values().filter(|way| *way == origin).count()
}

#[test]
fn dev_shows_all_six_types_and_says_where_it_listens_first() {
    let Ended { code, records, said, left } = Dev::start(&["--duration", "4s"]).end();
    assert_eq!(code, Some(0), "{said}");
    let expected = ["checkpointed", "created", "killed", "paused", "resumed", "updated"];
    let expected: BTreeSet<String> = expected.map(|kind| format!("sandbox.lifecycle.{kind}")).into();
    let types: BTreeSet<String> = records.iter().map(|record| record["type"].as_str().unwrap().to_owned()).collect();
    assert!(types.is_superset(&expected), "{types:?}");

    let lines: Vec<&str> = said.lines().collect();
    for (line, name) in lines.iter().zip(["status: ", "metrics: ", "health: ", "deliveries: ", "E2B's API: "]) {
        assert!(line.starts_with(name) && line.contains(" http://127.0.0.1:"), "{said}");
    }
    let ways = lifecycle(&records);
    let (made, sent) = (ways.len(), records.len());
    let (webhook, backfill) = (by(&ways, "webhook"), by(&ways, "backfill"));
    let last = format!("{made} events made: {webhook} came by webhook, {backfill} by backfill; {sent} records sent\n");
    assert!(said.contains(&last), "{last}{said}");
    assert!(lines.last().unwrap().contains("e2b-relay init"), "{said}");
    assert_eq!(left, 0, "its folder is left behind");
}

#[test]
fn what_is_dropped_is_repaired_before_it_ends_and_the_last_line_says_how_much_that_was() {
    let arguments = ["--duration", "3s", "--events-per-second", "40", "--drop-deliveries", "0.3"];
    let Ended { code, records, said, .. } = Dev::start(&arguments).end();
    assert_eq!(code, Some(0), "{said}");
    let ways = lifecycle(&records);
    let (webhook, backfill) = (by(&ways, "webhook"), by(&ways, "backfill"));
    assert!(webhook > 40 && backfill > 15, "{ways:?}");
    let last = format!(
        "\n{} events made: {webhook} came by webhook, {backfill} by backfill; {} records sent\n",
        ways.len(),
        records.len()
    );
    assert!(said.contains(&last), "{last}{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_is_the_simulated_ledger_each_once_though_half_was_not_delivered() {
    let mut dev = Dev::start(&["--events-per-second", "0.001", "--drop-deliveries", "0.5"]);
    let api = loop {
        if let Some(address) = dev.line().strip_prefix("E2B's API:") {
            break address.split_whitespace().next().unwrap().to_owned();
        }
    };
    let client = reqwest_client();
    let happen = client.post(format!("{api}/simulator/events?count=300")).header("X-API-Key", "any");
    assert_eq!(happen.send().await.unwrap().status(), 200);
    let ledger = async || -> Value {
        let ask = client.get(format!("{api}/simulator/ledger")).header("X-API-Key", "any");
        ask.send().await.unwrap().json().await.unwrap()
    };
    let made: BTreeSet<String> = ledger().await["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    // One by itself, at the very beginning.
    assert_eq!(made.len(), 301);
    let began = Instant::now();
    while lifecycle(&dev.records()).len() < made.len() {
        assert!(began.elapsed() < PATIENCE, "{} of {}", lifecycle(&dev.records()).len(), made.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The backfill may be quicker than a delivery.
    let withheld = loop {
        let summary = ledger().await["summary"].take();
        let count = |name: &str| summary[name].as_u64().unwrap() as usize;
        if ["delivered", "withheld", "unaddressed"].into_iter().map(count).sum::<usize>() >= made.len() {
            break count("withheld");
        }
        assert!(began.elapsed() < PATIENCE, "{summary}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    kill_process(Pid::from_raw(dev.child.id() as i32).unwrap(), Signal::INT).unwrap();
    let Ended { code, records, said, .. } = dev.end();
    assert_eq!(code, Some(0), "{said}");
    let ways = lifecycle(&records);
    assert_eq!(ways.keys().cloned().collect::<BTreeSet<_>>(), made);
    assert!(withheld > 100 && by(&ways, "backfill") >= withheld, "{withheld} {said}");
    let last =
        format!("301 events made: {} came by webhook, {} by backfill;", by(&ways, "webhook"), by(&ways, "backfill"));
    assert!(said.contains(&last), "{last}\n{said}");
}

#[test]
fn a_sink_that_is_not_there_is_told_of_at_the_end() {
    // A port that is free: bound once, and closed.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Ended { code, records, said, .. } =
        Dev::start(&["--duration", "1s", "--sink", &format!("nats://127.0.0.1:{port}")]).end();
    assert_eq!((code, records.len()), (Some(0), 0), "{said}");
    assert!(said.contains("; 0 records sent, ") && said.contains("not, since the sink did not take them"), "{said}");
}

/// As a newcomer has it: 80 columns and 24 rows.
#[test]
fn on_a_terminal_each_record_is_one_row_and_what_to_do_next_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_e2b-relay");
    let shown = Command::new("script")
        .args(["-qec", &format!("stty cols 80 rows 24; {program} dev --duration 12s"), "/dev/null"])
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("TERM", "xterm"), ("TMPDIR", folder.path().to_str().unwrap())])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let status = shown.lines().next().unwrap().strip_prefix("status:     ").unwrap_or_else(|| panic!("{shown}"));
    let (first, records) = shown.split_once("\u{1b}[?7l").expect("what is too long is cut");
    let (records, last) = records.split_once("\u{1b}[?7h").expect("and nothing is once it has ended");
    for line in first.lines() {
        assert!(line.chars().count() <= 80 || line.contains(program) || line.contains("  INFO "), "{line}");
    }
    for next in ["sandboxes --admin http://", "dev --drop-deliveries", "dev --sink nats://", "init --sink file"] {
        assert!(first.contains(&format!("    {program} {next}")), "{next}: {first}");
    }
    assert!(first.contains(&format!("open {status} in a browser")), "{first}");
    let rows: Vec<&str> = records.lines().collect();
    assert!(rows.iter().filter(|row| row.starts_with("{\"id\":")).count() > 15, "{records}");
    // Seen again before it is out of the window for long.
    assert!(rows.iter().any(|row| *row == format!("status: {status}")), "{records}");
    assert!(last.contains("events made: ") && last.contains(&format!("{program} init")), "{last}");
}
