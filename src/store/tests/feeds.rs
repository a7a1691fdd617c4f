//! Reading on as the log grows, from memory and from the disk.

use super::*;

/// Reads what there is, proves that the pieces join, and counts the readings of either kind: of memory, of the disk.
fn read_on(reader: &mut TailReader, all: &mut Vec<Record>, counts: &mut [usize; 2]) {
    loop {
        let limits = Limits { events: 100, bytes: 50_000 };
        let after = all.last().map_or(0, |record| record.stored.sequence);
        let (batch, road) = match reader.cached_after(after, limits) {
            Some(batch) => (batch, 0),
            None => (reader.read_after(after, limits).unwrap(), 1),
        };
        if batch.records.is_empty() {
            return;
        }
        counts[road] += 1;
        all.extend(batch.records);
    }
}

#[tokio::test]
async fn a_feed_that_keeps_up_or_falls_behind_has_each_event_once_as_the_journal_has_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(accept_many(&open(folder.path()), (0..300).map(|n| format!("before-{n}")), NOON).await);
    let store = open(folder.path());
    let (mut quick, mut slow) = (store.log.tail_reader(), store.log.tail_reader());
    let (mut all, mut late) = (Vec::new(), Vec::new());
    let (mut roads, mut late_roads) = ([0; 2], [0; 2]);
    read_on(&mut quick, &mut all, &mut roads);
    assert_eq!((all.len(), roads[0]), (300, 0), "what was there before is on disk alone");
    let from_disk = roads[1];
    for round in 0..24 {
        for piece in 0..5 {
            accept_many(&store, (0..200).map(|n| format!("{round}-{piece}-{n}")), NOON).await;
            let sample = event(&format!("sample-{round}-{piece}"), NOON);
            store.log.accept(sample, arrival(Origin::Metrics)).await.unwrap();
            read_on(&mut quick, &mut all, &mut roads);
        }
        // Now and then further behind than what memory holds.
        if round % 8 > 5 {
            read_on(&mut slow, &mut late, &mut late_roads);
        }
    }
    let journal = read_records(&store);
    assert_eq!(journal.len(), 300 + 24 * 5 * 201);
    assert!(all == journal, "{} of {}", all.len(), journal.len());
    assert!(late == journal, "{} of {}", late.len(), journal.len());
    assert_eq!(roads[1], from_disk);
    assert!(late_roads.iter().all(|count| *count > 10), "{late_roads:?}");
}

#[tokio::test]
async fn a_feed_in_memory_holds_no_segment_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let small = || Settings { max_size: ByteSize::mib(16), ..settings(folder.path()) };
    let open = || crate::store::open(small(), parts(NOON)).unwrap();
    accept(&open(), "before", NOON).await;
    let store = open();
    attach(&store, "lake", Start::Earliest).await;
    let (mut reader, mut all, mut roads) = (store.log.tail_reader(), Vec::new(), [0; 2]);
    let first = store.log.marks(false)[0];
    for round in 0.. {
        read_on(&mut reader, &mut all, &mut roads);
        let position = all.last().unwrap().stored.sequence;
        advance(&store, "lake", position, Progress { delivered: position, ..Progress::default() });
        store.engine.shared.positions.sync().unwrap();
        if store.log.marks(false)[0] != first {
            break;
        }
        accept_many(&store, (0..500).map(|n| format!("{round}-{n}")), NOON).await;
    }
    assert_eq!(roads[1], 1, "only the first was read from the disk");
    // The janitor has its own hand on it until it is through.
    store.engine.close();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs_link(&fd.unwrap().path()));
    let gone: Vec<_> =
        open.filter(|name| name.starts_with(folder.path()) && name.to_string_lossy().contains("(deleted)")).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

/// All of both logs from the disk, without anything that another reading may have left.
fn read_records(store: &Handles) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let after = all.last().map_or(0, |record| record.stored.sequence);
        let batch = store.log.reader().read_after(after, Limits { events: 5_000, bytes: usize::MAX }).unwrap();
        if batch.records.is_empty() {
            return all;
        }
        all.extend(batch.records);
    }
}

/// Where a descriptor leads; `None` where it was closed meanwhile.
fn fs_link(fd: &Path) -> Option<std::path::PathBuf> {
    std::fs::read_link(fd).ok()
}

/// Whatever it is asked in whatever order, a reader answers like one that has nothing from before.
#[tokio::test]
async fn a_reader_has_no_position() {
    let seed =
        std::env::var("E2B_RELAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    drop(accept_many(&open(folder.path()), (0..300).map(|n| format!("before-{n}")), NOON).await);
    let store = open(folder.path());
    let mut kept: Vec<TailReader> = (0..3).map(|_| store.log.tail_reader()).collect();
    let mut afters = [0; 3];
    for round in 0..60 {
        // Small groups, and now and then one of the largest.
        let pieces: usize = if rng.u8(0..6) == 0 { 1_500 } else { rng.usize(1..200) };
        accept_many(&store, (0..pieces).map(|n| format!("{round}-{n}")), NOON).await;
        if rng.bool() {
            store.log.accept(event(&format!("sample-{round}"), NOON), arrival(Origin::Metrics)).await.unwrap();
        }
        for (reader, after) in kept.iter_mut().zip(&mut afters) {
            for _ in 0..rng.usize(0..12) {
                let limits = Limits { events: rng.usize(1..700), bytes: rng.usize(1_000..900_000) };
                if rng.u8(0..20) == 0 {
                    *after = rng.u64(0..=store.log.durable().borrow().sequence);
                }
                let batch = match rng.bool().then(|| reader.cached_after(*after, limits)).flatten() {
                    Some(batch) => batch,
                    None => reader.read_after(*after, limits).unwrap(),
                };
                let fresh = store.log.reader().read_after(*after, limits).unwrap();
                assert_eq!(batch, fresh, "seed {seed}, round {round}, after {after}");
                *after = batch.through;
            }
        }
    }
}
