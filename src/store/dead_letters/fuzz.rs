//! Dead letters under random input: what is written is read, and damage costs the letter that it hits.

use super::coding::{self, SHAPE, What, decode};
use super::{Cause, DeadLetterCounts, Fate};
use crate::store::files::frames::{self, Found, Place, Scanner};
use crate::store::fuzzing::driver::{Outcome, Target};
use crate::store::fuzzing::{Memory, damage, drawn, text};
use bytes::Bytes;
use fastrand::Rng;

const FATES: [Fate; 4] = [Fate::Retried, Fate::Dropped, Fate::Forwarded, Fate::Damaged];

#[test]
fn letters_are_read_as_they_were_written_or_not_at_all() {
    Target { name: "letters", rounds: 1_000, minutes: 1, seeds: Vec::new() }.fuzz(letters);
}

/// An input is the content of one frame.
fn letters(input: &[u8], random: &mut Rng) -> Outcome {
    let content = Bytes::copy_from_slice(input);
    let is_whole = (SHAPE.is_whole)(&content);
    let guess = coding::guess(&[&[0; 8], input].concat());
    assert!(!guess.contains(char::is_control), "{guess:?}");
    let outcome = match decode(input) {
        Some(entry) => {
            let other = coding::of_sink(input, "other").expect("it has a sink");
            let renamed = decode(&other).expect("the same, as another sink's");
            assert_eq!((renamed.sink, renamed.sequence), ("other", entry.sequence));
            assert_eq!(format!("{:?}", renamed.what), format!("{:?}", entry.what));
            assert_eq!(
                coding::event(&content).is_some_and(|stored| stored.sequence == entry.sequence),
                is_letter(&entry.what) && is_whole
            );
            let what = format!("{:?}", entry.what).split(['(', '{', ' ']).take(2).collect::<String>();
            if is_whole { Ok(what) } else { Err(what) }
        }
        None => {
            assert!(!is_whole && coding::event(&content).is_none());
            Err(format!("{:?}", input.first()))
        }
    };
    let mut contents = vec![written_is_read(input, random)];
    contents.extend((0..random.usize(..4)).map(|_| other(input, random)));
    if is_whole && (SHAPE.may_begin)(&input[..3]) {
        contents.push(input.to_vec());
    }
    random.shuffle(&mut contents);
    a_file_of_them(&contents, random);
    outcome
}

fn is_letter(what: &What<'_>) -> bool {
    matches!(what, What::Letter(..))
}

/// A letter of some event; its content.
fn written_is_read(input: &[u8], random: &mut Rng) -> Vec<u8> {
    let stored = drawn(input, random.u64(..), random).stored;
    let (sink, now) = (text(input, random), jiff::Timestamp::from_microsecond(random.i64(-1 << 52..1 << 52)).unwrap());
    let cause = Cause { reason: text(input, random), message: text(input, random) };
    let written = coding::letter(&sink, &stored, &cause, now);
    let entry = decode(&written).expect("a letter");
    assert_eq!((entry.sink, entry.sequence), (sink.as_str(), stored.sequence));
    let What::Letter(letter, _) = entry.what else { panic!("{entry:?}") };
    assert_eq!((&letter.id, &letter.cause, letter.at), (&stored.event.id, &cause, now));
    let content = Bytes::from(written.clone());
    assert_eq!(coding::event(&content).as_ref(), Some(&stored));
    written
}

/// Anything but a letter.
fn other(input: &[u8], random: &mut Rng) -> Vec<u8> {
    let (sink, sequence) = (text(input, random), random.u64(..));
    match random.u8(..3) {
        0 => {
            let fate = FATES[random.usize(..FATES.len())];
            let written = coding::resolved(&sink, sequence, fate);
            let entry = decode(&written).expect("what became of one");
            assert!(matches!(entry.what, What::Resolved(read) if read == fate) && entry.sink == sink);
            assert_eq!(entry.sequence, sequence);
            written
        }
        1 => {
            let [retried, forwarded, dropped, damaged] = std::array::from_fn(|_| random.u64(..));
            let counts = DeadLetterCounts { waiting: 0, retried, forwarded, dropped, damaged };
            let written = coding::totals(&sink, &counts);
            let entry = decode(&written).expect("counts");
            assert!(matches!(&entry.what, What::Totals(read) if *read == counts) && entry.sink == sink);
            written
        }
        _ => {
            let written = coding::restarted(&sink);
            assert!(matches!(decode(&written).expect("a beginning").what, What::Restarted));
            written
        }
    }
}

/// They are found where they are, and what is damaged costs itself.
fn a_file_of_them(contents: &[Vec<u8>], random: &mut Rng) {
    let (mut file, mut written) = (Vec::new(), Vec::new());
    for content in contents {
        let place = Place::of(file.len() as u64, content.len());
        frames::put(&mut file, content);
        written.push((place, Bytes::from(content.clone())));
    }
    let found = scan(&file);
    assert_eq!(found, written.iter().map(|(place, content)| Found::Frame(*place, content.clone())).collect::<Vec<_>>());

    let mut damaged = file.clone();
    match random.u8(..4) {
        0 => damaged.truncate(random.usize(..file.len())),
        _ => damage(&mut damaged, random),
    }
    let found = scan(&damaged);
    let mut end = 0;
    for one in &found {
        let place = match one {
            Found::Frame(place, content) => {
                assert!(written.contains(&(*place, content.clone())), "{one:?} was never written");
                place
            }
            Found::Damaged(place) | Found::Torn(place) => place,
        };
        assert_eq!(place.start, end, "{found:?}");
        end = place.end();
    }
    assert_eq!(end, damaged.len() as u64);
    for (place, content) in &written {
        let range = place.start as usize..place.end() as usize;
        let is_hit = damaged.get(range.clone()) != Some(&file[range]);
        assert!(is_hit || found.contains(&Found::Frame(*place, content.clone())), "{place:?} was not damaged");
    }
}

fn scan(bytes: &[u8]) -> Vec<Found> {
    let file = Memory::of(bytes);
    let mut scanner = Scanner::new(&*file, bytes.len() as u64, SHAPE);
    std::iter::from_fn(|| scanner.next().unwrap()).collect()
}
