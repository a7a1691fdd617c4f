//! The model of databases does what the real ones do: the same calls, drawn at random, have the same answers.

use super::databases::Databases;
use crate::support::seed::random;
use e2b_relay::store::{Database, KeyValue, OnSled};
use std::path::Path;
use std::sync::Arc;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(database: &dyn Database) -> Pairs {
    let mut pairs = Pairs::new();
    database
        .for_each(&mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            Ok(())
        })
        .unwrap();
    pairs
}

fn names(kv: &dyn KeyValue, parent: &Path) -> Vec<String> {
    let mut names = kv.names(parent).unwrap();
    names.sort();
    names
}

#[test]
fn the_model_of_databases_answers_as_sled_does() {
    let mut rng = random("databases");
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (model, parent) = (Databases::new(1).of_this_life(), folder.path());
    let both: [&dyn KeyValue; 2] = [&OnSled, &*model];
    let mut open: Vec<(usize, [Arc<dyn Database>; 2])> = Vec::new();
    for _ in 0..1_500 {
        let which = rng.usize(0..3);
        let path = parent.join(format!("database-{which}"));
        let at = open.iter().position(|(number, _)| *number == which);
        match (rng.u8(0..20), at) {
            (0..12, Some(at)) => {
                let (key, value) = (vec![rng.u8(0..20); rng.usize(1..4)], vec![rng.u8(..); rng.usize(0..600)]);
                let remove = rng.u8(0..4) == 0;
                for database in &open[at].1 {
                    if remove { database.remove(&key).unwrap() } else { database.insert(&key, &value).unwrap() }
                }
            }
            (12 | 13, Some(at)) => open[at].1.iter().for_each(|database| database.sync().unwrap()),
            (14..17, Some(at)) => assert_eq!(pairs(&*open[at].1[0]), pairs(&*open[at].1[1])),
            (17..20, Some(at)) => {
                let (_, databases) = open.remove(at);
                databases.iter().for_each(|database| database.sync().unwrap());
                drop(databases);
                // What is closed has a checksum, that stays while nobody opens it.
                let sums = || both.map(|kv| kv.checksum(&path).unwrap());
                assert_eq!(sums(), sums());
            }
            (0..12, None) => {
                let databases = both.map(|kv| kv.open(&path, 1 << 20).unwrap());
                assert_eq!(pairs(&*databases[0]), pairs(&*databases[1]));
                open.push((which, databases));
            }
            (12, None) => both.iter().for_each(|kv| kv.remove(&path).unwrap()),
            (13, None) => both.iter().for_each(|kv| drop(kv.set_aside(&path).unwrap())),
            (14, None) => both.iter().for_each(|kv| kv.set_aside_once(&path).unwrap()),
            _ => {
                assert_eq!(both[0].exists(&path), both[1].exists(&path));
                assert_eq!(names(both[0], parent), names(both[1], parent));
                assert!(both.iter().all(|kv| kv.works_beside(&path)));
            }
        }
    }
}
