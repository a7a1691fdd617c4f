//! The committer by itself, without its thread: what happens between two of its steps is made to happen here.

use super::*;
use crate::event::{Arrival, Event, Timestamp};
use crate::executor::Executor;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::store::kv::OnSled;
use crate::store::log::Log;
use crate::store::shared::LogShare;
use crate::store::{Parts, RealDisk, Settings, TAIL};
use bytes::Bytes;
use bytesize::ByteSize;
use std::path::Path;
use tokio::sync::oneshot::Receiver;

#[test]
fn about_midnight_the_neighbour_is_asked_too() {
    let at = |text: &str| days_of(text.parse().unwrap());
    assert_eq!(at("1970-01-02T12:00:00Z"), (1, None));
    assert_eq!(at("1970-01-02T00:00:59Z"), (1, Some(0)));
    assert_eq!(at("1970-01-02T23:59:00Z"), (1, Some(2)));
}

const NOON: &str = "2026-03-10T12:00:00Z";

/// On an empty store; with what it tells librarian and janitor.
fn committer(path: &Path) -> (Committer, mpsc::Receiver<librarian::Job>, mpsc::Receiver<janitor::Job>) {
    let now: jiff::Timestamp = NOON.parse().unwrap();
    let parts = Parts {
        disk: Arc::new(RealDisk),
        kv: Arc::new(OnSled),
        executor: Executor::default(),
        tail: TAIL,
        clock: Arc::new(move || now),
        boot_clock: Arc::new(|| std::time::Duration::ZERO),
        metrics: Metrics::new("test", "test").unwrap(),
        max_in_flight: 10,
        health: Health::default(),
    };
    let (min_free, max_size) = (Some(ByteSize::b(0)), ByteSize::mib(10));
    let store =
        crate::store::open(Settings { path: path.to_owned(), min_free, max_size, ..Settings::default() }, parts)
            .unwrap();
    store.engine.close();
    let mut shared = Arc::clone(&store.engine.shared);
    drop(store);
    let log = |share: &mut LogShare| {
        let (log, _) = Log::open(share.place.clone(), now).unwrap();
        share.segments = Arc::clone(&log.segments);
        log
    };
    let alone = Arc::get_mut(&mut shared).unwrap();
    let (events, samples) = (log(&mut alone.events), log(&mut alone.samples));
    let ((librarian, opening), (janitor, tidying)) = (mpsc::channel(), mpsc::channel());
    let committer = Committer {
        pulse: Health::default().join("committer", crate::health::PATIENCE),
        events,
        samples,
        shared,
        inbox: Arc::new(Inbox::new(10)),
        next_sequence: 1,
        librarian,
        janitor,
        days: HashMap::new(),
        waiting: HashMap::new(),
        unavailable: HashMap::new(),
        unindexed: HashMap::new(),
        refusals: Refusals::default(),
        unclaimed: false,
        last_group: 0,
        last_wait: None,
    };
    (committer, opening, tidying)
}

fn entry(id: u128, length: usize) -> (Entry, Receiver<Result<Accepted, Refused>>) {
    let event = Event {
        id: id.to_string(),
        kind: "sandbox.lifecycle.created".into(),
        timestamp: Timestamp::parse(NOON).unwrap(),
        sandbox_id: "sbx".into(),
        body: Bytes::from(vec![b'x'; length]),
    };
    let received_at = NOON.parse().unwrap();
    let arrival =
        Arrival { source: "acme".into(), origin: Origin::Webhook, received_at, webhook_id: None, delivery_id: None };
    let (reply, answer) = oneshot::channel();
    (Entry { event, arrival, hash: id, reply }, answer)
}

#[test]
fn an_index_that_goes_bad_while_a_group_is_made_gets_the_groups_ids_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, jobs, _tidying) = committer(&folder.path().join("store"));
    let (day, _) = days_of(NOON.parse().unwrap());
    committer.take_index(DayIndex::open(&OnSled, &folder.path().join("before"), day).unwrap());
    let mut batch = Batch::default();
    let (one, mut answer) = entry(1, 2);
    committer.sort_in(one, &mut batch);
    // The next of the same group meets an error. What the librarian makes anew may be ready before the group is on disk.
    committer.repair(day);
    let anew = DayIndex::open(&OnSled, &folder.path().join("anew"), day).unwrap();
    committer.commit(batch);
    assert_eq!(answer.try_recv().unwrap(), Ok(Accepted::New { sequence: 1 }));
    assert!(matches!(jobs.try_recv(), Ok(librarian::Job::Bad(bad)) if bad == day));
    assert!(!anew.contains(1));
    committer.take_index(anew);
    let (again, mut answer) = entry(1, 2);
    committer.sort_in(again, &mut Batch::default());
    assert_eq!(answer.try_recv().unwrap(), Ok(Accepted::Duplicate));
}

