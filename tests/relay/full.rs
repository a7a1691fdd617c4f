//! A full disk under load: refused with 503, nothing acknowledged lost, accepted again by itself.

use super::sinks::{NAMES, print_row, shared, until_caught_up};
use crate::support::daemon::{Daemon, Home, Metrics, PATIENCE, reqwest_client};
use crate::support::load::{self, Plan, SECRET};
use crate::support::sign;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const DISK: u64 = 64 * 1024 * 1024;
/// Below `min_free`.
const REST: u64 = 1024 * 1024;

/// A small file system in memory; unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// At a folder that is not there yet.
    pub(crate) fn mount(path: &Path) -> Self {
        std::fs::create_dir(path).unwrap();
        let size = format!("size={DISK}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "this test needs to mount a tmpfs, which only root may: {said}");
        Self(path.to_owned())
    }

    /// Takes all room but `rest` bytes; returns the file that does.
    pub(crate) fn fill(&self, rest: u64) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        // Bit by bit, since the daemon takes room meanwhile; it may have taken the last of it.
        loop {
            let free = rustix::fs::statvfs(&self.0).map(|space| space.f_bavail * space.f_frsize).unwrap();
            let block = free.saturating_sub(rest).min(256 * 1024);
            if block == 0 || file.write_all(&vec![1; block as usize]).is_err() {
                return path;
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A delivery with such metadata is now answered 503, with the time to come again.
pub(crate) async fn assert_refused(daemon: &Daemon, metadata: &Value) {
    let body = load::body_of("refused", "sbx-refused", 1, true, metadata, jiff::Timestamp::now());
    let (name, signature) = sign::e2b(SECRET, body.as_bytes());
    let answer = reqwest_client().post(daemon.webhook()).header(name, signature).body(body).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_503_until_there_is_room_and_loses_nothing() {
    let sinks = shared().await;
    let home = Home::new("");
    home.configure(&format!("store: {{path: ./data, min_free: 4MiB, max_size: 1GiB}}\n{}", sinks.configuration()));
    let disk = SmallDisk::mount(&home.path().join("data"));
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    let plan = Plan { events: 6_000, workers: 32, insist: true, ..Plan::default() };
    let target = webhook.clone();
    let load = tokio::spawn(load::send(plan, move || target.clone()));
    let sum = |family: &'static str, label: &'static str| move |metrics: &Metrics| metrics.sum(family, label);
    let accepted = sum("events_total", "");
    daemon.until("a part is accepted", |metrics| accepted(metrics) >= 1_000.0).await;
    let ballast = disk.fill(REST);
    let refused = sum("deliveries_total", "outcome=\"store_full\"");
    daemon.until("deliveries are refused", |metrics| refused(metrics) >= 100.0).await;
    assert_refused(&daemon, &json!("usual")).await;
    // Sinks go on while nothing is accepted.
    for sink in NAMES {
        until_caught_up(&daemon, sink).await;
    }
    let before = accepted(&daemon.metrics().await);
    assert!(before < 6_000.0, "all was accepted before the disk was full");
    std::fs::remove_file(ballast).unwrap();
    let sent = tokio::time::timeout(PATIENCE, load).await.expect("it does not accept again").unwrap();
    assert_eq!(sent.ledger.acknowledged(), 6_000);
    sinks.until_settled(&daemon, 6_000).await;
    assert!(daemon.terminate().await.success());
    let verdicts = sinks.judge(&home, &sent.ledger, [0; 4]).await;
    print_row("disk full", 1, &verdicts);
}
