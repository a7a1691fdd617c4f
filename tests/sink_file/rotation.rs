//! Rotation by time, and the compression of what was rotated.

use super::*;
use crate::support::daemon::{Home, PATIENCE};
use crate::support::load::{self, Plan, SECRET};
use e2b_relay::sink::file::{Clock, Compress};
use rustix::fs::inotify;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fmt::Write as _;
use std::io::Read;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// 2026-03-10T00:00:00Z.
const MIDNIGHT: u64 = 1_773_100_800;
const DAY: u64 = 86_400;

/// A clock that stands where it is put.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn put(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let hand = self.clone();
        Arc::new(move || UNIX_EPOCH + Duration::from_secs(hand.0.load(Ordering::SeqCst)))
    }
}

fn daily(folder: &Path) -> Settings {
    Settings { rotate_every: Some(Duration::from_secs(DAY)), ..in_folder(folder) }
}

/// What the folder holds, decompressed by a program that is not ours.
fn contents(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = if name.ends_with(".gz") {
                let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip");
                assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8(output.stdout).unwrap()
            } else {
                read(&path)
            };
            (name, text)
        })
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits for the compressor, which nothing else tells of.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_new_day_or_a_full_file_begins_a_new_one_whichever_comes_first() {
    let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let settings = Settings { rotate_size: Some(ByteSize::b(6)), ..daily(folder.path()) };
    hand.put(MIDNIGHT - 1);
    let sink = File::with_clock(&settings, hand.clock()).unwrap();
    send_all(&sink, &["1", "2"]).await;
    hand.put(MIDNIGHT);
    send_all(&sink, &["3"]).await;
    hand.put(MIDNIGHT + DAY - 1);
    send_all(&sink, &["4", "5"]).await;
    send_all(&sink, &["6"]).await;
    // Days without a record are no files.
    hand.put(MIDNIGHT + 5 * DAY);
    send_all(&sink, &["7"]).await;
    let found: Vec<_> = contents(folder.path()).into_values().collect();
    assert_eq!(
        names(folder.path()),
        ["audit.ndjson", "audit.ndjson.000001", "audit.ndjson.000002", "audit.ndjson.000003"]
    );
    assert_eq!(found, ["7\n", "1\n2\n", "3\n4\n5\n", "6\n"]);
}

#[tokio::test]
async fn the_day_of_a_file_is_known_after_a_restart() {
    let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let settings = daily(folder.path());
    let written = |seconds| {
        let file = fs::File::options().append(true).open(&settings.path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    };
    hand.put(MIDNIGHT + 10);
    for (number, at, last_written) in
        [("1", MIDNIGHT + 10, MIDNIGHT + 10), ("2", MIDNIGHT + DAY - 1, MIDNIGHT + DAY - 1)]
    {
        hand.put(at);
        let sink = File::with_clock(&settings, hand.clock()).unwrap();
        send_all(&sink, &[number]).await;
        sink.close().await;
        written(last_written);
    }
    hand.put(MIDNIGHT + DAY);
    let sink = File::with_clock(&settings, hand.clock()).unwrap();
    send_all(&sink, &["3"]).await;
    assert_eq!(contents(folder.path()).into_values().collect::<Vec<_>>(), ["3\n", "1\n2\n"]);
}

#[tokio::test]
async fn rotated_files_are_compressed_and_counted_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        rotate_size: Some(ByteSize::b(10)),
        keep: Some(3),
        compress: Compress::Gzip,
        ..in_folder(folder.path())
    };
    // From before compression was asked for; a compression that was cut short; one that was not cleaned up behind; one whose
    // plain file has gone; and names that are not ours.
    let put = |name: &str, text: &[u8]| fs::write(folder.path().join(format!("audit.ndjson.{name}")), text).unwrap();
    for (name, text) in [("000001", "one\n"), ("000002", "two\n"), ("000003", "three\n")] {
        put(name, text.as_bytes());
    }
    put("000001.gz.part", b"\x1f\x8b half of it");
    put("000002.gz", &gzip(b"two\n"));
    put("000003.gz", b"\x1f\x8b of another length\0\0\0\0");
    put("000009.gz.part", b"");
    put("000001.gz.old", b"");
    put("42.gz", b"");
    let sink = File::new(&settings).unwrap();
    assert_eq!(names(folder.path()).len(), 9, "a sink that was not written to has begun");
    send_all(&sink, &["a001"]).await;
    let kept = ["000001.gz", "000001.gz.old", "000002.gz", "000003.gz", "42.gz"];
    let with_prefix = |names: &[&str]| {
        let names = names.iter().map(|name| format!("audit.ndjson.{name}"));
        std::iter::once("audit.ndjson".to_owned()).chain(names).collect::<Vec<_>>()
    };
    until("the old ones are compressed", || names(folder.path()) == with_prefix(&kept)).await;
    for (name, text) in [("000001.gz", "one\n"), ("000002.gz", "two\n"), ("000003.gz", "three\n")] {
        assert_eq!(gunzip(&folder.path().join(format!("audit.ndjson.{name}"))), text.as_bytes(), "{name}");
        let mode = fs::metadata(folder.path().join(format!("audit.ndjson.{name}"))).unwrap().permissions().mode();
        assert!(name == "000002.gz" || mode & 0o777 & !0o640 == 0, "{name}: {mode:o}");
    }

    // Two to a file; the fourth rotated file takes the first one's place, and so on.
    send_all(&sink, &["a002", "a003", "a004", "a005"]).await;
    let kept = ["000001.gz.old", "000003.gz", "000004.gz", "000005.gz", "42.gz"];
    until("the new ones are compressed", || names(folder.path()) == with_prefix(&kept)).await;
    assert_eq!(gunzip(&folder.path().join("audit.ndjson.000005.gz")), b"a003\na004\n");
    assert_eq!(read(&settings.path), "a005\n");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, bytes).unwrap();
    assert!(Command::new("gzip").arg(&path).status().expect("gzip").success());
    fs::read(path.with_extension("gz")).unwrap()
}