#[test]
fn as_many_as_fit_wait_for_an_index_and_the_next_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, jobs, _tidying) = committer(&folder.path().join("store"));
    let mut answers: Vec<_> = (0..=committer.inbox.limit() as u128)
        .map(|id| {
            let (entry, answer) = entry(id, 2);
            committer.sort_in(entry, &mut Batch::default());
            answer
        })
        .collect();
    assert_eq!(answers.pop().unwrap().try_recv().unwrap(), Err(Refused::Overloaded));
    assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()), "the others wait");
    assert_eq!(jobs.try_iter().count(), 1, "it is opened once");
}

#[test]
fn a_group_larger_than_a_segment_stays_within_max_size() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, _jobs, _tidying) = committer(&folder.path().join("store"));
    let (day, _) = days_of(NOON.parse().unwrap());
    committer.take_index(DayIndex::open(&OnSled, &folder.path().join("index"), day).unwrap());
    // 3.5 MiB at once, where a segment has one: two such groups fit.
    assert!(commit(&mut committer, 175));
    assert!(commit(&mut committer, 175));
    assert!(!commit(&mut committer, 175));
}

#[test]
fn a_spare_leaves_the_newest_segment_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, _jobs, _tidying) = committer(&folder.path().join("store"));
    let (day, _) = days_of(NOON.parse().unwrap());
    committer.take_index(DayIndex::open(&OnSled, &folder.path().join("index"), day).unwrap());
    // Nine segments that are nearly full, and a tenth that has just begun.
    for _ in 0..9 {
        assert!(commit(&mut committer, 48));
    }
    assert!(commit(&mut committer, 1));
    janitor::Janitor::new(
        Arc::clone(&committer.shared),
        Health::default().join("janitor", crate::health::PATIENCE),
        Vec::new(),
        mpsc::channel().1,
    )
    .tidy();
    assert!(commit(&mut committer, 46));
}

/// One group of so many events of 21 kB; whether they were accepted. The store stays within its size.
fn commit(committer: &mut Committer, events: usize) -> bool {
    let mut batch = Batch::default();
    let first = u128::from(committer.next_sequence);
    let mut answers: Vec<_> = (first..first + events as u128)
        .map(|id| {
            let (entry, answer) = entry(id, 21_000);
            committer.sort_in(entry, &mut batch);
            answer
        })
        .collect();
    committer.commit(batch);
    assert!(committer.shared.used() <= 10 << 20, "{} bytes", committer.shared.used());
    answers.iter_mut().all(|answer| answer.try_recv().unwrap().is_ok())
}

#[test]
fn when_the_writer_dies_nobody_waits_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, _jobs, _tidying) = committer(&folder.path().join("store"));
    let (inbox, shared) = (Arc::clone(&committer.inbox), Arc::clone(&committer.shared));
    let (queued, mut queued_answer) = entry(1, 2);
    inbox.offer(queued).unwrap();
    let (note, mut noted) = oneshot::channel();
    inbox.command(Command::Note(Control::Sinks(Vec::new()), note));
    // Its day's index is being opened.
    let (waiting, mut waiting_answer) = entry(2, 2);
    committer.sort_in(waiting, &mut Batch::default());
    let died = std::thread::spawn(move || {
        let _committer = committer;
        panic!("as a bug would");
    });
    assert!(died.join().is_err());
    assert!(*shared.dead.borrow(), "nobody is told");
    assert_eq!(queued_answer.try_recv().unwrap(), Err(Refused::Draining));
    assert_eq!(waiting_answer.try_recv().unwrap(), Err(Refused::Draining));
    assert_eq!(noted.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    let (late, _) = entry(3, 2);
    assert_eq!(inbox.offer(late), Err(Refused::Draining));
    let (note, mut noted) = oneshot::channel();
    inbox.command(Command::Note(Control::Sinks(Vec::new()), note));
    assert_eq!(noted.try_recv(), Err(oneshot::error::TryRecvError::Closed));
}

