use super::*;
use fastrand::Rng;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The provider's list: newest first, equal times in another order at each query.
#[derive(Debug, Default)]
struct List {
    rows: Vec<(i64, u32)>,
    next: u32,
    /// Times of which an event has left.
    left: BTreeSet<i64>,
}

impl List {
    /// Unless a run of equal times would become as long as a page; those have a test of their own.
    fn insert_within(&mut self, second: i64, limit: usize) {
        if self.rows.iter().filter(|row| row.0 == second).count() + 1 < limit {
            self.insert(second);
        }
    }

    fn insert(&mut self, second: i64) {
        self.rows.push((second, self.next));
        self.next += 1;
        self.rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    }

    fn remove_oldest(&mut self, random: &mut Rng) {
        let Some(&(oldest, _)) = self.rows.last() else { return };
        let run: Vec<usize> = (0..self.rows.len()).filter(|index| self.rows[*index].0 == oldest).collect();
        self.rows.remove(random.choice(run).unwrap());
        self.left.insert(oldest);
    }

    fn query(&mut self, offset: usize, limit: usize, random: &mut Rng) -> Vec<Option<Row>> {
        random.shuffle(&mut self.rows);
        self.rows.sort_by_key(|row| std::cmp::Reverse(row.0));
        let page = self.rows.iter().skip(offset).take(limit);
        page.map(|(second, id)| Some(Row { at: at(*second), id: id.to_string() })).collect()
    }
}

/// What changes before a query.
#[derive(Debug, Clone)]
enum Change {
    /// So many events happen, later than all before or at the last one's time.
    Newest(u8, bool),
    /// One is listed late, somewhere in the list's span.
    Late(u8),
    /// So many of the oldest leave.
    OldestLeave(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (1..5u8, any::<bool>()).prop_map(|(count, same)| Change::Newest(count, same)),
        any::<u8>().prop_map(Change::Late),
        (1..5u8).prop_map(Change::OldestLeave),
    ]
}

fn apply(list: &mut List, change: &Change, limit: usize, random: &mut Rng) {
    let newest = list.rows.first().map_or(1_000, |row| row.0);
    let oldest = list.rows.last().map_or(1_000, |row| row.0);
    match *change {
        Change::Newest(count, same) => {
            (0..count).for_each(|n| list.insert(newest + i64::from(n + 1) * i64::from(!same)))
        }
        Change::Late(place) => list.insert_within(oldest + (newest - oldest) * i64::from(place) / 255, limit),
        Change::OldestLeave(count) => (0..count).for_each(|_| list.remove_oldest(random)),
    }
}

/// Walks, with `changes` before the queries after the first. Returns what the kept pages held, and how many queries.
fn walk(
    list: &mut List,
    floor: i64,
    limit: usize,
    changes: &[Vec<Change>],
    random: &mut Rng,
) -> (BTreeSet<u32>, usize) {
    let (mut walk, mut offset, mut queries, mut seen) = (Walk::new(at(floor)), 0, 0, BTreeSet::new());
    loop {
        let page = list.query(offset, limit, random);
        queries += 1;
        assert!(queries < 10_000, "it does not end");
        let step = walk.take(&page, page.len() >= limit);
        if !matches!(step, Step::Again(_)) {
            seen.extend(page.iter().flatten().map(|row| row.id.parse::<u32>().unwrap()));
        }
        match step {
            Step::Next(next) | Step::Again(next) => offset = next,
            Step::Done { .. } => return (seen, queries),
        }
        for change in changes.get(queries - 1).into_iter().flatten() {
            apply(list, change, limit, random);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is listed when the walk begins, is not older than the floor, and does not leave (nor one of its very
    /// time), is on a page.
    #[test]
    fn nothing_is_skipped_however_the_list_shifts(
        // Between no and a second apart, so that runs of equal times are many.
        gaps in prop::collection::vec(0..3i64, 0..120),
        floor in 0..1_300i64,
        limit in 4..12usize,
        changes in prop::collection::vec(prop::collection::vec(change(), 0..4), 0..60),
        seed in any::<u64>(),
    ) {
        let (mut list, mut second, mut random) = (List::default(), 1_000, Rng::with_seed(seed));
        for gap in gaps {
            second += gap;
            list.insert_within(second, limit);
        }
        let wanted: HashMap<u32, i64> = list.rows.iter().filter(|row| row.0 >= floor).map(|row| (row.1, row.0)).collect();
        let (seen, _) = walk(&mut list, floor, limit, &changes, &mut random);
        let skipped = wanted.iter().filter(|(id, second)| !seen.contains(id) && !list.left.contains(second));
        let skipped: Vec<_> = skipped.collect();
        prop_assert!(skipped.is_empty(), "skipped {skipped:?} of {} with floor {floor}, {limit} per page", wanted.len());
    }
}

#[test]
fn a_quiet_list_takes_no_more_pages_than_there_must_be() {
    let mut random = Rng::with_seed(1);
    for (events, pages) in [(0, 1), (1, 1), (99, 1), (100, 2), (1_999, 20), (2_000, 21)] {
        let mut list = List::default();
        (0..events).for_each(|second| list.insert(second));
        let (seen, queries) = walk(&mut list, 0, 100, &[], &mut random);
        assert_eq!((seen.len(), queries), (events as usize, pages));
    }
    let mut list = List::default();
    (0..10_000).for_each(|second| list.insert(second));
    let (seen, queries) = walk(&mut list, 9_000, 100, &[], &mut random);
    assert!(queries == 11 && (9_000..10_000).all(|id| seen.contains(&id)), "{queries} pages for 1,000 of 10,000");
}

#[test]
fn runs_of_equal_times_longer_than_a_page_are_seen_whole() {
    for seed in 0..50 {
        let (mut list, mut random) = (List::default(), Rng::with_seed(seed));
        for (second, run) in [(1, 5), (2, 37), (3, 1), (4, 64), (5, 8)] {
            (0..run).for_each(|_| list.insert(second));
        }
        let (seen, queries) = walk(&mut list, 0, 10, &[], &mut random);
        assert!(seen.len() == 115, "seed {seed}: {} of 115 after {queries} queries", seen.len());
    }
}

#[test]
fn rows_that_cannot_be_read_do_not_stop_it() {
    let mut walk = Walk::new(at(0));
    assert_eq!(walk.take(&[None, None], true), Step::Next(2));
    let row = |second, id: &str| Some(Row { at: at(second), id: id.to_owned() });
    assert_eq!(walk.take(&[row(6, "a"), None, row(5, "b"), None], true), Step::Next(6));
    assert_eq!(walk.take(&[None, row(5, "c")], true), Step::Again(3), "the run of 5 s was cut");
    assert_eq!(walk.take(&[None, row(5, "b"), None, row(5, "c"), None, row(4, "d")], true), Step::Next(9));
    assert_eq!(walk.take(&[], false), Step::Done { list_ended: true });
}
