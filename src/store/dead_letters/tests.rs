//! The letters' file by itself, with its writer driven by hand where the order matters.

use super::writer::{TICK, Working, Writer};
use super::*;
use crate::event::{Arrival, Event, Origin, Timestamp};
use crate::executor::Worker;
use crate::health::Health;
use crate::store::files::disk::failing::FailingDisk;
use crate::store::files::disk::{Open, RealDisk};
use crate::store::files::frames::{Found, Place, Scanner};
use ::bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

const EVERYTHING: u64 = u64::MAX;

struct Bench {
    folder: tempfile::TempDir,
    positions: Arc<Mutex<BTreeMap<String, Known>>>,
    metrics: Metrics,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self { folder, positions: Arc::default(), metrics: Metrics::new("test", "test").unwrap() }
    }

    fn open_on(&self, disk: Arc<dyn Disk>) -> io::Result<(Letters, Writer)> {
        let positions = Arc::clone(&self.positions);
        Letters::open(Context {
            disk,
            store: self.folder.path().to_owned(),
            max_live: 1 << 20,
            positions: Arc::new(move || positions.lock().unwrap().clone()),
            metrics: self.metrics.clone(),
        })
    }

    fn open(&self) -> (Letters, Writer) {
        self.open_on(Arc::new(RealDisk)).unwrap()
    }

    /// A sink whose position is `position`, with so many dead letters up to there.
    fn place(&self, sink: &str, position: u64, dead_lettered: u64) {
        let progress = Progress { position, dead_lettered, ..Progress::default() };
        self.positions.lock().unwrap().insert(sink.to_owned(), Known { progress, durable: position });
    }

    fn file(&self) -> PathBuf {
        file_path(&folder(self.folder.path()))
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.file()).unwrap()
    }

    fn frames(&self) -> Vec<(Place, Bytes)> {
        let file = RealDisk.open(&self.file(), Open::Existing).unwrap();
        let mut scanner = Scanner::new(&*file, file.length().unwrap(), SHAPE);
        let frames = std::iter::from_fn(|| scanner.next().unwrap());
        frames
            .map(|found| if let Found::Frame(place, content) = found { (place, content) } else { panic!("{found:?}") })
            .collect()
    }

    /// Another with the same positions and these bytes.
    fn with(&self, bytes: &[u8]) -> Self {
        let other = Self { positions: Arc::clone(&self.positions), ..Self::new() };
        std::fs::create_dir(folder(other.folder.path())).unwrap();
        std::fs::write(other.file(), bytes).unwrap();
        other
    }

    fn kept_aside(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("damaged")).map_or(0, Iterator::count)
    }

    fn damaged_total(&self) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find(|line| line.starts_with("e2b_relay_store_damaged_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn stored(sequence: u64) -> Stored {
    let now: jiff::Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
    Stored {
        sequence,
        arrival: Arrival {
            source: "acme".into(),
            origin: Origin::Webhook,
            received_at: now,
            webhook_id: None,
            delivery_id: None,
        },
        event: Event {
            id: format!("event-{sequence}"),
            kind: "sandbox.lifecycle.created".to_owned(),
            timestamp: Timestamp::from(now),
            sandbox_id: "sandbox".to_owned(),
            body: Bytes::from(vec![b'x'; 100 + sequence as usize % 7]),
        },
    }
}

fn letter(sink: &str, sequence: u64) -> (u64, Vec<u8>) {
    let cause = Cause { reason: "rejected".to_owned(), message: "no".to_owned() };
    (sequence, coding::letter(sink, &stored(sequence), &cause, stored(sequence).arrival.received_at))
}

fn park(writer: &mut Writer, sink: &str, sequences: impl IntoIterator<Item = u64>) -> io::Result<usize> {
    writer.park(sink, sequences.into_iter().map(|sequence| letter(sink, sequence)).collect())
}

fn waiting(letters: &Letters, sink: &str) -> Vec<u64> {
    letters.of(sink).into_iter().map(|(sequence, _)| sequence).collect()
}

fn assert_readable(letters: &Letters, sink: &str) {
    for sequence in waiting(letters, sink) {
        assert_eq!(letters.event(sink, sequence).unwrap(), Some(stored(sequence)));
    }
}

/// Two sinks; of the first, one letter is dropped and one retried.
fn small() -> Bench {
    let bench = Bench::new();
    let (_, mut writer) = bench.open();
    for sequence in 1..=4 {
        park(&mut writer, "lake", [sequence]).unwrap();
        park(&mut writer, "bus", [sequence + 255]).unwrap();
    }
    writer.resolve("lake", vec![2], Fate::Dropped).unwrap();
    writer.resolve("lake", vec![1], Fate::Retried).unwrap();
    park(&mut writer, "lake", [5]).unwrap();
    bench.place("lake", 5, 5);
    bench.place("bus", 400, 4);
    bench
}

#[test]
fn whichever_byte_is_damaged_every_other_letter_survives() {
    let bench = small();
    let (whole, frames) = (bench.bytes(), bench.frames());
    let all: BTreeSet<(&str, u64)> =
        (3..=5).map(|sequence| ("lake", sequence)).chain((256..260).map(|sequence| ("bus", sequence))).collect();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= [0x01, 0x10, 0x80, 0xff][at % 4];
        let damaged = bench.with(&bytes);
        let (letters, _writer) = damaged.open();
        let hit = frames.iter().find(|(place, _)| (place.start..place.end()).contains(&(at as u64))).unwrap();
        let mut expected = all.clone();
        let coding::Entry { sink, sequence, what } = coding::decode(&hit.1).unwrap();
        let lost = match what {
            coding::What::Letter(..) => u64::from(expected.remove(&(sink, sequence))),
            // It waits again.
            _ => u64::from(!expected.insert((sink, sequence))),
        };
        let found: BTreeSet<(&str, u64)> = ["lake", "bus"]
            .iter()
            .flat_map(|sink| waiting(&letters, sink).into_iter().map(move |one| (*sink, one)))
            .collect();
        assert_eq!(found, expected, "byte {at}");
        for sink in ["lake", "bus"] {
            assert_readable(&letters, sink);
        }
        // As many as the sinks have noted.
        let counts = [letters.counts("lake", 0, 5), letters.counts("bus", 0, 400)];
        assert_eq!(counts.map(|counts| counts.sum()), [5, 4], "byte {at}: {counts:?}");
        assert_eq!(counts[0].damaged + counts[1].damaged, lost, "byte {at}: {counts:?}");
        assert_eq!((damaged.damaged_total(), damaged.kept_aside()), (1, 1), "byte {at}");
    }
}

