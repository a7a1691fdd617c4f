//! The real binary, started as its users start it.
#![cfg(test)]

use super::phases::{Aim, Phases};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Longer than anything that a test waits for takes on a busy machine; over it the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a configuration and a store, for one daemon at a time.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// Both listeners take a free port; `configuration` is the rest, as YAML.
    pub(crate) fn new(configuration: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.configure(configuration);
        home
    }

    pub(crate) fn configure(&self, configuration: &str) {
        let listeners = "server: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\n";
        std::fs::write(self.configuration(), format!("{listeners}{configuration}")).unwrap();
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.path().join("e2b-relay.yaml")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the daemon; it takes deliveries when this returns.
    pub(crate) async fn start(&self) -> Daemon {
        self.spawn(None, &[]).ready().await
    }

    /// The same with these in its environment.
    pub(crate) async fn start_with(&self, environment: &[(&str, OsString)]) -> Daemon {
        self.spawn(None, environment).ready().await
    }

    /// Starts the daemon such that its phases are told, to be killed when one begins.
    pub(crate) fn spawn_traced(&self, aim: Option<Aim>) -> Spawned {
        let phases = Arc::new(Phases::default());
        aim.into_iter().for_each(|aim| phases.aim(aim));
        self.spawn(Some(phases), &[])
    }

    fn spawn(&self, phases: Option<Arc<Phases>>, environment: &[(&str, OsString)]) -> Spawned {
        let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
        command.envs(environment.iter().cloned());
        self.spawn_by(command, phases)
    }

    /// Starts the daemon, which may end at once.
    pub(crate) fn spawn_quiet(&self) -> Spawned {
        self.spawn(None, &[])
    }

    /// `command` is the binary, or what starts it with the arguments that it is given.
    pub(crate) fn spawn_by(&self, mut command: Command, phases: Option<Arc<Phases>>) -> Spawned {
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command
            .args(["--log-format", "json", "--log-level", if phases.is_some() { "trace" } else { "info" }])
            .args(["run", "--config"])
            .arg(self.configuration())
            .env_remove("RUSTC_BOOTSTRAP")
            .stdin(Stdio::null())
            .stderr(writer)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let phases = phases.unwrap_or_default();
        let (said, addresses) = watch::channel(None);
        let (lines, heard) = watch::channel(Vec::new());
        let (following, pid) = (Arc::clone(&phases), pid_of(&child));
        // The log goes where a failing test shows it.
        let log = tokio::task::spawn_blocking(move || {
            for line in std::io::BufReader::new(reader).lines().map(Result::unwrap) {
                if following.line(&line, pid) {
                    continue;
                }
                println!("relay: {line}");
                lines.send_modify(|lines: &mut Vec<String>| lines.push(line.clone()));
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if let (Some(public), Some(admin)) = (field(&line, "public"), field(&line, "admin")) {
                    said.send_replace(Some((public, admin)));
                }
            }
        });
        Spawned { child, log, addresses, heard, phases }
    }
}

/// A daemon that may still be starting; killed when dropped.
pub(crate) struct Spawned {
    child: Child,
    log: tokio::task::JoinHandle<()>,
    addresses: watch::Receiver<Option<(String, String)>>,
    heard: watch::Receiver<Vec<String>>,
    phases: Arc<Phases>,
}

impl Spawned {
    pub(crate) fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// Waits for its end, which somebody else has asked for.
    pub(crate) async fn ended(mut self) -> std::process::ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        self.log.await.unwrap();
        status
    }

    /// It takes deliveries when this returns.
    pub(crate) async fn ready(mut self) -> Daemon {
        let found = tokio::time::timeout(PATIENCE, self.addresses.wait_for(Option::is_some)).await;
        let (public, admin) =
            found.expect("the daemon did not start in time").expect("the daemon ended").clone().unwrap();
        let Self { child, log, heard, phases, .. } = self;
        Daemon { child, log, heard, phases, public, admin, client: reqwest_client() }
    }

    /// It takes deliveries, or has ended: with what, and what its log said.
    pub(crate) async fn outcome(mut self) -> Result<Daemon, (std::process::ExitStatus, Vec<String>)> {
        if self.webhook().await.is_some() {
            return Ok(self.ready().await);
        }
        let status = self.child.wait().await.unwrap();
        self.log.await.unwrap();
        Err((status, self.heard.borrow().clone()))
    }

    /// Where it takes deliveries; `None` when it ended before it did.
    pub(crate) async fn webhook(&mut self) -> Option<String> {
        let found = tokio::time::timeout(PATIENCE, self.addresses.wait_for(Option::is_some)).await;
        let (public, _) = found.expect("the daemon did not start in time").ok()?.clone()?;
        Some(webhook(&public))
    }

    /// The phases that were cut short when it was killed; killed now if its phase does not come within `patience`.
    pub(crate) async fn cut_short(mut self, patience: Duration) -> BTreeSet<String> {
        if tokio::time::timeout(patience, self.child.wait()).await.is_err() {
            self.child.kill().await.unwrap();
        }
        self.log.await.unwrap();
        self.phases.open()
    }
}

