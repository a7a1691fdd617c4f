//! A secret is rotated while events happen: for a while both are accepted, and the new one is registered.

use super::{NEWER, SECRET, Scene, until_repairs};
use crate::reload::reload;
use crate::support::daemon::Metrics;
use e2b_relay::simulator::provider::Options;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_with_an_overlap_refuses_nothing() {
    // Tried for long enough that none is given up during a restart.
    let options = Options { retries: 200, retry_pause: Duration::from_millis(100), ..Options::default() };
    let scene = Scene::with(options).await;
    let daemon = scene.start().await;
    let hook = scene.until_registered().await;
    scene.deliver(&daemon, 20).await;
    assert!(daemon.terminate().await.success());
    // These were signed with the old secret, and are tried until the relay is back.
    scene.provider.happen(20, 0).await;
    // The new one last.
    scene.configure(&[SECRET, NEWER], "");
    let daemon = scene.start().await;
    until_repairs(&daemon, 1).await;
    let old_ones = |metrics: &Metrics| super::genuine(metrics) >= 20.0;
    daemon.until("what the old secret signed is taken", old_ones).await;
    scene.deliver(&daemon, 20).await;
    let refused = |metrics: &Metrics| metrics.sum("deliveries_total", "outcome=\"bad_signature\"");
    assert_eq!(refused(&daemon.metrics().await), 0.0);
    assert!(daemon.terminate().await.success());
    // Only the new one is left, and the provider knows it.
    scene.configure(&[NEWER], "");
    let daemon = scene.start().await;
    scene.deliver(&daemon, 20).await;
    let metrics = daemon.metrics().await;
    assert_eq!((refused(&metrics), metrics.sum("registration_repairs_total", "acme")), (0.0, 0.0));
    assert_eq!(scene.hooks().await, [hook], "the same one all the time");
    daemon.until_settled("audit", 20).await;
    assert!(daemon.terminate().await.success());
    // Neither is kept where it could be read.
    for file in files_below(&scene.home.path().join("data")) {
        let bytes = std::fs::read(&file).unwrap();
        for secret in [SECRET, NEWER] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_without_a_restart_refuses_nothing() {
    let options = Options { retries: 200, retry_pause: Duration::from_millis(100), ..Options::default() };
    let scene = Scene::with(options).await;
    let daemon = scene.start().await;
    let hook = scene.until_registered().await;
    scene.deliver(&daemon, 20).await;
    scene.configure(&[SECRET, NEWER], "");
    reload(&daemon).await;
    until_repairs(&daemon, 1).await;
    scene.deliver(&daemon, 20).await;
    scene.configure(&[NEWER], "");
    reload(&daemon).await;
    scene.deliver(&daemon, 20).await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("deliveries_total", "outcome=\"bad_signature\""), 0.0);
    assert_eq!(metrics.sum("registration_repairs_total", "acme"), 1.0);
    assert_eq!(scene.hooks().await, [hook], "the same one all the time");
    assert!(daemon.terminate().await.success());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let list = if entry.file_type().unwrap().is_dir() { &mut folders } else { &mut files };
            list.push(entry.path());
        }
    }
    assert!(files.len() > 3, "the store was not found");
    files
}