#[test]
fn whichever_bytes_are_damaged_every_letter_beside_them_survives() {
    let bench = small();
    let (whole, frames) = (bench.bytes(), bench.frames());
    let mut random = fastrand::Rng::with_seed(15);
    for round in 0..300 {
        let mut bytes = whole.clone();
        let start = random.usize(0..bytes.len() - 1);
        let end = (start + random.usize(1..400)).min(bytes.len());
        // Zeros, noise, or what stood elsewhere.
        let from = random.usize(0..bytes.len() - (end - start));
        match round % 3 {
            0 => bytes[start..end].fill(0),
            1 => bytes[start..end].fill_with(|| random.u8(..)),
            _ => bytes.copy_within(from..from + (end - start), start),
        }
        let (letters, _writer) = bench.with(&bytes).open();
        for (place, content) in &frames {
            let touched = place.start < end as u64 && start as u64 <= place.end();
            let coding::Entry { sink, sequence, what } = coding::decode(content).unwrap();
            let resolved = sink == "lake" && sequence < 3;
            if !touched && !resolved && matches!(what, coding::What::Letter(..)) {
                let event = letters.event(sink, sequence).unwrap();
                assert_eq!(event, Some(stored(sequence)), "round {round}: {start} to {end}");
            }
        }
    }
}

#[test]
fn an_event_within_a_letter_is_no_letter() {
    // Its frame would read as a letter: kind 1, a key of one byte, and zeros.
    let bench = Bench::new();
    let (_, mut writer) = bench.open();
    park(&mut writer, "lake", [256, 512, 768]).unwrap();
    drop(writer);
    let mut bytes = bench.bytes();
    bytes[9] ^= 0xff;
    let (letters, _writer) = bench.with(&bytes).open();
    assert_eq!(waiting(&letters, "lake"), [512, 768]);
    let sinks: Vec<_> = letters.after(None, None, 10, |_| true).into_iter().map(|(sink, ..)| sink).collect();
    assert_eq!(sinks, ["lake", "lake"]);
}

