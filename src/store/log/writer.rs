//! What the committer alone writes a log with: a log is an append-only row of segments, the journal and likewise the samples.

use super::frame::{self, Frame};
use super::ids::{self, Id};
use super::notes::{Control, Notes};
use super::record::LogKind;
use super::scan::{Scan, scan};
use super::segment::{self, Cursor, ENVELOPE, Envelope, FORMAT, HEADER, Header, Step};
use super::segments::{Segment, Segments, id_of};
use crate::sometimes;
use crate::store::files::disk::{Disk, File, Open};
use crate::store::files::guarded::Guarded;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Room for what a segment notes of the sinks before its first event.
const NOTES: u64 = 4096;

/// Where a log lies and how it grows.
#[derive(Clone)]
pub(in crate::store) struct Place {
    pub(in crate::store) disk: Arc<dyn Disk>,
    pub(in crate::store) dir: PathBuf,
    pub(in crate::store) kind: LogKind,
    /// At which length a segment is full.
    pub(in crate::store) segment_size: u64,
}

/// What is ready to be appended as one group.
#[derive(Default)]
pub(in crate::store) struct Draft {
    /// Frames, behind room for the envelope.
    pub(in crate::store) buffer: Vec<u8>,
    pub(in crate::store) ids: Vec<Id>,
    /// When the last of them was received, Unix microseconds.
    pub(in crate::store) last_received: i64,
}

impl Draft {
    pub(in crate::store) fn new() -> Self {
        Self { buffer: vec![0; ENVELOPE], ids: Vec::new(), last_received: 0 }
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.buffer.len() <= ENVELOPE
    }
}

/// What [`Log::open`] found.
#[derive(Default)]
pub(in crate::store) struct Found {
    /// The newest note of each kind.
    pub(in crate::store) notes: Notes,
    /// Files that were set aside since their header is damaged.
    pub(in crate::store) damaged: u64,
}

pub(in crate::store) struct Log {
    place: Place,
    pub(in crate::store) segments: Arc<Segments>,
    active: Option<Active>,
    last_number: u64,
    /// Events ever accepted into this log.
    events: u64,
    /// Where a group may lie that failed.
    failed: Option<(Arc<Segment>, u64)>,
}

struct Active {
    segment: Arc<Segment>,
    next_group: u64,
}

impl Log {
    /// Recovers what is there; makes the first segment where there is none.
    pub(in crate::store) fn open(place: Place, now: jiff::Timestamp) -> io::Result<(Self, Found)> {
        place.disk.create_dir_all(&place.dir)?;
        let mut found = Found::default();
        let headers = read_headers(&place, &mut found)?;
        let segments = Arc::new(Segments::default());
        let mut log = Self { place, segments, active: None, last_number: 0, events: 0, failed: None };
        let mut headers = headers.into_iter().peekable();
        while let Some((header, path, file)) = headers.next() {
            log.last_number = header.number;
            let next = headers.peek().map(|(next, ..)| next.clone());
            log.adopt(header, path, file, next.as_ref(), &mut found)?;
        }
        // Where the newest is of an older format, the first group begins the next.
        if log.segments.snapshot().is_empty() {
            log.start_segment(1, &[], now, None)?;
        }
        if found.notes.sinks.is_none() {
            found.notes = log.last_notes()?;
        }
        Ok((log, found))
    }

