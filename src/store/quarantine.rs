//! Copies of bodies that were well signed and yet no events, for people to look at. Bounded; the oldest go first.
//!
//! ```text
//! 00001754513976000000-acme.reason   why it was refused, as the sender was told
//! 00001754513976000000-acme.body     the body itself; the number is when it came, in microseconds since 1970
//! ```

use super::files::guarded::{Guarded, assert_no_lock_held};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

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

/// Any number may be kept, read and removed at once: the list of them is behind a lock, their files are not.
pub(super) struct Copies {
    dir: PathBuf,
    list: Guarded<List>,
    /// Of the bodies.
    bytes: AtomicU64,
}

struct List {
    kept: BTreeMap<i64, Quarantined>,
    /// Their room is taken already.
    being_kept: usize,
    last_id: i64,
}

impl Copies {
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
        let bytes = AtomicU64::new(kept.values().map(|one| one.length).sum());
        let last_id = kept.keys().next_back().copied().unwrap_or(0);
        Ok(Self { dir, list: Guarded::new(List { kept, being_kept: 0, last_id }), bytes })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps a copy. Not synced: nothing was promised for it.
    pub(super) fn keep(&self, source: &str, reason: &str, body: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        let length = body.len() as u64;
        let (id, surplus) = {
            let mut list = self.list.lock();
            list.being_kept += 1;
            self.bytes.fetch_add(length, Ordering::Relaxed);
            // Ids rise whatever the clock does, so that sorting by them is sorting by age.
            list.last_id = now.as_microsecond().max(list.last_id + 1);
            (list.last_id, self.surplus(&mut list))
        };
        let reason = reason.get(..reason.floor_char_boundary(MAX_REASON as usize)).unwrap_or_default();
        let one = Quarantined { id, source: source.to_owned(), reason: reason.to_owned(), length };
        let written = self.remove_files(surplus).and_then(|()| {
            assert_no_lock_held();
            std::fs::write(self.dir.join(one.file(REASON)), reason)?;
            std::fs::write(self.dir.join(one.file(BODY)), body)
        });
        let mut list = self.list.lock();
        list.being_kept -= 1;
        match written {
            Ok(()) => drop(list.kept.insert(one.id, one)),
            Err(_) => drop(self.bytes.fetch_sub(length, Ordering::Relaxed)),
        }
        written
    }

    /// Takes out the oldest while there are too many.
    fn surplus(&self, list: &mut List) -> Vec<Quarantined> {
        let mut surplus = Vec::new();
        while list.kept.len() + list.being_kept > MAX_COUNT || self.bytes() > MAX_BYTES {
            let Some((_, oldest)) = list.kept.pop_first() else { break };
            self.bytes.fetch_sub(oldest.length, Ordering::Relaxed);
            surplus.push(oldest);
        }
        surplus
    }

    /// Those whose files cannot be removed are put back.
    fn remove_files(&self, taken: Vec<Quarantined>) -> io::Result<()> {
        let mut taken = taken.into_iter();
        while let Some(one) = taken.next() {
            for ending in [BODY, REASON] {
                assert_no_lock_held();
                match std::fs::remove_file(self.dir.join(one.file(ending))) {
                    Ok(()) => {}
                    // Somebody tidied up by hand.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        std::iter::once(one).chain(taken).for_each(|one| self.put(one));
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn put(&self, one: Quarantined) {
        self.bytes.fetch_add(one.length, Ordering::Relaxed);
        self.list.lock().kept.insert(one.id, one);
    }

    fn take(&self, id: i64) -> Option<Quarantined> {
        let taken = self.list.lock().kept.remove(&id)?;
        self.bytes.fetch_sub(taken.length, Ordering::Relaxed);
        Some(taken)
    }

    /// The oldest first: at most `limit` that are `wanted`, behind `after`.
    pub(super) fn after(
        &self,
        after: Option<i64>,
        limit: usize,
        wanted: impl Fn(&Quarantined) -> bool,
    ) -> Vec<Quarantined> {
        let list = self.list.lock();
        let behind = list.kept.values().filter(|one| after.is_none_or(|after| one.id > after));
        behind.filter(|one| wanted(one)).take(limit).cloned().collect()
    }

    /// One with its body, if it is there.
    pub(super) fn read(&self, id: i64) -> io::Result<Option<(Quarantined, Vec<u8>)>> {
        let Some(one) = self.list.lock().kept.get(&id).cloned() else { return Ok(None) };
        assert_no_lock_held();
        match std::fs::read(self.dir.join(one.file(BODY))) {
            // Somebody gave it up a moment ago.
            Err(_) if !self.list.lock().kept.contains_key(&id) => Ok(None),
            body => Ok(Some((one, body?))),
        }
    }

    /// Whether it was there. One whose files cannot be removed stays.
    pub(super) fn remove(&self, id: i64) -> io::Result<bool> {
        let Some(one) = self.take(id) else { return Ok(false) };
        self.remove_files(vec![one]).map(|()| true)
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

    fn all(quarantine: &Copies) -> Vec<Quarantined> {
        quarantine.after(None, usize::MAX, |_| true)
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = Copies::open(folder.path().into()).unwrap();
        for index in 0..MAX_COUNT + 5 {
            quarantine.keep("acme", "why", index.to_string().as_bytes(), now()).unwrap();
        }
        quarantine.keep("acme", &"é".repeat(2000), &vec![b'x'; MAX_BYTES as usize - 10], now()).unwrap();
        let reopened = Copies::open(folder.path().into()).unwrap();
        assert!(reopened.bytes() <= MAX_BYTES, "{}", reopened.bytes());
        assert_eq!(reopened.bytes(), quarantine.bytes());
        assert_eq!(all(&reopened), all(&quarantine));
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            2 * all(&reopened).len(),
            "nothing is left behind"
        );
    }

    #[test]
    fn what_is_kept_can_be_read_and_dropped_and_its_id_is_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = Copies::open(folder.path().into()).unwrap();
        for body in ["a", "b", "c"] {
            quarantine.keep("my_source", "no object", body.as_bytes(), now()).unwrap();
        }
        // Of an earlier version, which kept no reason; and what is nobody's.
        std::fs::write(folder.path().join("00000000000000000007-old.body"), "old").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "x").unwrap();
        let quarantine = Copies::open(folder.path().into()).unwrap();
        let all = all(&quarantine);
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
        assert_eq!(
            quarantine.after(Some(all[2].id), 9, |_| true).iter().map(|one| one.id).collect::<Vec<_>>(),
            [last + 1]
        );
    }
}