#[test]
fn what_a_cut_left_behind_is_cut_off_unless_a_letter_is_missing() {
    let bench = small();
    let whole = bench.bytes();
    let torn = &whole[..whole.len() - 3];
    // The position is past it: it was there.
    let damaged = bench.with(torn);
    let (letters, writer) = damaged.open();
    assert_eq!(
        letters.counts("lake", 0, 5),
        DeadLetterCounts { waiting: 2, retried: 1, dropped: 1, damaged: 1, ..Default::default() }
    );
    assert_eq!((damaged.damaged_total(), damaged.kept_aside()), (1, 1));
    drop((letters, writer));
    // It is written down, and not told twice.
    let (letters, _writer) = damaged.open();
    assert_eq!((letters.counts("lake", 0, 5).damaged, damaged.damaged_total()), (1, 1));
    // The position had not moved.
    bench.place("lake", 4, 4);
    let cut = bench.with(torn);
    let (letters, _writer) = cut.open();
    assert_eq!(letters.counts("lake", 0, 4).sum(), 4);
    assert_eq!((cut.damaged_total(), cut.kept_aside()), (0, 0));
}

#[test]
fn a_letter_that_goes_bad_while_it_runs_costs_itself() {
    for rewritten in [false, true] {
        let bench = small();
        let (letters, mut writer) = bench.open();
        let place = letters.shared.state.lock().index.letter("lake", 3).unwrap().place;
        let mut bytes = bench.bytes();
        bytes[place.start as usize + 40] ^= 1;
        std::fs::write(bench.file(), bytes).unwrap();
        if rewritten {
            writer.rewrite_now().unwrap();
        } else {
            let pulse = Health::default().join("letters", Duration::MAX);
            let mut working = Working { writer, pulse, died: watch::Sender::new(false) };
            let thread = std::thread::spawn(move || while working.step(TICK) {});
            assert_eq!(letters.event("lake", 3).unwrap(), None);
            letters.finish();
            thread.join().unwrap();
        }
        assert_eq!((waiting(&letters, "lake"), waiting(&letters, "bus")), (vec![4, 5], vec![256, 257, 258, 259]));
        assert_eq!((letters.counts("lake", 0, 5).damaged, letters.counts("lake", 0, 5).sum()), (1, 5));
        assert_eq!((bench.damaged_total(), bench.kept_aside()), (1, 1));
        drop(letters);
        let (letters, _writer) = bench.open();
        assert_eq!((letters.counts("lake", 0, 5).damaged, letters.counts("lake", 0, 5).sum()), (1, 5));
        assert_eq!(waiting(&letters, "lake"), [4, 5]);
        assert_readable(&letters, "lake");
    }
}

#[test]
fn a_letter_counts_once_whatever_became_of_it() {
    let bench = Bench::new();
    let (letters, mut writer) = bench.open();
    park(&mut writer, "lake", 1..=10).unwrap();
    writer.resolve("lake", vec![1, 2, 3], Fate::Retried).unwrap();
    writer.resolve("lake", vec![4, 5], Fate::Forwarded).unwrap();
    writer.resolve("lake", vec![6, 9], Fate::Dropped).unwrap();
    // The sink's position had not moved past it.
    park(&mut writer, "lake", [9, 10]).unwrap();
    let wanted = DeadLetterCounts { waiting: 4, retried: 3, forwarded: 2, dropped: 1, damaged: 0 };
    assert_eq!(letters.counts("lake", 0, EVERYTHING), wanted);
    // Between base and position.
    assert_eq!(letters.counts("lake", 1, 8), DeadLetterCounts { waiting: 2, retried: 2, ..wanted });
    bench.place("lake", 8, 8);
    for _ in 0..2 {
        writer.rewrite_now().unwrap();
        assert_eq!(letters.counts("lake", 0, EVERYTHING), wanted);
        assert_eq!(letters.counts("lake", 0, 8).sum(), 8);
        let (again, _writer) = bench.with(&bench.bytes()).open();
        assert_eq!(again.counts("lake", 0, EVERYTHING), wanted);
        assert_eq!(waiting(&again, "lake"), [7, 8, 9, 10]);
    }
    assert_eq!(bench.frames().len(), 5, "four letters, and the numbers of the rest");
    // It lost its position, and has everything once more.
    writer.restart("lake").unwrap();
    assert_eq!(letters.counts("lake", 0, EVERYTHING).sum(), 0);
    assert_eq!(waiting(&letters, "lake"), [7, 8, 9, 10]);
    park(&mut writer, "lake", [7]).unwrap();
    writer.resolve("lake", vec![8], Fate::Dropped).unwrap();
    let wanted = DeadLetterCounts { waiting: 1, ..Default::default() };
    assert_eq!(letters.counts("lake", 0, EVERYTHING), wanted);
    writer.rewrite_now().unwrap();
    let (again, _writer) = bench.with(&bench.bytes()).open();
    for letters in [&letters, &again] {
        assert_eq!(letters.counts("lake", 0, EVERYTHING), wanted);
        assert_eq!(waiting(letters, "lake"), [7, 9, 10]);
        assert_readable(letters, "lake");
    }
}

