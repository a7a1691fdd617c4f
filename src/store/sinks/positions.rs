//! How far each sink is: in memory, and in three small files that are written in turn.
//!
//! ```text
//! positions/0, 1, 2    magic 8 │ generation 8 │ length 4 │ CRC-32C 4 │ JSON: the log's end, and each sink's progress by its key
//! ```
//! The sound one with the highest generation counts. One that was synced is not written to before another is, and of the
//! other two the older is: so a power cut leaves the last that was synced at least, and a killed process the last but one that
//! was written.
//!
//! A position that is lost repeats a send and never skips one, so that a sync is needed only before a segment goes. The
//! log's end stands beside them as a witness: if the log is shorter when it is next opened, part of it is gone.

use crate::store::files::bytes::Reader;
use crate::store::files::disk::{Disk, File, Open};
use crate::store::files::guarded::{Guard, Guarded, Turns};
use crate::store::log::record::{End, Ordinals};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"E2BRPOS1";
const HEADER: usize = 24;
const SLOTS: usize = 3;

/// How far a sink is, and what became of the records up to there.
///
/// [`Self::ordinals`] together − [`Self::accepted_before`] = `delivered` + `filtered` + `dead_lettered` + `damaged`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The sink gets events with a sequence greater than this, and the counts begin there.
    pub base: u64,
    /// Events that the store had accepted up to `base`, so that the counts can be proven from the journal.
    pub accepted_before: u64,
    /// Every event up to this sequence is settled.
    pub position: u64,
    /// Records of each log up to there.
    #[serde(default)]
    pub ordinals: Ordinals,
    /// Confirmed by the peer.
    pub delivered: u64,
    /// Not wanted by the sink.
    pub filtered: u64,
    /// Put among the dead letters.
    pub dead_lettered: u64,
    /// Gone from the log before the sink had them, as was proven.
    #[serde(default)]
    pub damaged: u64,
    /// The last position at which the counts added up.
    #[serde(default)]
    pub accounted_through: u64,
}

impl Progress {
    /// What became of the records, all of it.
    pub fn settled(&self) -> u64 {
        self.delivered + self.filtered + self.dead_lettered + self.damaged
    }

    /// Records up to the position of which is not known what became of them, or that were counted twice. Always 0.
    pub fn unaccounted(&self) -> u64 {
        self.ordinals.sum().saturating_sub(self.accepted_before).abs_diff(self.settled())
    }
}

/// What is in a file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::store) struct Content {
    pub(in crate::store) end: End,
    /// Not so in what the step from format 1 left: the ordinals of the positions are still to be counted.
    pub(in crate::store) counted: bool,
    pub(in crate::store) sinks: BTreeMap<String, Progress>,
}

pub(in crate::store) struct Positions {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    memory: Guarded<Memory>,
    slots: Turns<Slots>,
}

struct Memory {
    end: End,
    sinks: BTreeMap<String, Progress>,
    /// Positions as of the last sync that succeeded.
    durable: BTreeMap<String, u64>,
    closed: bool,
}

#[derive(Default)]
struct Slots {
    files: [Option<Arc<dyn File>>; SLOTS],
    generation: u64,
    written: Option<usize>,
    synced: Option<usize>,
}

/// What was found in the folder.
pub(in crate::store) struct Found {
    pub(in crate::store) content: Content,
    /// Something was there, and none of it is sound: it has been moved aside.
    pub(in crate::store) lost: bool,
}

impl Positions {
    /// Reads what is there. Only what is there and proven not sound is moved aside; whatever else goes wrong is an error.
    pub(in crate::store) fn open(disk: Arc<dyn Disk>, folder: PathBuf) -> io::Result<(Self, Found)> {
        disk.create_dir_all(&folder)?;
        let (mut slots, mut best, mut torn) = (Slots::default(), None::<Content>, Vec::new());
        for index in 0..SLOTS {
            let path = folder.join(index.to_string());
            let file = match disk.open(&path, Open::Existing) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            // What a killed process left in the cache may not be on disk yet, or never will be.
            file.sync_and_reread()?;
            match read(&*file)? {
                Some((generation, content)) if best.is_none() || generation > slots.generation => {
                    (slots.generation, slots.synced) = (generation, Some(index));
                    best = Some(content);
                }
                Some(_) => {}
                None if file.length()? > 0 => torn.push(path),
                None => {}
            }
            if let Some(place) = slots.files.get_mut(index) {
                *place = Some(file);
            }
        }
        // One file may be torn, or two; there is another that was synced before.
        let lost = best.is_none() && !torn.is_empty();
        if lost {
            slots = Slots::default();
            let aside = aside(&*disk, &folder, &torn)?;
            tracing::error!(
                kept = %aside.display(),
                "the positions are damaged, all copies of them: moved aside; sinks repeat what they had since their birth"
            );
        }
        slots.written = slots.synced;
        let content = best.unwrap_or(Content { counted: true, ..Content::default() });
        let durable = content.sinks.iter().map(|(key, progress)| (key.clone(), progress.position)).collect();
        let memory = Memory { end: content.end, sinks: content.sinks.clone(), durable, closed: false };
        let positions = Self { disk, folder, memory: Guarded::new(memory), slots: Turns::new(slots) };
        Ok((positions, Found { content, lost }))
    }