    /// Takes a segment that was found into the list; the newest is read to its end.
    fn adopt(
        &mut self,
        header: Header,
        path: PathBuf,
        file: Arc<dyn File>,
        next: Option<&Header>,
        found: &mut Found,
    ) -> io::Result<()> {
        let length = file.length()?;
        let follows = next.filter(|next| next.previous_number == header.number);
        let segment = Arc::new(Segment {
            durable: AtomicU64::new(follows.map_or(length, |next| next.previous_length.min(length))),
            last_sequence: AtomicU64::new(
                next.map_or(header.first_sequence, |next| next.first_sequence).saturating_sub(1),
            ),
            last_ordinal: AtomicU64::new(next.map_or(header.events_before, |next| next.events_before)),
            last_received: AtomicI64::new(next.map_or(header.created_at, |next| next.created_at)),
            allocated: AtomicU64::new(length),
            sealed: AtomicBool::new(next.is_some()),
            ids_written: AtomicBool::new(
                ids::summary(&*self.place.disk, &ids_path(&self.place, header.number))
                    .is_ok_and(|there| there.is_some()),
            ),
            ids: Guarded::default(),
            header,
            path,
            file,
        });
        self.segments.push(Arc::clone(&segment));
        if next.is_none() {
            self.recover_newest(segment, length, found)?;
        }
        Ok(())
    }

    /// Finds the end of the newest segment: behind its last sound group. An incomplete last group is dropped whole.
    fn recover_newest(&mut self, segment: Arc<Segment>, length: u64, found: &mut Found) -> io::Result<()> {
        let mut ids = Vec::new();
        let Scan { end, next_group, events, last_sequence, last_received, .. } =
            scan(&segment, length, |frame| match frame {
                Frame::Control(note) => found.notes.take(note),
                Frame::Event(event) => ids.push(id_of(&event)),
            })?;
        self.events = events;
        *segment.ids.lock() = ids;
        segment.last_sequence.store(last_sequence, Ordering::Release);
        segment.last_ordinal.store(events, Ordering::Release);
        segment.last_received.store(last_received.unwrap_or(segment.header.created_at), Ordering::Release);
        segment.durable.store(end, Ordering::Release);
        self.place.disk.sync_dir(&self.place.dir)?;
        // What an older version began is not gone on with.
        self.active = (segment.header.format == FORMAT).then_some(Active { segment, next_group });
        Ok(())
    }

    /// The notes in the segments before the newest, which begins with them unless it is damaged.
    fn last_notes(&self) -> io::Result<Notes> {
        for segment in self.segments.snapshot().iter().rev() {
            let mut notes = Notes::default();
            scan(segment, segment.durable(), |frame| {
                if let Frame::Control(note) = frame {
                    notes.take(note);
                }
            })?;
            if notes.sinks.is_some() {
                return Ok(notes);
            }
        }
        Ok(Notes::default())
    }

    /// Records up to the end of what is on disk.
    pub(in crate::store) fn events(&self) -> u64 {
        self.events
    }

    /// That there were so many records is proven, though the last of them are gone: their ordinals are not given again.
    pub(in crate::store) fn there_were(&mut self, events: u64) {
        if events > self.events {
            self.events = events;
            // The next group would say that more came before it than this segment holds; it begins a new one.
            self.active = None;
        }
    }

    /// The highest sequence in it, 0 when it never had one.
    pub(in crate::store) fn last_sequence(&self) -> u64 {
        self.segments.snapshot().iter().map(|segment| segment.last_sequence()).max().unwrap_or(0)
    }

    /// Whether a group of `length` bytes needs a segment that is not there yet.
    pub(in crate::store) fn needs_segment(&self, length: usize) -> bool {
        self.active.as_ref().is_none_or(|active| {
            let used = active.segment.durable();
            used > HEADER && used + length as u64 > self.place.segment_size
        })
    }

    /// How far a group of `length` bytes goes beyond a segment's size: one that is alone in its segment may be larger.
    pub(in crate::store) fn excess(&self, length: usize) -> u64 {
        let active = self.active.as_ref().filter(|_| !self.needs_segment(length));
        let used = active.map_or(HEADER + NOTES, |active| active.segment.durable());
        (used + length as u64).saturating_sub(self.place.segment_size)
    }