#[test]
fn numbers_that_are_damaged_are_made_up_for_however_many_they_stood_for() {
    let bench = Bench::new();
    let (_letters, mut writer) = bench.open();
    park(&mut writer, "lake", 1..=10).unwrap();
    writer.resolve("lake", (1..=6).collect(), Fate::Retried).unwrap();
    bench.place("lake", 10, 10);
    writer.rewrite_now().unwrap();
    let totals = |content: &Bytes| matches!(coding::decode(content).unwrap().what, coding::What::Totals(_));
    let (place, _) = bench.frames().into_iter().find(|(_, content)| totals(content)).unwrap();
    let mut bytes = bench.bytes();
    bytes[place.end() as usize - 1] ^= 1;
    let damaged = bench.with(&bytes);
    for _ in 0..2 {
        let (letters, _writer) = damaged.open();
        let wanted = DeadLetterCounts { waiting: 4, damaged: 6, ..Default::default() };
        assert_eq!(letters.counts("lake", 0, 10), wanted);
    }
}

#[test]
fn a_sink_that_is_renamed_takes_its_letters_and_numbers_along_and_no_other_ones() {
    let bench = Bench::new();
    let (letters, mut writer) = bench.open();
    park(&mut writer, "new", [1, 2]).unwrap();
    park(&mut writer, "old", [2, 3, 4]).unwrap();
    writer.resolve("old", vec![3], Fate::Retried).unwrap();
    writer.rename("old", "new").unwrap();
    // As a start does that follows a kill.
    writer.rename("old", "new").unwrap();
    let wanted = DeadLetterCounts { waiting: 2, retried: 1, ..Default::default() };
    for _ in 0..2 {
        assert_eq!((letters.counts("new", 0, EVERYTHING), letters.waiting("old")), (wanted, 0));
        assert_eq!(waiting(&letters, "new"), [1, 2, 4]);
        let (again, _writer) = bench.with(&bench.bytes()).open();
        assert_eq!((again.counts("new", 0, EVERYTHING), waiting(&again, "new")), (wanted, vec![1, 2, 4]));
        assert_readable(&again, "new");
        writer.rewrite_now().unwrap();
    }
}

#[test]
fn letters_are_taken_while_the_file_is_written_anew() {
    let bench = Bench::new();
    let (letters, mut writer) = bench.open();
    park(&mut writer, "lake", 1..=300).unwrap();
    park(&mut writer, "bus", 1..=10).unwrap();
    writer.resolve("lake", (1..=200).collect(), Fate::Dropped).unwrap();
    assert!(!writer.try_rewrite_piece().unwrap() || writer.rewrite.is_none());
    // One piece is all of so small a file: by hand, what comes between two of a large one.
    let mut rewrite = super::rewrite::Rewrite::begin(&writer).unwrap();
    assert!(rewrite.piece(&mut writer).unwrap());
    park(&mut writer, "lake", 301..=310).unwrap();
    writer.resolve("lake", vec![250, 305], Fate::Retried).unwrap();
    writer.rename("bus", "queue").unwrap();
    assert!(rewrite.piece(&mut writer).unwrap());
    rewrite.finish(&mut writer).map_err(io::Error::from).unwrap();
    let expected: Vec<u64> = (201..=310).filter(|sequence| ![250, 305].contains(sequence)).collect();
    let (again, _writer) = bench.with(&bench.bytes()).open();
    for letters in [&letters, &again] {
        assert_eq!(waiting(letters, "lake"), expected);
        assert_eq!(waiting(letters, "queue"), (1..=10).collect::<Vec<_>>());
        assert_readable(letters, "lake");
        assert_readable(letters, "queue");
        let counts = letters.counts("lake", 0, EVERYTHING);
        assert_eq!((counts.waiting, counts.dropped, counts.retried), (108, 200, 2));
    }
    assert_eq!(letters.size(), bench.bytes().len() as u64);
    park(&mut writer, "lake", [400]).unwrap();
    let (again, _writer) = bench.with(&bench.bytes()).open();
    assert_eq!(again.waiting("lake"), 109);
}

