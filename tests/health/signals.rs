//! Signals that come at once: while the configuration is being read, which a pipe in its place draws out.

use crate::support::daemon::{Home, PATIENCE, Spawned};
use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::Write;
use tokio::process::Command;

const PARTS: &str = "sources: {acme: {webhook: {secrets: [0123456789abcdef0123456789abcdef]}}}\n\
                     sinks: {audit: {type: file, path: ./audit.ndjson}";

const BINARY: &str = env!("CARGO_BIN_EXE_e2b-relay");

/// A daemon that has begun to read its configuration, and the pipe by which that comes.
async fn reading(home: &Home, command: Command) -> (Spawned, File) {
    std::fs::remove_file(home.configuration()).unwrap();
    rustix::fs::mknodat(CWD, home.configuration(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let spawned = home.spawn_by(command, None);
    let configuration = home.configuration();
    // Opened once the other end is, too.
    let opened = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(configuration).unwrap());
    (spawned, tokio::time::timeout(PATIENCE, opened).await.expect("it does not read").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_read_again_while_it_reads_it_does_so_after_the_start() {
    let home = Home::new("");
    let (spawned, mut first) = reading(&home, Command::new(BINARY)).await;
    std::fs::remove_file(home.configuration()).unwrap();
    home.configure(&format!("{PARTS}, newer: {{type: file, path: ./newer.ndjson}}}}\n"));
    for _ in 0..3 {
        kill_process(spawned.pid(), Signal::HUP).unwrap();
    }
    let listeners = "server: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\n";
    first.write_all(format!("{listeners}{PARTS}}}\n").as_bytes()).expect("it reads on");
    drop(first);
    let daemon = spawned.ready().await;
    let line = daemon.says(0, "the configuration is read again and in force").await;
    assert!(line.contains("newer"), "{line}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_while_it_reads_it_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new("");
        let (spawned, unwritten) = reading(&home, Command::new(BINARY)).await;
        kill_process(spawned.pid(), signal).unwrap();
        let status = spawned.ended().await;
        assert!(status.success(), "{signal:?}: {status}");
        drop(unwritten);
    }
}

/// Without a handler the kernel gives process 1 no signal at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_while_it_reads_as_process_1_it_ends_with_0() {
    let home = Home::new("");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", BINARY]);
    let (spawned, unwritten) = reading(&home, command).await;
    let outer = spawned.pid().as_raw_pid();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let inner = Pid::from_raw(children.trim().parse().expect("one child")).unwrap();
    kill_process(inner, Signal::TERM).unwrap();
    let status = spawned.ended().await;
    assert!(status.success(), "{status}");
    drop(unwritten);
}
