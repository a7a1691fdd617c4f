//! Copies of bodies that were well signed and yet no events, for people to look at. Bounded; the oldest go first.
//!
//! ```text
//! 00001754513976000000-acme.reason   why it was refused, as the sender was told
//! 00001754513976000000-acme.body     the body itself; the number is when it came, in microseconds since 1970
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Most copies that are kept.
const MAX_COUNT: usize = 1_000;
/// Most bytes that they take together, reasons aside.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Longest reason, in bytes.
const MAX_REASON: u64 = 1024;
const BODY: &str = "body";
const REASON: &str = "reason";

/// A copy that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Rises by arrival, and is never used twice.
    pub id: i64,
    /// The source that it came by.
    pub source: String,
    /// Why it is no event, as the sender was told.
    pub reason: String,
    /// Of the body, in bytes.
    pub length: u64,
}

impl Quarantined {
    /// When it came.
    pub fn at(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.id).unwrap_or_default()
    }

    fn file(&self, ending: &str) -> String {
        format!("{:020}-{}.{ending}", self.id, self.source)
    }
}

pub(super) struct Quarantine {
    dir: PathBuf,
    kept: BTreeMap<i64, Quarantined>,
    bytes: u64,
    last_id: i64,
}

impl Quarantine {
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let mut kept = BTreeMap::new();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((id, source)) = parse(&name) else { continue };
            let one = Quarantined { id, source, reason: String::new(), length: entry.metadata()?.len() };
            // Without one it was kept by an earlier version, or the process was killed between the two files.
            let reason = read_reason(&dir.join(one.file(REASON))).unwrap_or_default();
            kept.insert(id, Quarantined { reason, ..one });
        }
        let bytes = kept.values().map(|one| one.length).sum();
        let last_id = kept.keys().next_back().copied().unwrap_or(0);
        Ok(Self { dir, kept, bytes, last_id })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps a copy. Not synced: nothing was promised for it.
    pub(super) fn keep(&mut self, source: &str, reason: &str, body: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        let length = body.len() as u64;
        while self.kept.len() >= MAX_COUNT || (self.bytes + length > MAX_BYTES && !self.kept.is_empty()) {
            let Some(oldest) = self.kept.keys().next().copied() else { break };
            self.remove(oldest)?;
        }
        // Ids rise whatever the clock does, so that sorting by them is sorting by age.
        self.last_id = now.as_microsecond().max(self.last_id + 1);
        let reason = reason.get(..reason.floor_char_boundary(MAX_REASON as usize)).unwrap_or_default();
        let one = Quarantined { id: self.last_id, source: source.to_owned(), reason: reason.to_owned(), length };
        std::fs::write(self.dir.join(one.file(REASON)), reason)?;
        std::fs::write(self.dir.join(one.file(BODY)), body)?;
        self.bytes += length;
        self.kept.insert(one.id, one);
        Ok(())
    }

    /// The oldest first, those behind `after`.
    pub(super) fn after(&self, after: Option<i64>) -> impl Iterator<Item = &Quarantined> {
        self.kept.values().filter(move |one| after.is_none_or(|after| one.id > after))
    }

    /// One with its body, if it is there.
    pub(super) fn read(&self, id: i64) -> io::Result<Option<(Quarantined, Vec<u8>)>> {
        let Some(one) = self.kept.get(&id) else { return Ok(None) };
        Ok(Some((one.clone(), std::fs::read(self.dir.join(one.file(BODY)))?)))
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, id: i64) -> io::Result<bool> {
        let Some(one) = self.kept.get(&id) else { return Ok(false) };
        for ending in [BODY, REASON] {
            match std::fs::remove_file(self.dir.join(one.file(ending))) {
                // Somebody tidied up by hand.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        self.bytes -= one.length;
        self.kept.remove(&id);
        Ok(true)
    }
}

/// Id and source of a body's file.
fn parse(name: &str) -> Option<(i64, String)> {
    let (id, source) = name.strip_suffix(BODY)?.strip_suffix('.')?.split_once('-')?;
    Some((id.parse().ok()?, source.to_owned()))
}

fn read_reason(path: &Path) -> io::Result<String> {
    let mut reason = String::new();
    File::open(path)?.take(MAX_REASON).read_to_string(&mut reason)?;
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_754_513_976).unwrap()
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut quarantine = Quarantine::open(folder.path().into()).unwrap();
        for index in 0..MAX_COUNT + 5 {
            quarantine.keep("acme", "why", index.to_string().as_bytes(), now()).unwrap();
        }
        quarantine.keep("acme", &"é".repeat(2000), &vec![b'x'; MAX_BYTES as usize - 10], now()).unwrap();
        let reopened = Quarantine::open(folder.path().into()).unwrap();
        assert!(reopened.bytes <= MAX_BYTES, "{}", reopened.bytes);
        assert_eq!(reopened.bytes, quarantine.bytes);
        assert_eq!(reopened.kept, quarantine.kept);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            2 * reopened.kept.len(),
            "nothing is left behind"
        );
    }

    #[test]
    fn what_is_kept_can_be_read_and_dropped_and_its_id_is_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut quarantine = Quarantine::open(folder.path().into()).unwrap();
        for body in ["a", "b", "c"] {
            quarantine.keep("my_source", "no object", body.as_bytes(), now()).unwrap();
        }
        // Of an earlier version, which kept no reason; and what is nobody's.
        std::fs::write(folder.path().join("00000000000000000007-old.body"), "old").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "x").unwrap();
        let mut quarantine = Quarantine::open(folder.path().into()).unwrap();
        let all: Vec<Quarantined> = quarantine.after(None).cloned().collect();
        assert_eq!(
            all.iter().map(|one| &*one.source).collect::<Vec<_>>(),
            ["old", "my_source", "my_source", "my_source"]
        );
        assert_eq!((all[0].id, &*all[0].reason, all[1].at(), &*all[1].reason), (7, "", now(), "no object"));
        let last = all[3].id;
        assert_eq!(quarantine.read(last).unwrap(), Some((all[3].clone(), b"c".to_vec())));
        assert!(quarantine.remove(last).unwrap() && !quarantine.remove(last).unwrap());
        assert_eq!(quarantine.read(last).unwrap(), None);
        quarantine.keep("my_source", "", b"d", now()).unwrap();
        assert_eq!(quarantine.after(Some(all[2].id)).map(|one| one.id).collect::<Vec<_>>(), [last + 1]);
    }
}