    fn memory(&self) -> Guard<'_, Memory> {
        self.memory.lock()
    }

    /// How far a sink is, by its key.
    pub(in crate::store) fn get(&self, key: &str) -> Option<Progress> {
        self.memory().sinks.get(key).copied()
    }

    pub(in crate::store) fn all(&self) -> BTreeMap<String, Progress> {
        self.memory().sinks.clone()
    }

    /// Not in a file before [`Self::write`].
    pub(in crate::store) fn set(&self, key: &str, progress: Progress) {
        self.memory().sinks.insert(key.to_owned(), progress);
    }

    /// Keeps only those of these keys; in the files with the next [`Self::write`].
    pub(in crate::store) fn retain(&self, keys: impl Fn(&str) -> bool) {
        let mut memory = self.memory();
        memory.sinks.retain(|key, _| keys(key));
        memory.durable.retain(|key, _| keys(key));
    }

    /// The log has come to here.
    pub(in crate::store) fn witness(&self, end: End) {
        self.memory().end = end;
    }

    /// The sequence up to which the sink's events may go, by what is on disk for good.
    pub(in crate::store) fn durable(&self, key: &str) -> u64 {
        self.memory().durable.get(key).copied().unwrap_or(0)
    }

    /// Hands what was noted to the system, so that a killed process loses none of it (a power cut may).
    pub(in crate::store) fn write(&self) -> io::Result<()> {
        self.put(false)
    }

    /// Puts everything on disk for good.
    pub(in crate::store) fn sync(&self) -> io::Result<()> {
        self.put(true)
    }

    /// The same, and whatever comes later is refused.
    pub(in crate::store) fn close(&self) -> io::Result<()> {
        let put = self.put(true);
        self.memory().closed = true;
        put
    }

    fn put(&self, durably: bool) -> io::Result<()> {
        let content = self.slots.take(|slots| {
            let (content, closed) = {
                let Memory { end, sinks, closed, .. } = &*self.memory();
                (Content { end: *end, counted: true, sinks: sinks.clone() }, *closed)
            };
            if closed {
                return Err(io::Error::other("the store is closed"));
            }
            slots.put(&*self.disk, &self.folder, &content, durably).map(|()| content)
        })?;
        if durably {
            let mut memory = self.memory();
            for (key, progress) in content.sinks {
                if memory.sinks.contains_key(&key) {
                    memory.durable.insert(key, progress.position);
                }
            }
        }
        Ok(())
    }
}

impl Slots {
    fn put(&mut self, disk: &dyn Disk, folder: &Path, content: &Content, durably: bool) -> io::Result<()> {
        let free = |index: &usize| Some(*index) != self.synced && Some(*index) != self.written;
        let index = (0..SLOTS).find(free).unwrap_or_default();
        let file = match self.files.get(index).cloned().flatten() {
            Some(file) => file,
            None => {
                let file = disk.open(&folder.join(index.to_string()), Open::Either)?;
                disk.sync_dir(folder)?;
                file
            }
        };
        if let Some(place) = self.files.get_mut(index) {
            *place = Some(Arc::clone(&file));
        }
        self.generation += 1;
        file.write_all_at(&encode(self.generation, content)?, 0)?;
        self.written = Some(index);
        if durably {
            file.sync_data()?;
            self.synced = Some(index);
        }
        Ok(())
    }
}

/// Puts `content` into a folder where no positions are yet, on disk for good.
pub(in crate::store) fn create(disk: &dyn Disk, folder: &Path, content: &Content) -> io::Result<()> {
    disk.create_dir_all(folder)?;
    let bytes = encode(1, content)?;
    let file = disk.open(&folder.join("0"), Open::Either)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()?;
    disk.sync_dir(folder)
}

