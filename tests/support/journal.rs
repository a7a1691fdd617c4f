//! The journal of a stopped daemon as bytes: its groups, and what takes something of it away.
#![cfg(test)]

use super::daemon::Home;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::path::PathBuf;

/// What each group begins with.
const MAGIC: &[u8] = b"GRP2";
/// Bytes of an envelope before its frames, and where in it the count of events and the length of the frames stand.
const ENVELOPE: usize = 48;
const COUNT: usize = 4;
const LENGTH: usize = 40;

/// A group with events in it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    segment: PathBuf,
    /// Where its envelope begins.
    offset: usize,
    /// Its frames, in which ids and bodies stand as they came.
    frames: Vec<u8>,
}

/// The journal's segments, oldest first.
pub(crate) fn segments(home: &Home) -> Vec<PathBuf> {
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(home.path().join("data/journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|ending| ending == "seg"));
    segments.sort();
    assert!(!segments.is_empty());
    segments
}

/// Every group of the journal that holds an event, oldest first.
pub(crate) fn groups(home: &Home) -> Vec<Group> {
    let groups: Vec<Group> = segments(home).into_iter().flat_map(groups_of).collect();
    assert!(!groups.is_empty());
    groups
}

fn groups_of(segment: PathBuf) -> Vec<Group> {
    let bytes = std::fs::read(&segment).unwrap();
    let number = |place: usize| u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap()) as usize;
    let mut found = Vec::new();
    let mut offset = 0;
    while offset + ENVELOPE <= bytes.len() {
        if &bytes[offset..offset + MAGIC.len()] != MAGIC {
            offset += 8;
            continue;
        }
        let (begin, end) = (offset + ENVELOPE, offset + ENVELOPE + number(offset + LENGTH));
        if number(offset + COUNT) > 0 {
            found.push(Group { segment: segment.clone(), offset, frames: bytes[begin..end].to_vec() });
        }
        offset = end.next_multiple_of(8);
    }
    found
}

impl Group {
    /// Those of `ids` whose events are in it.
    pub(crate) fn holds(&self, ids: &[String]) -> BTreeSet<String> {
        let text = String::from_utf8_lossy(&self.frames);
        ids.iter().filter(|id| text.contains(id.as_str())).cloned().collect()
    }

    /// One bit of its frames is another.
    pub(crate) fn flip(&self) {
        let mut bytes = std::fs::read(&self.segment).unwrap();
        bytes[self.offset + ENVELOPE + self.frames.len() / 2] ^= 1;
        std::fs::write(&self.segment, bytes).unwrap();
    }

    /// The segment ends before it.
    pub(crate) fn cut(&self) {
        let segment = OpenOptions::new().write(true).open(&self.segment).unwrap();
        segment.set_len(self.offset as u64).unwrap();
    }

    pub(crate) fn is_in(&self, segment: &PathBuf) -> bool {
        &self.segment == segment
    }
}
