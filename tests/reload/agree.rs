//! `check`, `run` and a reload refuse the same configurations, in the same words.

use super::{IN_FORCE, NOT_TAKEN, SECRET, find};
use crate::support::daemon::{Daemon, Home};
use serde_json::Value;
use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Stdio};

/// What stands behind each key of the configuration that has one line for each: `sinks` is the fourth.
#[derive(Clone, Default)]
pub(super) struct Written {
    pub(super) server: String,
    pub(super) admin: String,
    pub(super) source: String,
    pub(super) sinks: String,
    pub(super) store: String,
}

impl Written {
    pub(super) fn sinks(sinks: impl Into<String>) -> Self {
        Self { sinks: sinks.into(), ..Self::default() }
    }

    fn text(&self) -> String {
        let Self { server, admin, source, sinks, store } = self;
        let store = if store.is_empty() { String::new() } else { format!("store: {{{store}}}\n") };
        format!(
            "server: {{listen: '127.0.0.1:0'{server}}}\nadmin: {{listen: '127.0.0.1:0'{admin}}}\n\
             sources: {{acme: {{webhook: {{secrets: [{SECRET}]}}{source}}}}}\nsinks: {{{sinks}}}\n{store}"
        )
    }
}

/// One that is no good.
pub(super) struct Case {
    pub(super) written: Written,
    /// Where the fault is, and on which line.
    pub(super) at: (&'static str, usize),
    /// Each is in what is said.
    pub(super) says: Vec<&'static str>,
}

/// A daemon that goes on with what it has, and the folder of its configuration.
pub(super) struct Judges {
    home: Home,
    daemon: Daemon,
}

impl Judges {
    pub(super) async fn start(home: Home) -> Self {
        std::fs::write(home.configuration(), Written::sinks("audit: {type: file, path: ./audit.ndjson}").text())
            .unwrap();
        let daemon = home.start().await;
        Self { home, daemon }
    }

    /// Whoever does not refuse a case as it is to be, one to a line.
    pub(super) async fn all_refuse(&self, cases: Vec<Case>) {
        let mut complaints = Vec::new();
        for Case { written, at: (key, line), says } in cases {
            std::fs::write(self.home.configuration(), written.text()).unwrap();
            let begins = format!("{}:{line}: {key}: ", self.home.configuration().display());
            let heard = [("check", self.check()), ("run", self.run().await), ("reload", self.reload().await)];
            let words: Vec<_> =
                heard.iter().map(|(_, (_, lines))| lines.iter().find(|line| line.starts_with(&begins))).collect();
            for ((who, (code, lines)), said) in heard.iter().zip(&words) {
                let is_right = said.is_some_and(|said| says.iter().all(|part| said.contains(part)));
                if !is_right || *code != 78 || *said != words[0] {
                    complaints.push(format!(
                        "{who} of {}: exit {code}, not {begins}… {says:?}, but {lines:#?}",
                        written.text()
                    ));
                }
            }
        }
        assert!(complaints.is_empty(), "{} refusals are missing\n{}", complaints.len(), complaints.join("\n"));
    }

    /// What `check` says of a sound one.
    pub(super) fn check_of(&self, written: &Written) -> (i32, Vec<String>) {
        std::fs::write(self.home.configuration(), written.text()).unwrap();
        self.check()
    }

    /// The daemon is told to read this.
    pub(super) async fn reload_of(&self, written: &Written) -> (i32, Vec<String>) {
        std::fs::write(self.home.configuration(), written.text()).unwrap();
        self.reload().await
    }

    pub(super) fn path(&self) -> &Path {
        self.home.path()
    }

    pub(super) async fn end(self) {
        assert!(self.daemon.terminate().await.success());
    }

    fn relay(&self, command: &str) -> Command {
        let mut relay = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
        relay.env_clear().args([command, "--config"]).arg(self.home.configuration());
        relay
    }

    fn check(&self) -> (i32, Vec<String>) {
        let output = self.relay("check").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap_or(-1), said.lines().map(str::to_owned).collect())
    }

    /// Until it has ended, or takes deliveries: then it has refused nothing.
    async fn run(&self) -> (i32, Vec<String>) {
        let mut command = self.relay("run");
        tokio::task::spawn_blocking(move || {
            let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
            let mut heard = Vec::new();
            for line in std::io::BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap) {
                if line.contains("deliveries are taken; this is") {
                    child.kill().unwrap();
                }
                heard.push(line);
            }
            (child.wait().unwrap().code().unwrap_or(-1), heard)
        })
        .await
        .unwrap()
    }

    /// 78 for one that is not taken, 0 for one that is.
    async fn reload(&self) -> (i32, Vec<String>) {
        let seen = self.daemon.log().len();
        self.daemon.hang_up();
        let last = self.daemon.says_one_of(seen, &[IN_FORCE, NOT_TAKEN]).await;
        let lines = self.daemon.log().split_off(seen);
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said = lines.iter().flat_map(|line| ["message", "error"].map(|field| find(line, field).map(str::to_owned)));
        (if last.contains(NOT_TAKEN) { 78 } else { 0 }, said.flatten().collect())
    }
}
