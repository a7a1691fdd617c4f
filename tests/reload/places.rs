//! Where a file sink may not write: among the store's own files, and into another sink's.

use super::agree::{Case, Judges, Written};
use crate::support::daemon::Home;
use std::os::unix::fs::symlink;

fn file(path: &str) -> String {
    format!("audit: {{type: file, path: '{path}'}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_sink_among_the_stores_own_files_is_refused_by_whatever_way_it_leads_there() {
    let home = Home::new("");
    let folder = home.path().to_owned();
    std::fs::create_dir_all(folder.join("logs/deep")).unwrap();
    symlink(folder.join("data"), folder.join("to-store")).unwrap();
    symlink("data/journal", folder.join("to-journal")).unwrap();
    symlink("../data/not-yet.ndjson", folder.join("logs/not-yet.ndjson")).unwrap();
    symlink(&folder, folder.join("logs/deep/up")).unwrap();
    let judges = Judges::start(home).await;
    let at = ("sinks.audit.path", 4);
    let in_store = |path: &str| Case {
        written: Written::sinks(file(path)),
        at,
        says: vec!["store.path", "give it a folder of its own"],
    };
    let elsewhere = |path: &str, store: &str| Case {
        written: Written { store: format!("path: '{store}'"), ..Written::sinks(file(path)) },
        at,
        says: vec!["store.path", "give it a folder of its own"],
    };
    let whole = folder.join("data/audit.ndjson");
    judges
        .all_refuse(vec![
            in_store("./data/audit.ndjson"),
            in_store(whole.to_str().unwrap()),
            in_store("./data/letters.log"),
            in_store("./data/journal/audit.ndjson"),
            in_store("./data/not/there/yet/audit.ndjson"),
            in_store("./logs/../data/audit.ndjson"),
            in_store("./data/../logs/../data/audit.ndjson"),
            in_store("./to-store/audit.ndjson"),
            in_store("./to-journal/audit.ndjson"),
            in_store("./logs/not-yet.ndjson"),
            in_store("./logs/deep/up/data/audit.ndjson"),
            in_store("./data"),
            // The store would not find its folder.
            elsewhere("./audit", "./audit/store"),
            elsewhere("./logs/own/audit.ndjson", "./logs/deep/up/logs/own"),
            elsewhere("./not/there/audit.ndjson", "./not/../not/there"),
        ])
        .await;
    for sound in ["./audit.ndjson", "./logs/audit.ndjson", "./database.ndjson", "./logs/data/audit.ndjson"] {
        let (code, said) = judges.check_of(&Written::sinks(file(sound)));
        assert_eq!(code, 0, "{sound}: {said:#?}");
    }
    judges.end().await;
}

/// The new `store.path` needs a restart, so that the old one counts until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_looks_at_the_store_that_stays_in_force() {
    let judges = Judges::start(Home::new("")).await;
    let moved = Written { store: "path: ./elsewhere".to_owned(), ..Written::sinks(file("./data/audit.ndjson")) };
    let (code, said) = judges.reload_of(&moved).await;
    let refused = |line: &String| line.contains("sinks.audit.path: ") && line.contains("store.path");
    assert!(code == 78 && said.iter().any(refused), "{code}: {said:#?}");
    judges.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sinks_that_would_write_one_file_are_refused_rotated_ones_too() {
    let home = Home::new("");
    let folder = home.path().to_owned();
    std::fs::create_dir_all(folder.join("logs")).unwrap();
    symlink("logs", folder.join("to-logs")).unwrap();
    symlink("logs/a.ndjson", folder.join("to-a")).unwrap();
    let judges = Judges::start(home).await;
    let two = |other: &str, at: &'static str| Case {
        written: Written::sinks(format!(
            "a: {{type: file, path: ./logs/a.ndjson, rotate_size: 1MiB, compress: gzip}}, b: {{type: file, path: '{other}'}}"
        )),
        at: (at, 4),
        says: vec!["`a`", "give each sink its own file"],
    };
    let b = "sinks.b.path";
    judges
        .all_refuse(vec![
            two("./logs/a.ndjson", b),
            two("./logs/../logs/a.ndjson", b),
            two("./to-logs/a.ndjson", b),
            two("./to-a", b),
            two("./logs/a.ndjson.000007", b),
            two("./to-logs/a.ndjson.1000000", b),
            two("./logs/a.ndjson.000007.gz", b),
            two("./logs/a.ndjson.000007.gz.part", b),
        ])
        .await;
    for sound in ["./logs/b.ndjson", "./logs/a.ndjson.bak", "./logs/a.ndjson.00001", "./a.ndjson"] {
        let written = two(sound, b).written;
        let (code, said) = judges.check_of(&written);
        assert_eq!(code, 0, "{sound}: {said:#?}");
    }
    judges.end().await;
}