    /// Ends the active segment and begins the next, from `spare` where there is one. Nothing may be answered from it
    /// before this returns. `notes` are what the new segment shall begin with. Returns the one that is ended.
    pub(in crate::store) fn start_segment(
        &mut self,
        next_sequence: u64,
        notes: &[Control],
        now: jiff::Timestamp,
        spare: Option<PathBuf>,
    ) -> io::Result<Option<Arc<Segment>>> {
        let newest = self.segments.snapshot().into_iter().next_back();
        let header = Header {
            format: FORMAT,
            log: self.place.kind.code(),
            number: self.last_number + 1,
            generation: fastrand::u64(..),
            first_sequence: next_sequence,
            events_before: self.events,
            previous_number: newest.as_ref().map_or(0, |segment| segment.header.number),
            previous_length: newest.as_ref().map_or(0, |segment| segment.durable()),
            created_at: now.as_microsecond(),
        };
        // Counted up even if what follows fails: a half-made file of this number may be there. Should its header be on
        // disk, it has ended the segment before: nothing more may be appended to that one.
        self.last_number = header.number;
        self.active = None;
        let path = self.place.dir.join(file_name(header.number));
        let file = match spare {
            Some(spare) => {
                sometimes::happened("a segment of a spare");
                self.place.disk.rename(&spare, &path)?;
                self.place.disk.open(&path, Open::Existing)?
            }
            None => self.place.disk.open(&path, Open::New)?,
        };
        let mut front = header.encode();
        if !notes.is_empty() {
            let mut group = vec![0; ENVELOPE];
            notes.iter().for_each(|note| frame::put_control(&mut group, note));
            segment::seal_group(&mut group, &envelope(&header, 0, next_sequence, header.events_before, 0));
            front.extend_from_slice(&group);
        }
        file.write_all_at(&front, 0)?;
        file.sync_data()?;
        self.place.disk.sync_dir(&self.place.dir)?;
        let segment = Arc::new(Segment {
            durable: AtomicU64::new(front.len() as u64),
            last_sequence: AtomicU64::new(next_sequence.saturating_sub(1)),
            last_ordinal: AtomicU64::new(header.events_before),
            last_received: AtomicI64::new(header.created_at),
            allocated: AtomicU64::new(file.length()?),
            sealed: AtomicBool::new(false),
            ids_written: AtomicBool::new(false),
            ids: Guarded::default(),
            header,
            path,
            file,
        });
        if let Some(newest) = &newest {
            newest.sealed.store(true, Ordering::Release);
        }
        self.segments.push(Arc::clone(&segment));
        self.active = Some(Active { segment, next_group: 1 });
        // It says where the one before ends.
        self.failed = None;
        Ok(newest)
    }

    /// Sees to it that a group that failed does not turn up behind a crash. To be called before anything is written that
    /// comes behind it, in any log: whoever had that would be past a record that he never got.
    pub(in crate::store) fn void(&mut self) -> io::Result<()> {
        let Some((segment, offset)) = &self.failed else { return Ok(()) };
        if segment.file.length()? > *offset {
            segment.file.write_all_at(&[0; 8], *offset)?;
            segment.file.sync_data()?;
            sometimes::happened("a group that failed and is voided");
        }
        self.failed = None;
        Ok(())
    }

    /// Appends one group and syncs it. On an error nothing of it counts, and a new segment must be started before
    /// anything else is appended, since the page cache no longer tells what is on disk.
    pub(in crate::store) fn append(&mut self, mut draft: Draft, first_sequence: u64) -> io::Result<()> {
        let active = self.active.take().ok_or_else(|| io::Error::other("the log has no segment to append to"))?;
        let Active { segment, next_group } = active;
        let count = draft.ids.len() as u32;
        segment::seal_group(
            &mut draft.buffer,
            &envelope(&segment.header, next_group, first_sequence, self.events, count),
        );
        let offset = segment.durable();
        self.failed = Some((Arc::clone(&segment), offset));
        segment.file.write_all_at(&draft.buffer, offset)?;
        segment.file.sync_data()?;
        let end = offset + draft.buffer.len() as u64;
        self.failed = None;
        if let Some(last) = draft.ids.last() {
            segment.last_sequence.store(last.sequence, Ordering::Release);
            segment.last_received.store(draft.last_received, Ordering::Release);
        }
        self.events += u64::from(count);
        segment.last_ordinal.store(self.events, Ordering::Release);
        segment.allocated.fetch_max(end, Ordering::Relaxed);
        segment.ids.lock().append(&mut draft.ids);
        segment.durable.store(end, Ordering::Release);
        self.active = Some(Active { segment, next_group: next_group + 1 });
        Ok(())
    }
}