/// What was answered Ok is there when the process is killed, whichever call failed before.
#[test]
fn whichever_call_fails_what_was_answered_is_there() {
    let mut at = 0;
    loop {
        let bench = small();
        let disk = FailingDisk::new(at);
        let mut answered: BTreeSet<u64> = [3, 4, 5].into();
        let mut noted = false;
        if let Ok((_, mut writer)) = bench.open_on(Arc::new(disk.clone())) {
            for sequence in 6..=9 {
                if park(&mut writer, "lake", [sequence]).is_ok() {
                    answered.insert(sequence);
                }
                let _ = writer.rewrite_now();
            }
            // Where it failed it may be noted all the same.
            answered.remove(&3);
            noted = writer.resolve("lake", vec![3], Fate::Dropped).is_ok();
        }
        let (letters, _writer) = bench.open();
        let found: BTreeSet<u64> = waiting(&letters, "lake").into_iter().collect();
        assert!(
            answered.is_subset(&found),
            "call {at} ({:?}): {answered:?} were answered, {found:?} wait",
            disk.failed()
        );
        assert!(!noted || !found.contains(&3), "call {at}: what was noted is forgotten");
        assert_readable(&letters, "lake");
        assert_eq!(bench.damaged_total(), 0, "call {at} ({:?})", disk.failed());
        if disk.failed().is_none() {
            break;
        }
        at += 1;
    }
    assert!(at > 30, "{at} calls are not all of it");
}

#[test]
fn of_those_of_all_sinks_those_behind_one_come_by_sink_and_sequence() {
    let bench = small();
    let (letters, _writer) = bench.open();
    let page = |sink: Option<&str>, after: Option<(&str, u64)>| {
        let after = after.map(|(sink, sequence)| (sink.to_owned(), sequence));
        let found = letters.after(sink, after.as_ref(), 3, |_| true);
        found.into_iter().map(|(sink, sequence, _)| format!("{sink} {sequence}")).collect::<Vec<_>>()
    };
    assert_eq!(page(None, None), ["bus 256", "bus 257", "bus 258"]);
    assert_eq!(page(None, Some(("bus", 258))), ["bus 259", "lake 3", "lake 4"]);
    assert_eq!(page(None, Some(("ibis", 1))), ["lake 3", "lake 4", "lake 5"]);
    assert_eq!(page(Some("lake"), Some(("bus", 258))), ["lake 3", "lake 4", "lake 5"]);
    assert_eq!(page(Some("bus"), Some(("lake", 3))), [""; 0]);
    assert_eq!(letters.newest("lake", 2).iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [5, 4]);
}

#[test]
fn one_letter_more_or_less_than_was_noted_is_not_accounted_for() {
    let counts = DeadLetterCounts { waiting: 1, retried: 2, forwarded: 3, dropped: 4, damaged: 0 };
    assert_eq!([9, 10, 11].map(|noted| counts.unaccounted(noted)), [1, 0, 1]);
    // Each of the damaged may have been sent again.
    let counts = DeadLetterCounts { damaged: 2, ..counts };
    assert_eq!([9, 10, 11, 12, 13].map(|noted| counts.unaccounted(noted)), [1, 0, 0, 0, 1]);
}

#[test]
fn what_is_behind_a_position_and_a_letter_already_is_known() {
    let bench = Bench::new();
    let (letters, mut writer) = bench.open();
    assert_eq!(park(&mut writer, "lake", [3, 5, 7, 9]).unwrap(), 4);
    writer.resolve("lake", vec![7], Fate::Dropped).unwrap();
    writer.resolve("lake", vec![9], Fate::Damaged).unwrap();
    for _ in 0..2 {
        assert_eq!(letters.above("lake", 3), BTreeSet::from([5, 7]), "the record of a damaged letter is sent again");
        assert_eq!(letters.above("lake", 7), BTreeSet::new());
        assert_eq!(letters.above("other", 0), BTreeSet::new());
        writer.rewrite_now().unwrap();
    }
    writer.restart("lake").unwrap();
    assert_eq!(letters.above("lake", 3), BTreeSet::new(), "of an earlier life of the sink");
}