fn webhook(public: &str) -> String {
    format!("http://{public}/webhooks/e2b")
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().expect("the daemon has ended") as i32).unwrap()
}

fn field(line: &Value, name: &str) -> Option<String> {
    line.get(name).or_else(|| line.get("fields")?.get(name)).and_then(Value::as_str).map(str::to_owned)
}

pub(crate) fn reqwest_client() -> reqwest::Client {
    // Already there if another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The daemon closes a connection that is idle for `request_timeout`: one that is used at that very moment has no answer.
    let idle = Duration::from_secs(5);
    reqwest::Client::builder().timeout(PATIENCE).pool_idle_timeout(idle).build().unwrap()
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: tokio::task::JoinHandle<()>,
    heard: watch::Receiver<Vec<String>>,
    phases: Arc<Phases>,
    pub(crate) public: String,
    pub(crate) admin: String,
    client: reqwest::Client,
}

impl Daemon {
    pub(crate) fn webhook(&self) -> String {
        webhook(&self.public)
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the daemon has ended")
    }

    /// SIGKILL; the phases that were cut short, if it tells them.
    pub(crate) async fn kill(self) -> BTreeSet<String> {
        self.into_spawned().cut_short(Duration::ZERO).await
    }

    /// SIGKILL when a phase begins, or else after `patience`; the phases that were cut short.
    pub(crate) async fn kill_in(self, aim: Aim, patience: Duration) -> BTreeSet<String> {
        self.phases.aim(aim);
        self.into_spawned().cut_short(patience).await
    }

    fn into_spawned(self) -> Spawned {
        let Self { child, log, heard, phases, .. } = self;
        Spawned { child, log, addresses: watch::channel(None).1, heard, phases }
    }

    /// Asks it to end in good order.
    pub(crate) fn ask_to_end(&self) {
        kill_process(pid_of(&self.child), Signal::TERM).unwrap();
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        kill_process(pid_of(&self.child), Signal::HUP).unwrap();
    }

    /// What the log has said until now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.heard.borrow().clone()
    }

    /// The first line after `seen` of them that holds `text`, once the log has said so.
    pub(crate) async fn says(&self, seen: usize, text: &str) -> String {
        self.says_one_of(seen, &[text]).await
    }

    /// The first that holds one of `texts`.
    pub(crate) async fn says_one_of(&self, seen: usize, texts: &[&str]) -> String {
        let mut heard = self.heard.clone();
        let holds_one = |line: &&String| texts.iter().any(|text| line.contains(text));
        let find = |lines: &Vec<String>| lines.iter().skip(seen).find(holds_one).cloned();
        let lines = tokio::time::timeout(PATIENCE, heard.wait_for(|lines| find(lines).is_some())).await;
        find(&lines.unwrap_or_else(|_| panic!("the log does not say: {texts:?}")).expect("the daemon ended")).unwrap()
    }

    /// SIGTERM, and what it ended with.
    pub(crate) async fn terminate(self) -> std::process::ExitStatus {
        self.ask_to_end();
        self.ended().await
    }

    /// Waits for its end, which somebody else has asked for.
    pub(crate) async fn ended(self) -> std::process::ExitStatus {
        self.into_spawned().ended().await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let url = format!("http://{}/metrics", self.admin);
        Metrics(self.client.get(url).send().await.unwrap().text().await.unwrap())
    }

    /// Waits until the metrics say so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Metrics) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics().await;
            if is_so(&metrics) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}\n{}", metrics.of("e2b_relay_sink"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a sink has settled `events`.
    pub(crate) async fn until_settled(&self, sink: &str, events: u64) {
        let settled = |metrics: &Metrics| metrics.settled(sink) >= events;
        self.until(&format!("{sink} settles {events} events"), settled).await;
    }
}

/// Prometheus' text.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The sum over a family's series (without its prefix) whose labels hold `label`.
    pub(crate) fn sum(&self, family: &str, label: &str) -> f64 {
        let family = format!("e2b_relay_{family}");
        self.0
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(series, _)| series.split('{').next() == Some(&family) && series.contains(label))
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    }

    /// How many events the daemon has settled for a sink.
    pub(crate) fn settled(&self, sink: &str) -> u64 {
        let families = ["sink_sent_total", "sink_filtered_total", "sink_dead_letters_total", "sink_damaged_total"];
        families.iter().map(|family| self.sum(family, &format!("sink=\"{sink}\"")) as u64).sum()
    }

    /// The lines that begin so.
    pub(crate) fn of(&self, prefix: &str) -> String {
        self.0.lines().filter(|line| line.starts_with(prefix)).collect::<Vec<_>>().join("\n")
    }
}
