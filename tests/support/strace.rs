//! strace on a daemon or one of its threads: what it asks of the kernel, and system calls that are held.
#![cfg(test)]

use super::daemon::Daemon;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// A running strace; what it traces goes on when this is dropped.
pub(crate) struct Strace {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
    trace: PathBuf,
}

impl Strace {
    /// Every thread of the daemon, into a file; `-e` expressions say which calls.
    pub(crate) async fn of(daemon: &Daemon, expressions: &[&str], trace: &Path) -> Self {
        Self::attach(daemon.pid(), &["-f"], expressions, trace).await
    }

    /// The daemon's thread of that name alone.
    pub(crate) async fn of_thread(daemon: &Daemon, name: &str, expressions: &[&str], trace: &Path) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let is_named =
            |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        let task = tasks.map(|entry| entry.unwrap().path()).find(is_named);
        let task = task.unwrap_or_else(|| panic!("the daemon has no thread {name}"));
        let id = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        Self::attach(id, &[], expressions, trace).await
    }

    async fn attach(id: u32, options: &[&str], expressions: &[&str], trace: &Path) -> Self {
        let mut child = Command::new("strace")
            .args(options)
            .args(["-y", "-s", "400"])
            .args(expressions.iter().flat_map(|expression| ["-e", expression]))
            .arg("-o")
            .arg(trace)
            .args(["-p", &id.to_string()])
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the strace command; tests/run installs it");
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = said.next_line().await.unwrap().unwrap_or_default();
        assert!(first.contains("attached"), "tracing is forbidden here, so that this cannot be shown: {first}");
        Self { child, said, trace: trace.to_owned() }
    }

    /// What it has seen until now.
    pub(crate) fn seen(&self) -> String {
        std::fs::read_to_string(&self.trace).unwrap()
    }

    /// Lets go of the daemon; what it saw.
    pub(crate) async fn detach(self) -> String {
        self.end(Signal::INT).await
    }

    /// Lets go of it at once, calls that are held included.
    pub(crate) async fn let_go(self) {
        self.end(Signal::KILL).await;
    }

    async fn end(mut self, signal: Signal) -> String {
        let pid = Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        kill_process(pid, signal).unwrap();
        while self.said.next_line().await.unwrap().is_some() {}
        self.child.wait().await.unwrap();
        self.seen()
    }
}