fn envelope(header: &Header, number: u64, first_sequence: u64, events_before: u64, count: u32) -> Envelope {
    Envelope { generation: header.generation, number, first_sequence, events_before, count }
}

pub(in crate::store) fn file_name(number: u64) -> String {
    format!("{number:012}.seg")
}

pub(in crate::store) fn ids_path(place: &Place, number: u64) -> PathBuf {
    place.dir.join(ids::file_name(number))
}

/// The number in a name such as `000000000007.seg`.
pub(in crate::store) fn number_of(name: &str, extension: &str) -> Option<u64> {
    name.strip_suffix(extension)?.strip_suffix('.')?.parse().ok()
}

type FoundSegment = (Header, PathBuf, Arc<dyn File>);

/// Reads every segment's header, oldest first. A header is torn only where the process ended while it was written,
/// before anything was answered from that segment: such a file goes. One whose header is broken although groups
/// follow it is damage, and is set aside.
fn read_headers(place: &Place, found: &mut Found) -> io::Result<Vec<FoundSegment>> {
    let mut headers = Vec::new();
    for (name, _) in place.disk.list(&place.dir)? {
        let Some(number) = number_of(&name, "seg") else { continue };
        let path = place.dir.join(&name);
        let file = place.disk.open(&path, Open::Existing)?;
        // A killed process leaves pages behind that are not on disk yet, or never will be; what is relied on must be.
        file.sync_and_reread()?;
        match Header::read(&*file)? {
            Some(header) if header.number == number && header.log == place.kind.code() => {
                headers.push((header, path, file))
            }
            _ if holds_events(&file)? => {
                found.damaged += 1;
                set_aside(&*place.disk, &path)?;
            }
            _ => {
                sometimes::happened("a segment whose header is torn");
                place.disk.remove(&path)?;
            }
        }
    }
    headers.sort_by_key(|(header, ..)| header.number);
    remove_abandoned(place, headers)
}

/// A segment that a later one does not name as its predecessor was begun and given up, since it could not be synced:
/// nothing in it was ever answered.
fn remove_abandoned(place: &Place, headers: Vec<FoundSegment>) -> io::Result<Vec<FoundSegment>> {
    let mut kept: Vec<FoundSegment> = Vec::with_capacity(headers.len());
    for (header, path, file) in headers.into_iter().rev() {
        if kept.last().is_some_and(|(next, ..)| next.previous_number < header.number) {
            sometimes::happened("a segment that was given up");
            place.disk.remove(&path)?;
        } else {
            kept.push((header, path, file));
        }
    }
    kept.reverse();
    Ok(kept)
}

pub(in crate::store) fn holds_events(file: &Arc<dyn File>) -> io::Result<bool> {
    let length = file.length()?;
    for offset in (HEADER..length.min(HEADER + 64 * 1024)).step_by(8) {
        let mut head = [0; ENVELOPE];
        file.read_at(&mut head, offset)?;
        let Some(generation) = head.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes) else {
            continue;
        };
        for format in 1..=FORMAT {
            let mut cursor = Cursor::new(Arc::clone(file), &Header { format, generation, ..Header::default() });
            cursor.offset = offset;
            if let Step::Group(group) = cursor.step(length)?
                && group.count > 0
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Renames a damaged file so that it is kept for people and seen by nothing else.
fn set_aside(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".damaged");
    disk.rename(path, &path.with_file_name(name))
}
