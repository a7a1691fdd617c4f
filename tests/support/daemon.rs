//! The real binary, started as its users start it.
#![cfg(test)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
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
        let mut child = Command::new(env!("CARGO_BIN_EXE_e2b-relay"))
            .args(["--log-format", "json", "run", "--config"])
            .arg(self.configuration())
            .env_remove("RUSTC_BOOTSTRAP")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, addresses) = watch::channel(None);
        // The log goes where a failing test shows it.
        let log = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                println!("relay: {line}");
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if let (Some(public), Some(admin)) = (field(&line, "public"), field(&line, "admin")) {
                    said.send_replace(Some((public, admin)));
                }
            }
        });
        let mut addresses = addresses;
        let found = tokio::time::timeout(PATIENCE, addresses.wait_for(Option::is_some)).await;
        let (public, admin) =
            found.expect("the daemon did not start in time").expect("the daemon ended").clone().unwrap();
        Daemon { child, log, public, admin, client: reqwest_client() }
    }
}

fn field(line: &Value, name: &str) -> Option<String> {
    line.get(name).or_else(|| line.get("fields")?.get(name)).and_then(Value::as_str).map(str::to_owned)
}

pub(crate) fn reqwest_client() -> reqwest::Client {
    // Already there if another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(PATIENCE).build().unwrap()
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: tokio::task::JoinHandle<()>,
    pub(crate) public: String,
    pub(crate) admin: String,
    client: reqwest::Client,
}

impl Daemon {
    pub(crate) fn webhook(&self) -> String {
        format!("http://{}/webhooks/e2b", self.public)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the daemon has ended")
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
        self.log.await.unwrap();
    }

    /// SIGTERM, and what it ended with.
    pub(crate) async fn terminate(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap();
        self.log.await.unwrap();
        status
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
        let settled = |metrics: &Metrics| {
            let label = format!("sink=\"{sink}\"");
            let sum = |family: &str| metrics.sum(family, &label) as u64;
            sum("sink_sent_total") + sum("sink_filtered_total") + sum("sink_dead_letters_total") >= events
        };
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

    /// The lines that begin so.
    pub(crate) fn of(&self, prefix: &str) -> String {
        self.0.lines().filter(|line| line.starts_with(prefix)).collect::<Vec<_>>().join("\n")
    }
}