fn gunzip(path: &Path) -> Vec<u8> {
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip");
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn what_cannot_be_compressed_stays_as_it_is() {
    let disk = SmallDisk::mount("320k");
    let settings =
        Settings { rotate_size: Some(ByteSize::b(10)), compress: Compress::Gzip, ..in_folder(disk.0.path()) };
    let rotated = disk.0.path().join("audit.ndjson.000001");
    // Does not compress: there is no room for a second copy.
    let mut noise = vec![0; 128 * 1024];
    fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut noise)).unwrap();
    fs::write(&rotated, &noise).unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 128 * 1024]).unwrap();
    // The kernel keeps count: what is there for a moment only could be missed by looking.
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, disk.0.path(), inotify::WatchFlags::DELETE).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut deleted = inotify::Reader::new(&watch, &mut buffer);
    let sink = File::new(&settings).unwrap();
    send_all(&sink, &["a001", "a002"]).await;
    until("it is tried and given up", || {
        std::iter::from_fn(|| deleted.next().ok().map(|event| event.file_name().map(CStr::to_owned)))
            .any(|name| name.as_deref() == Some(c"audit.ndjson.000001.gz.part"))
    })
    .await;
    assert_eq!(fs::read(&rotated).unwrap(), noise);
    fs::remove_file(&ballast).unwrap();
    // The next rotation tries again.
    send_all(&sink, &["a003"]).await;
    until("both are compressed", || {
        names(disk.0.path()) == ["audit.ndjson", "audit.ndjson.000001.gz", "audit.ndjson.000002.gz"]
    })
    .await;
    assert_eq!(gunzip(&disk.0.path().join("audit.ndjson.000001.gz")), noise);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_compressing_loses_nothing() {
    let home = Home::new(&format!(
        r#"
sources: {{acme: {{webhook: {{secrets: ["{SECRET}"]}}}}}}
sinks:
  audit: {{type: file, path: ./audit.ndjson, rotate_size: 64MiB, compress: gzip}}
"#
    ));
    // Large enough that compressing takes a while.
    let mut text = String::new();
    let mut random = fastrand::Rng::with_seed(11);
    while text.len() < 48 << 20 {
        writeln!(text, "{{\"n\":{}}}", random.u64(..)).unwrap();
    }
    let at = |name: &str| home.path().join(name);
    let (plain, part, whole) =
        (at("audit.ndjson.000001"), at("audit.ndjson.000001.gz.part"), at("audit.ndjson.000001.gz"));
    fs::write(&plain, &text).unwrap();
    let send = async |daemon: &crate::support::daemon::Daemon, seed: u64| {
        let webhook = daemon.webhook();
        let sent = load::send(Plan { events: 5, seed, ..Plan::default() }, move || webhook.clone()).await;
        assert_eq!(sent.ledger.acknowledged(), 5);
    };
    let mut killed = 0;
    for round in 0..3 {
        let daemon = home.start().await;
        send(&daemon, round).await;
        until("it is under way", || fs::metadata(&part).is_ok_and(|part| part.len() > 100_000 * (round + 1))).await;
        daemon.kill().await;
        assert!(!whole.exists(), "it was killed too late");
        assert_eq!(fs::metadata(&plain).unwrap().len(), text.len() as u64);
        killed += 1;
    }
    assert_eq!(killed, 3);
    let daemon = home.start().await;
    send(&daemon, 3).await;
    until("it is finished", || !plain.exists()).await;
    assert!(whole.exists() && !part.exists());
    assert!(gunzip(&whole) == text.as_bytes(), "another text");
    daemon.until_settled("audit", 5).await;
    assert!(daemon.terminate().await.success());
    let lines = read(&at("audit.ndjson"));
    let ids: BTreeSet<_> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string()).collect();
    assert_eq!(ids.len(), 20, "a kill may repeat a record, and loses none");
}
