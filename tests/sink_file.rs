//! The file sink on real files.

mod rotation;

use bytes::Bytes;
use bytesize::ByteSize;
use e2b_relay::route::Outgoing;
use e2b_relay::sink::file::{File, Fsync, Settings};
use e2b_relay::sink::{Reason, Scope, SendError, Sink};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

fn record(payload: &str) -> Arc<Outgoing> {
    Arc::new(Outgoing {
        sequence: 1,
        id: payload.to_owned(),
        kind: "sandbox.lifecycle.created".to_owned(),
        sandbox_id: "s".to_owned(),
        address: String::new(),
        key: String::new(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        content_type: "application/json",
        unix_seconds: 0,
        headers: Vec::new(),
    })
}

fn in_folder(folder: &Path) -> Settings {
    Settings { path: folder.join("audit.ndjson"), ..Settings::default() }
}

/// A folder, and a sink for a file in it.
fn fresh() -> (TempDir, PathBuf, File) {
    let folder = tempfile::tempdir().unwrap();
    let settings = in_folder(folder.path());
    let sink = File::new(&settings).unwrap();
    (folder, settings.path, sink)
}

async fn send_all(sink: &File, payloads: &[&str]) {
    let sent: Vec<_> = payloads.iter().map(|payload| sink.send(record(payload))).collect();
    for outcome in sent {
        outcome.await.unwrap();
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// The error's text; it must be one that halts the sink and may heal.
fn halted(outcome: Result<(), SendError>) -> String {
    match outcome {
        Err(SendError::Retry { scope: Scope::Sink, message, .. }) => message,
        other => panic!("not an error that halts the sink: {other:?}"),
    }
}

#[tokio::test]
async fn lines_are_in_order_in_a_file_that_others_cannot_read() {
    let (_folder, path, sink) = fresh();
    let payloads: Vec<_> = (0..5_000).map(|number| format!("{{\"n\":{number}}}")).collect();
    send_all(&sink, &payloads.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let lines: Vec<_> = read(&path).lines().map(str::to_owned).collect();
    assert_eq!(lines, payloads);
    assert!(read(&path).ends_with('\n'));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_whole_ones_stay() {
    for (before, after) in [
        ("{\"n\":1}\n{\"n\":2", "{\"n\":1}\n"),
        ("{\"n\":1}\n\0\0\0\0", "{\"n\":1}\n"),
        ("{\"n\":1}\n", "{\"n\":1}\n"),
        ("{\"n\"", ""),
    ] {
        let (_folder, path, sink) = fresh();
        fs::write(&path, before).unwrap();
        send_all(&sink, &["new"]).await;
        assert_eq!(read(&path), format!("{after}new\n"));
    }
    // Longer than what is read at once.
    let (_folder, path, sink) = fresh();
    fs::write(&path, format!("first\n{}", "x".repeat(200_000))).unwrap();
    send_all(&sink, &["new"]).await;
    assert_eq!(read(&path), "first\nnew\n");
}

#[tokio::test]
async fn a_moved_file_is_left_alone_and_a_new_one_made() {
    let (folder, path, sink) = fresh();
    send_all(&sink, &["1"]).await;
    let moved = folder.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    send_all(&sink, &["2"]).await;
    assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("1\n", "2\n"));

    // SIGHUP: the new file is there before the next record.
    fs::rename(&path, folder.path().join("again")).unwrap();
    sink.reopen();
    // The probe stands behind the reopening in the writer's queue.
    assert!(sink.probe().await.unwrap().ends_with("0 bytes, open"));
    assert_eq!(read(&path), "");
    send_all(&sink, &["3"]).await;
    assert_eq!(read(&path), "3\n");
}

#[tokio::test]
async fn a_file_that_was_truncated_is_appended_to() {
    let (_folder, path, sink) = fresh();
    send_all(&sink, &["1", "2"]).await;
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    send_all(&sink, &["3"]).await;
    assert_eq!(read(&path), "3\n");
}

#[tokio::test]
async fn files_are_rotated_by_size_and_the_oldest_deleted() {
    for fsync in [Fsync::Always, Fsync::Never] {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            Settings { rotate_size: Some(ByteSize::b(10)), keep: Some(2), fsync, ..in_folder(folder.path()) };
        let path = settings.path.clone();
        // No number of ours.
        fs::write(folder.path().join("audit.ndjson.old"), "").unwrap();
        fs::write(folder.path().join("audit.ndjson.42"), "").unwrap();
        let sink = File::new(&settings).unwrap();
        // Two lines of five bytes fill a file; one of fifteen has its own.
        send_all(&sink, &["larger-than-10", "a001", "a002", "a003", "a004", "a005", "larger-than-10", "a007"]).await;
        sink.close().await;

        let names: Vec<_> = {
            let mut names: Vec<_> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            names,
            ["audit.ndjson", "audit.ndjson.000004", "audit.ndjson.000005", "audit.ndjson.42", "audit.ndjson.old"]
        );
        assert_eq!(read(&path), "a007\n");
        assert_eq!(read(&folder.path().join("audit.ndjson.000005")), "larger-than-10\n");
        assert_eq!(read(&folder.path().join("audit.ndjson.000004")), "a005\n");

        // Numbers go on after a restart.
        let sink = File::new(&settings).unwrap();
        send_all(&sink, &["a008", "a009"]).await;
        assert_eq!(read(&folder.path().join("audit.ndjson.000006")), "a007\na008\n");
        assert!(!folder.path().join("audit.ndjson.000004").exists());
    }
}

#[tokio::test]
async fn two_writers_of_one_file_are_refused() {
    let (_folder, path, first) = fresh();
    send_all(&first, &["1"]).await;
    let second = File::new(&Settings { path: path.clone(), ..Settings::default() }).unwrap();
    assert!(halted(second.send(record("2")).await).ends_with("another process writes it"));
    assert!(second.probe().await.unwrap().contains("another process writes it"));
    first.close().await;
    drop(first);
    send_all(&second, &["2"]).await;
    assert_eq!(read(&path), "1\n2\n");
}

#[tokio::test]
async fn what_is_wrong_with_a_path_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let sink = File::new(&in_folder(&missing)).unwrap();
    let message = halted(sink.send(record("1")).await);
    assert!(message.starts_with(&format!("cannot make a file in {}: No such file", missing.display())), "{message}");
    assert!(matches!(sink.probe().await, Err(SendError::Retry { .. })));
    // Made later, it heals.
    fs::create_dir(&missing).unwrap();
    assert!(sink.probe().await.unwrap().ends_with("audit.ndjson will be made"));
    assert!(!missing.join("audit.ndjson").exists(), "a probe makes nothing");
    send_all(&sink, &["1"]).await;

    let at_folder = File::new(&Settings { path: missing.clone(), ..Settings::default() }).unwrap();
    let message = halted(at_folder.send(record("1")).await);
    assert!(message.ends_with("it is not a regular file"), "{message}");
    // Opening it would block for ever.
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let at_fifo = File::new(&Settings { path: fifo, ..Settings::default() }).unwrap();
    assert!(halted(at_fifo.send(record("1")).await).ends_with("it is not a regular file"));
}

/// A file system of its own, so small that it is soon full.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .expect("mount cannot be run");
        let why = String::from_utf8_lossy(&mount.stderr);
        assert!(mount.status.success(), "this test needs a small file system, and to mount one: {why}");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a sink may still have its file open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_halts_the_sink_leaves_whole_lines_and_heals() {
    let disk = SmallDisk::mount("64k");
    let settings = in_folder(disk.0.path());
    let sink = File::new(&settings).unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 40 * 1024]).unwrap();

    // 5,000 bytes each: four or so find room, one is torn by the end of the disk.
    let payloads: Vec<_> = (0..10).map(|number| number.to_string().repeat(5_000)).collect();
    let sent: Vec<_> = payloads.iter().map(|payload| sink.send(record(payload))).collect();
    let outcomes = futures_util::future::join_all(sent).await;
    let failed = outcomes.iter().position(Result::is_err).expect("the disk is smaller than the records");
    for outcome in outcomes.into_iter().skip(failed) {
        let message = halted(outcome);
        assert!(message.starts_with("cannot write to") && message.contains("No space left"), "{message}");
    }
    let whole: String = payloads.iter().take(failed).map(|payload| format!("{payload}\n")).collect();
    assert_eq!(read(&settings.path).len(), whole.len(), "what a failed write left is cut off");

    fs::remove_file(&ballast).unwrap();
    let again: Vec<_> = payloads.iter().skip(failed).take(5).map(String::as_str).collect();
    send_all(&sink, &again).await;
    let lines: Vec<_> = read(&settings.path).lines().map(str::to_owned).collect();
    assert_eq!(lines, payloads[..failed + again.len()]);
}

#[tokio::test]
async fn a_read_only_file_system_is_called_by_its_name() {
    let disk = SmallDisk::mount("64k");
    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.0.path()).status().unwrap();
    assert!(remount.success());
    let sink = File::new(&in_folder(disk.0.path())).unwrap();
    match sink.send(record("1")).await {
        Err(SendError::Retry { reason: Reason::Auth, message, .. }) => {
            assert!(message.contains("Read-only file system"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