/// What a stopped daemon left, changing nothing; `None` where nothing sound is there.
pub(in crate::store) fn peek(disk: &dyn Disk, folder: &Path) -> io::Result<Option<Content>> {
    let mut best: Option<(u64, Content)> = None;
    for index in 0..SLOTS {
        let file = match disk.open(&folder.join(index.to_string()), Open::Existing) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let found = read(&*file)?;
        if found.as_ref().map(|(generation, _)| *generation) > best.as_ref().map(|(generation, _)| *generation) {
            best = found;
        }
    }
    Ok(best.map(|(_, content)| content))
}

fn encode(generation: u64, content: &Content) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(content)?;
    let mut bytes = Vec::with_capacity(HEADER + json.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &json);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

/// `None` where it is not sound.
fn read(file: &dyn File) -> io::Result<Option<(u64, Content)>> {
    let mut bytes = vec![0; file.length()? as usize];
    let length = file.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(decode(&bytes))
}

fn decode(bytes: &[u8]) -> Option<(u64, Content)> {
    let mut reader = Reader(bytes);
    let magic: [u8; 8] = reader.array()?;
    let (generation, length, crc) = (reader.u64()?, reader.u32()? as usize, reader.u32()?);
    let json = reader.0.get(..length)?;
    let computed = crc32c::crc32c_append(crc32c::crc32c(bytes.get(..HEADER - 4)?), json);
    if magic != MAGIC || computed != crc {
        return None;
    }
    Some((generation, serde_json::from_slice(json).ok()?))
}

/// Moves files into a folder of their own beside `folder`, never over what was moved aside before.
fn aside(disk: &dyn Disk, folder: &Path, files: &[PathBuf]) -> io::Result<PathBuf> {
    let to = crate::store::files::folders::free_name(folder);
    disk.create_dir_all(&to)?;
    for file in files {
        disk.rename(file, &to.join(file.file_name().unwrap_or_default()))?;
    }
    disk.sync_dir(&to)?;
    disk.sync_dir(folder)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::disk::RealDisk;

    fn open(folder: &Path) -> (Positions, Found) {
        Positions::open(Arc::new(RealDisk), folder.join("positions")).unwrap()
    }

    fn progress(position: u64) -> Progress {
        Progress { base: 3, accepted_before: 3, position, delivered: position - 3, ..Progress::default() }
    }

    #[test]
    fn they_survive_and_count_as_durable_only_once_synced() {
        let folder = tempfile::tempdir().unwrap();
        {
            let (positions, found) = open(folder.path());
            assert!(!found.lost);
            positions.set("lake", progress(10));
            assert_eq!(positions.durable("lake"), 0);
            positions.sync().unwrap();
            assert_eq!(positions.durable("lake"), 10);
            for position in 11..20 {
                positions.set("lake", progress(position));
                positions.write().unwrap();
            }
            assert_eq!(positions.durable("lake"), 10);
        }
        let (positions, _) = open(folder.path());
        assert_eq!(positions.get("lake"), Some(progress(19)));
        assert_eq!(positions.durable("lake"), 19, "what is read at the start is on disk");
        positions.retain(|key| key != "lake");
        positions.close().unwrap();
        assert!(positions.write().is_err(), "nothing is written behind the end");
        let (positions, _) = open(folder.path());
        assert_eq!(positions.get("lake"), None);
    }

    #[test]
    fn whichever_file_is_torn_the_last_one_that_was_synced_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (positions, _) = open(folder.path());
        positions.set("lake", progress(10));
        positions.sync().unwrap();
        for position in 11..20 {
            positions.set("lake", progress(position));
            positions.write().unwrap();
            let synced = positions.slots.take(|slots| slots.synced.unwrap());
            let read = |index: usize| std::fs::read(folder.path().join("positions").join(index.to_string())).ok();
            assert_eq!(decode(&read(synced).unwrap()).unwrap().1.sinks["lake"].position, 10);
            let sound = (0..SLOTS).filter_map(|index| decode(&read(index)?)).map(|(_, all)| all.sinks["lake"].position);
            assert_eq!(sound.max(), Some(position));
        }
    }

    #[test]
    fn what_is_damaged_is_kept_each_time_and_what_is_not_to_be_had_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("positions");
        for round in 0..2 {
            std::fs::create_dir_all(&files).unwrap();
            std::fs::write(files.join("1"), format!("round {round}")).unwrap();
            let (positions, found) = open(folder.path());
            assert!(found.lost && positions.all().is_empty());
        }
        for (round, name) in ["positions.bad", "positions.bad-1"].into_iter().enumerate() {
            let kept = std::fs::read(folder.path().join(name).join("1")).unwrap();
            assert_eq!(kept, format!("round {round}").as_bytes());
        }
        std::fs::create_dir_all(files.join("1")).unwrap();
        assert!(Positions::open(Arc::new(RealDisk), files.clone()).is_err());
        assert!(files.join("1").is_dir());
    }
}
