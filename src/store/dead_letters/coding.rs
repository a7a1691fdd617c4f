//! What the frames of the letters' file hold, format 2. Those of format 1 are the first five.
//!
//! ```text
//! each        kind 1 │ sink's key, behind its length 2 │ sequence 8
//! 1 letter    … │ at 8 │ reason, message, event's id, each behind its length 2 │ the event's frame
//! 2 retried, 3 dropped, 5 forwarded, 6 damaged: what became of the letter of that sequence
//! 4 renamed   … │ the key that the sink had before, behind its length 2
//! 7 totals    … │ retried 8 │ forwarded 8 │ dropped 8 │ damaged 8: so many more, each of which has no frame any more
//! 8 restarted what the sink had up to here counts no more: it begins again
//! ```

use super::{Cause, DeadLetter, DeadLetterCounts, Fate};
use crate::event::Stored;
use crate::store::files::bytes::{Reader, put_text};
use crate::store::files::frames::Shape;
use crate::store::log::frame::{self, EventFrame, Frame};
use bytes::Bytes;

const LETTER: u8 = 1;
const RETRIED: u8 = 2;
const DROPPED: u8 = 3;
const RENAMED: u8 = 4;
const FORWARDED: u8 = 5;
const DAMAGED: u8 = 6;
const TOTALS: u8 = 7;
const RESTARTED: u8 = 8;

/// Of a sink's totals, their frame included: no fewer bytes hold any letter, or numbers of some.
pub(super) const SHORTEST_COUNT: u64 = 52;

/// What a frame says.
#[derive(Debug)]
pub(super) enum What<'a> {
    /// A record that the sink will never take, and the frame of its event.
    Letter(DeadLetter, &'a [u8]),
    /// It waits no more.
    Resolved(Fate),
    /// The sink has all that it had under this key.
    Renamed { from: &'a str },
    /// So many more, each of which has no frame any more.
    Totals(DeadLetterCounts),
    /// What it had up to here counts no more.
    Restarted,
}

#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) sink: &'a str,
    pub(super) sequence: u64,
    pub(super) what: What<'a>,
}

/// What the file's contents look like.
pub(in crate::store) const SHAPE: Shape = Shape {
    shortest: 11,
    // A kind, and a key of one byte to 1,023.
    may_begin: |head| matches!(head, [LETTER..=RESTARTED, low, high] if *high < 4 && (*low, *high) != (0, 0)),
    is_whole: |content| match decode(content) {
        Some(Entry { sequence, what: What::Letter(_, event), .. }) => {
            event_of(content, event).is_some_and(|stored| stored.sequence == sequence)
        }
        entry => entry.is_some(),
    },
};

pub(super) fn decode(content: &[u8]) -> Option<Entry<'_>> {
    let mut reader = Reader(content);
    let kind = reader.u8()?;
    let (sink, sequence) = (reader.text()?, reader.u64()?);
    let what = match kind {
        LETTER => {
            let at = jiff::Timestamp::from_microsecond(reader.i64()?).ok()?;
            let cause = Cause { reason: reader.text()?.to_owned(), message: reader.text()?.to_owned() };
            let letter = DeadLetter { id: reader.text()?.to_owned(), cause, at };
            What::Letter(letter, std::mem::take(&mut reader.0))
        }
        RETRIED => What::Resolved(Fate::Retried),
        DROPPED => What::Resolved(Fate::Dropped),
        FORWARDED => What::Resolved(Fate::Forwarded),
        DAMAGED => What::Resolved(Fate::Damaged),
        RENAMED => What::Renamed { from: reader.text()? },
        TOTALS => What::Totals(DeadLetterCounts {
            waiting: 0,
            retried: reader.u64()?,
            forwarded: reader.u64()?,
            dropped: reader.u64()?,
            damaged: reader.u64()?,
        }),
        RESTARTED => What::Restarted,
        _ => return None,
    };
    reader.0.is_empty().then_some(Entry { sink, sequence, what })
}

/// The event in a letter's content.
fn event_of(content: &Bytes, event: &[u8]) -> Option<Stored> {
    match frame::take(&mut content.slice_ref(event))? {
        Frame::Event(event) => Some(event.stored),
        Frame::Control(_) => None,
    }
}

/// The event of a letter.
pub(super) fn event(content: &Bytes) -> Option<Stored> {
    match decode(content)?.what {
        What::Letter(_, event) => event_of(content, event),
        _ => None,
    }
}

fn begin(kind: u8, sink: &str, sequence: u64) -> Vec<u8> {
    let mut content = vec![kind];
    put_text(&mut content, sink);
    content.extend_from_slice(&sequence.to_le_bytes());
    content
}

pub(super) fn letter(sink: &str, stored: &Stored, cause: &Cause, now: jiff::Timestamp) -> Vec<u8> {
    let mut content = begin(LETTER, sink, stored.sequence);
    content.extend_from_slice(&now.as_microsecond().to_le_bytes());
    put_text(&mut content, &cause.reason);
    put_text(&mut content, &cause.message);
    put_text(&mut content, &stored.event.id);
    frame::put_event(&mut content, &EventFrame { stored: stored.clone(), hash: 0, replaces: None });
    content
}

pub(super) fn resolved(sink: &str, sequence: u64, fate: Fate) -> Vec<u8> {
    let kind = match fate {
        Fate::Retried => RETRIED,
        Fate::Dropped => DROPPED,
        Fate::Forwarded => FORWARDED,
        Fate::Damaged => DAMAGED,
    };
    begin(kind, sink, sequence)
}

/// As version 0.1.0 wrote it; since then a sink keeps its key.
#[cfg(test)]
pub(super) fn renamed(from: &str, to: &str) -> Vec<u8> {
    let mut content = begin(RENAMED, to, 0);
    put_text(&mut content, from);
    content
}

pub(super) fn totals(sink: &str, counts: &DeadLetterCounts) -> Vec<u8> {
    let mut content = begin(TOTALS, sink, 0);
    for count in [counts.retried, counts.forwarded, counts.dropped, counts.damaged] {
        content.extend_from_slice(&count.to_le_bytes());
    }
    content
}

pub(super) fn restarted(sink: &str) -> Vec<u8> {
    begin(RESTARTED, sink, 0)
}

/// The same letter as that sink's, which may have had another key when it was written.
pub(super) fn of_sink(content: &[u8], sink: &str) -> Option<Vec<u8>> {
    let mut reader = Reader(content);
    let kind = reader.u8()?;
    reader.text()?;
    let mut renamed = vec![kind];
    put_text(&mut renamed, sink);
    renamed.extend_from_slice(reader.0);
    Some(renamed)
}

/// What damaged bytes seem to have been, for people: nothing vouches for it.
pub(super) fn guess(bytes: &[u8]) -> String {
    let content = bytes.get(crate::store::files::frames::PREFIX as usize..).unwrap_or_default();
    let mut reader = Reader(content);
    let (kind, sink, sequence) = (reader.u8(), reader.text(), reader.u64());
    let (Some(sink), Some(sequence)) = (sink, sequence) else { return "nothing that can be read".to_owned() };
    let sink = sink.escape_debug();
    match kind {
        Some(LETTER) => format!("letter {sequence} of sink {sink}, which is lost"),
        Some(RETRIED | DROPPED | FORWARDED) => {
            format!("what became of letter {sequence} of sink {sink}, which waits again")
        }
        _ => "nothing that can be read".to_owned(),
    }
}
