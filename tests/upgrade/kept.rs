//! Every store under tests/data/stores, each written by the version that made it and never since, is opened by this one: what
//! was in it, which `<name>.json` beside it tells, is in it still. `tests/data/stores/make` and `make-backlog` make one.

use super::*;
use serde_json::{Value, json};

fn stores() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stores");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut stores: Vec<_> =
        entries.filter(|path| path.is_dir() || path.extension().is_some_and(|end| end == "gz")).collect();
    stores.sort();
    assert!(stores.len() >= 2, "{stores:?}");
    stores
}

/// The file that tells what is in it.
fn expectation(store: &Path) -> PathBuf {
    let name = store.file_name().unwrap().to_str().unwrap();
    store.with_file_name(format!("{}.json", name.strip_suffix(".tar.gz").unwrap_or(name)))
}

/// Lays a kept store, a folder or an archive of one, at `to`; what is to be found in it.
pub(crate) fn lay(kept: &Path, to: &Path) -> Option<Value> {
    if kept.is_dir() {
        copy(kept, to);
    } else {
        std::fs::create_dir_all(to).unwrap();
        let tar = std::process::Command::new("tar").arg("-xzf").arg(kept).arg("-C").arg(to).status().unwrap();
        assert!(tar.success(), "{}", kept.display());
    }
    std::fs::read(expectation(kept)).ok().map(|expected| serde_json::from_slice(&expected).unwrap())
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// By the steps of this version as it is shipped.
fn open_at(path: &Path, at: jiff::Timestamp) -> Result<Store, OpenError> {
    let settings = Settings { path: path.into(), min_free: Some(ByteSize::b(0)), ..Settings::default() };
    Store::open(settings, Parts { clock: Arc::new(move || at), ..stored::parts() })
}

/// What `store verify` says of the folder once this version has opened it, and what the store says that is opened on it at that
/// time: later, what need not be kept for longer would be gone.
fn found(path: &Path, at: jiff::Timestamp) -> Value {
    drop(open_at(path, at).unwrap());
    let proof = verify(path, |_, _| ()).unwrap();
    let store = open_at(path, at).unwrap();
    let events = crate::support::stored::events_after(&store, 0);
    let ids: Vec<_> =
        events.iter().map(|stored| json!([stored.sequence, stored.event.id, stored.event.kind])).collect();
    let names: Vec<String> = proof.sinks.iter().map(|sum| sum.sink.clone()).collect();
    let sinks = names.iter().map(|name| {
        let letters = store.dead_letters(name).into_iter().map(|(sequence, letter)| {
            let event = store.dead_letter_event(name, sequence).unwrap().expect("its event");
            json!([sequence, letter.cause.reason, event.event.id])
        });
        let replay = store.registry.claim(name).state().map(|state| String::from_utf8_lossy(&state).into_owned());
        json!({"name": name, "progress": store.progress(name), "letters": letters.collect::<Vec<_>>(), "state": replay})
    });
    let quarantined = store.quarantine.after(None, 100, |_| true).into_iter().map(|one| {
        let (_, body) = store.quarantine.read(one.id).unwrap().expect("its body");
        json!([one.source, one.reason, String::from_utf8(body).unwrap()])
    });
    let removed: Vec<String> = store.registry.removed().into_iter().map(|sink| sink.name).collect();
    json!({
        "at": at, "instance": store.log.instance(), "verify": proof, "events": ids, "sinks": sinks.collect::<Vec<_>>(),
        "quarantined": quarantined.collect::<Vec<_>>(), "removed": removed,
    })
}

/// For a store that is newly kept: what is in it, as its file beside it is to say once it was looked at.
fn note(kept: &Path, copy: &Path) -> PathBuf {
    let found = serde_json::to_string(&found(copy, jiff::Timestamp::now())).unwrap();
    let noted = std::env::temp_dir().join(expectation(kept).file_name().unwrap());
    std::fs::write(&noted, found.replace("],[", "],\n[") + "\n").unwrap();
    noted
}

#[test]
fn every_store_that_is_kept_has_in_it_what_was_in_it() {
    for kept in stores() {
        let folder = tempfile::tempdir().unwrap();
        let expected = lay(&kept, folder.path()).unwrap_or_else(|| {
            let noted = note(&kept, folder.path());
            panic!("{} is missing; what is in the store stands in {}", expectation(&kept).display(), noted.display())
        });
        let at = expected["at"].as_str().unwrap().parse().unwrap();
        let found = found(folder.path(), at);
        for (key, value) in expected.as_object().unwrap() {
            assert_holds(&found[key], value, &format!("{}: {key}", kept.display()));
        }
        assert_eq!(found["verify"]["sound"], true);
        assert!(!found["events"].as_array().unwrap().is_empty());
        // And again: nothing of it went when it was opened.
        assert_eq!(self::found(folder.path(), at)["events"], found["events"], "{}", kept.display());
    }
}

/// Whether all of `expected` is there. A later version may say more of the same.
fn assert_holds(found: &Value, expected: &Value, at: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().for_each(|(key, value)| assert_holds(&found[key], value, &format!("{at}.{key}")));
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{at}");
            found.iter().zip(expected).for_each(|(found, expected)| assert_holds(found, expected, at));
        }
        _ => assert_eq!(found, expected, "{at}"),
    }
}

/// Something of everything that a store has, so that a later version cannot forget one.
#[test]
fn among_them_is_one_with_something_of_everything() {
    let rich = stores().into_iter().find(|store| {
        let expected: Value = serde_json::from_slice(&std::fs::read(expectation(store)).unwrap()).unwrap();
        let has = |key: &str| !expected[key].as_array().unwrap().is_empty();
        let sinks = expected["sinks"].as_array().unwrap();
        let events = expected["events"].as_array().unwrap();
        let is_there = |kind: &str| events.iter().any(|event| event[2] == kind);
        has("quarantined")
            && has("removed")
            && sinks.iter().any(|sink| !sink["letters"].as_array().unwrap().is_empty())
            && sinks.iter().any(|sink| !sink["state"].is_null())
            && ["sandbox.metrics", "sandbox.usage", "sandbox.lifecycle.killed"].into_iter().all(is_there)
            && expected["verify"]["sinks"].as_array().unwrap().iter().any(|sum| sum["dropped_by_hand"] != 0)
    });
    assert!(rich.is_some());
}
