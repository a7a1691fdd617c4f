//! Nobody reads the log: its pipe is full, and everything else goes on.

use crate::support::daemon::{Home, Metrics, PATIENCE, reqwest_client};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// More requests than any queue of lines is long.
const MANY: usize = 50_000;

fn home() -> Home {
    Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: [{SECRET}]}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ))
}

/// Fills a pipe up to its last byte with empty lines, without changing how its other ends are written to.
fn fill(pipe: impl AsFd) {
    let path = format!("/proc/self/fd/{}", pipe.as_fd().as_raw_fd());
    let flags = OFlags::NONBLOCK.bits() as i32;
    let mut pipe = OpenOptions::new().write(true).custom_flags(flags).open(path).unwrap();
    let lines = [b'\n'; 4096];
    for length in [lines.len(), 1] {
        loop {
            match pipe.write(&lines[..length]) {
                Ok(_) => {}
                Err(full) if full.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A daemon, and the end of its log's pipe that nobody reads from.
struct Unread {
    child: Child,
    log: BufReader<PipeReader>,
    public: String,
    admin: String,
}

impl Unread {
    /// It takes deliveries, and not one more byte fits into its log.
    async fn start(home: &Home) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command(home).stderr(writer).kill_on_drop(true).spawn().unwrap();
        let started = tokio::task::spawn_blocking(move || {
            let mut log = BufReader::new(reader);
            loop {
                let line = next(&mut log).expect("the daemon ended");
                if let (Some(public), Some(admin)) = (line["public"].as_str(), line["admin"].as_str()) {
                    let (public, admin) = (public.to_owned(), admin.to_owned());
                    fill(log.get_ref());
                    return Self { child, log, public, admin };
                }
            }
        });
        tokio::time::timeout(PATIENCE, started).await.expect("it does not start").unwrap()
    }

    async fn deliver(&self, signed: bool, body: &str) -> u16 {
        let mut request = reqwest_client().post(format!("http://{}/webhooks/e2b", self.public));
        if signed {
            let (name, value) = crate::support::sign::e2b(SECRET, body.as_bytes());
            request = request.header(name, value);
        }
        request.body(body.to_owned()).send().await.expect("an answer").status().as_u16()
    }

    async fn get(&self, path: &str) -> String {
        let answer = reqwest_client().get(format!("http://{}{path}", self.admin)).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.unwrap()
    }

    async fn dropped(&self) -> f64 {
        let metrics = Metrics(self.get("/metrics").await);
        assert!(metrics.0.contains("\ne2b_relay_log_lines_dropped_total "), "there is no such counter");
        metrics.sum("log_lines_dropped_total", "")
    }

    /// Something that is logged each time.
    async fn operate(&self, home: &Home) {
        let token = std::fs::read_to_string(home.path().join("data/admin-token")).unwrap();
        let change = reqwest_client().post(format!("http://{}/api/log-level", self.admin)).bearer_auth(token.trim());
        assert_eq!(change.json(&json!({"level": "info"})).send().await.expect("an answer").status(), 200);
    }

    fn ask_to_end(&self) {
        kill_process(Pid::from_raw(self.child.id().unwrap() as i32).unwrap(), Signal::TERM).unwrap();
    }
}

fn command(home: &Home) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.args(["--log-format", "json", "run", "--config"]).arg(home.configuration());
    command.env_remove("RUSTC_BOOTSTRAP").stdin(Stdio::null());
    command
}

/// The next line, which must be whole; those that filled the pipe aside.
fn next(log: &mut impl BufRead) -> Option<Value> {
    loop {
        let mut line = String::new();
        if log.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if line != "\n" {
            return Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")));
        }
    }
}

async fn ended(mut child: Child) -> ExitStatus {
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("it does not end").unwrap()
}

fn event(id: &str) -> String {
    json!({
        "id": id, "type": "sandbox.lifecycle.created", "version": "v2", "timestamp": jiff::Timestamp::now(),
        "event_data": {}, "sandbox_id": "sbx",
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_and_health_are_answered_and_what_was_dropped_is_told_once_somebody_reads() {
    let home = home();
    let mut daemon = Unread::start(&home).await;
    for _ in 0..1_000 {
        assert_eq!(daemon.deliver(false, "no event").await, 401);
    }
    for request in 0..MANY {
        if request % 500 == 0 && daemon.dropped().await > 0.0 {
            break;
        }
        daemon.operate(&home).await;
    }
    assert_eq!(daemon.deliver(true, &event("one")).await, 200);
    assert_eq!(daemon.get("/livez").await, "alive\n");
    let dropped = daemon.dropped().await;
    assert!(dropped > 0.0);

    // Somebody reads: everything that was kept, whole and in order, and then how much was not.
    let (mut daemon, kept, told) = tokio::task::spawn_blocking(move || {
        let mut kept = Vec::new();
        loop {
            let line = next(&mut daemon.log).expect("the daemon ended");
            if let Some(told) = line["dropped"].as_u64() {
                return (daemon, kept, told);
            }
            kept.push(line["timestamp"].as_str().unwrap().to_owned());
        }
    })
    .await
    .unwrap();
    assert!(kept.len() > 1_000 && kept.is_sorted(), "{} lines", kept.len());
    assert_eq!((told as f64, daemon.dropped().await), (dropped, dropped));

    // From then on all is as before, up to the last line.
    daemon.operate(&home).await;
    daemon.ask_to_end();
    let rest = tokio::task::spawn_blocking(move || {
        let lines = std::iter::from_fn(|| next(&mut daemon.log)).map(|line| line["message"].to_string());
        let lines: Vec<String> = lines.collect();
        (daemon.child, lines)
    });
    let (child, lines) = rest.await.unwrap();
    assert!(ended(child).await.success());
    for said in ["the log's level is changed", "no more deliveries are taken"] {
        assert!(lines.iter().any(|line| line.contains(said)), "{said}: {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_it_ends() {
    let daemon = Unread::start(&home()).await;
    assert_eq!(daemon.deliver(false, "no event").await, 401);
    daemon.ask_to_end();
    assert!(ended(daemon.child).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_start_ends_with_its_exit_code() {
    let home = Home::new("sinks: {}\nnonsense: true\n");
    let (reader, writer) = std::io::pipe().unwrap();
    fill(&reader);
    let child = command(&home).stderr(writer).kill_on_drop(true).spawn().unwrap();
    assert_eq!(ended(child).await.code(), Some(78));
    drop(reader);
}
