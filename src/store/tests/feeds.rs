//! Reading on as the log grows, from memory and from the disk.

use super::*;

/// Reads what there is, and counts the readings of either kind: of memory, of the disk.
fn read_on(feed: &mut Feed, all: &mut Vec<Stored>, counts: &mut [usize; 2]) {
    loop {
        let (events, road) = match feed.recent(100, 50_000) {
            Some(events) => (events, 0),
            None => (feed.read(100, 50_000).unwrap(), 1),
        };
        if events.is_empty() {
            return;
        }
        counts[road] += 1;
        all.extend(events.iter().map(|stored| Stored::clone(stored)));
    }
}

#[tokio::test]
async fn a_feed_that_keeps_up_or_falls_behind_has_each_event_once_as_the_journal_has_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(accept_many(&open(folder.path()), (0..300).map(|n| format!("before-{n}")), NOON).await);
    let store = open(folder.path());
    let (mut quick, mut slow) = (store.feed(0), store.feed(0));
    let (mut all, mut late) = (Vec::new(), Vec::new());
    let (mut roads, mut late_roads) = ([0; 2], [0; 2]);
    read_on(&mut quick, &mut all, &mut roads);
    assert_eq!((all.len(), roads[0]), (300, 0), "what was there before is on disk alone");
    let from_disk = roads[1];
    for round in 0..24 {
        for piece in 0..5 {
            accept_many(&store, (0..200).map(|n| format!("{round}-{piece}-{n}")), NOON).await;
            let sample = event(&format!("sample-{round}-{piece}"), NOON);
            store.accept(sample, arrival(Origin::Metrics)).await.unwrap();
            read_on(&mut quick, &mut all, &mut roads);
        }
        // Now and then further behind than what memory holds.
        if round % 8 > 5 {
            read_on(&mut slow, &mut late, &mut late_roads);
        }
    }
    let journal = read_all(&store, 0);
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
    let open = || Store::open(small(), parts(NOON)).unwrap();
    accept(&open(), "before", NOON).await;
    let store = open();
    attach(&store, "lake", Start::Earliest).await;
    let (mut feed, mut all, mut roads) = (store.feed(0), Vec::new(), [0; 2]);
    let first = store.marks(false)[0];
    for round in 0.. {
        read_on(&mut feed, &mut all, &mut roads);
        let position = all.last().unwrap().sequence;
        store.advance("lake", Progress { position, delivered: position, ..Progress::default() }).unwrap();
        store.shared.meta.sync().unwrap();
        if store.marks(false)[0] != first {
            break;
        }
        accept_many(&store, (0..500).map(|n| format!("{round}-{n}")), NOON).await;
    }
    assert_eq!(roads[1], 1, "only the first was read from the disk");
    // The janitor has its own hand on it until it is through.
    store.close();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs_link(&fd.unwrap().path()));
    let gone: Vec<_> =
        open.filter(|name| name.starts_with(folder.path()) && name.to_string_lossy().contains("(deleted)")).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

/// Where a descriptor leads; `None` where it was closed meanwhile.
fn fs_link(fd: &Path) -> Option<std::path::PathBuf> {
    std::fs::read_link(fd).ok()
}