#[test]
fn of_the_days_before_only_some_are_open_at_once_those_used_last() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, jobs, _tidying) = committer(&folder.path().join("store"));
    let today = frame::day_of(NOON.parse().unwrap());
    let most = MAX_OTHER_DAYS as Day;
    // As a backfill of a month does, the oldest first; today's and yesterday's among them.
    for day in today - most - 6..=today {
        let index = DayIndex::open(&OnSled, &folder.path().join("seen"), day).unwrap();
        committer.take_index(index);
        committer.close_idle_days();
    }
    let mut open: Vec<Day> = committer.days.keys().copied().collect();
    open.sort_unstable();
    assert_eq!(open, (today - most - 1..=today).collect::<Vec<_>>());
    let closed = jobs.try_iter().map(|job| match job {
        librarian::Job::Close(index) => index.day,
        _ => panic!("nothing else was to be done"),
    });
    assert_eq!(closed.collect::<Vec<_>>(), (today - most - 6..today - most - 1).collect::<Vec<_>>());
}

/// The levels of what was written for operators.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<tracing::Level>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(*event.metadata().level());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn refused_groups_are_told_of_now_and_then_and_that_it_is_over_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, _jobs, _tidying) = committer(&folder.path().join("store"));
    let (day, _) = days_of(NOON.parse().unwrap());
    committer.take_index(DayIndex::open(&OnSled, &folder.path().join("index"), day).unwrap());
    // Not closed, as the store is that it was made of.
    committer.shared.refusing.send_replace(None);
    let lines = Lines::default();
    let said = Arc::clone(&lines.0);
    tracing::subscriber::with_default(lines, || {
        // Each in other words, as while others write to the disk.
        for more in 0..20 {
            Arc::get_mut(&mut committer.shared).unwrap().min_free = u64::MAX / 2 + more;
            assert!(!commit(&mut committer, 1));
        }
        assert_eq!(said.lock().unwrap().split_off(0), [tracing::Level::ERROR]);
        Arc::get_mut(&mut committer.shared).unwrap().min_free = 0;
        assert!(commit(&mut committer, 1) && commit(&mut committer, 1));
        assert_eq!(said.lock().unwrap().split_off(0), [tracing::Level::INFO]);
    });
    assert_eq!(*committer.shared.refusing.borrow(), None);
}

#[test]
fn events_whose_index_is_not_to_be_had_are_refused_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, _jobs, _tidying) = committer(&folder.path().join("store"));
    committer.shared.refusing.send_replace(None);
    let (day, _) = days_of(NOON.parse().unwrap());
    let offer = |committer: &mut Committer, id| {
        let (entry, answer) = entry(id, 2);
        let mut batch = Batch::default();
        committer.sort_in(entry, &mut batch);
        committer.commit(batch);
        answer
    };
    let mut waits = offer(&mut committer, 1);
    assert!(waits.try_recv().is_err(), "it waits for the index");
    let refused = Refused::Failed("no".to_owned());
    committer.refuse_day(day, &refused);
    let mut later = offer(&mut committer, 2);
    committer.look_at_the_disk();
    assert_eq!([waits.try_recv().unwrap(), later.try_recv().unwrap()], [Err(refused.clone()), Err(refused.clone())]);
    assert_eq!(*committer.shared.refusing.borrow(), Some(refused));
    committer.take_index(DayIndex::open(&OnSled, &folder.path().join("index"), day).unwrap());
    committer.look_at_the_disk();
    assert_eq!(*committer.shared.refusing.borrow(), None);
    assert!(matches!(offer(&mut committer, 2).try_recv().unwrap(), Ok(Accepted::New { .. })));
}

#[test]
fn closed_while_events_wait_for_an_index_it_waits_and_does_not_spin() {
    let folder = tempfile::tempdir().unwrap();
    let (mut committer, jobs, _tidying) = committer(&folder.path().join("store"));
    let (day, _) = days_of(NOON.parse().unwrap());
    // It looks at the clock once in each turn.
    let turns = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (counted, now) = (Arc::clone(&turns), NOON.parse().unwrap());
    Arc::get_mut(&mut committer.shared).unwrap().clock = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        now
    });
    let inbox = Arc::clone(&committer.inbox);
    let (entry, answer) = entry(1, 2);
    inbox.offer(entry).unwrap();
    inbox.close();
    let thread = std::thread::spawn(move || while committer.step(TICK) {});
    assert!(matches!(jobs.recv(), Ok(librarian::Job::Open(wanted)) if wanted == day));
    while !inbox.is_waited_at() {
        assert!(turns.load(Ordering::Relaxed) < 1_000, "it spins");
        std::thread::yield_now();
    }
    inbox.command(Command::DayOpened(DayIndex::open(&OnSled, &folder.path().join("index"), day).unwrap()));
    assert_eq!(answer.blocking_recv().unwrap(), Ok(Accepted::New { sequence: 1 }));
    thread.join().unwrap();
}
