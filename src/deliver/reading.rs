//! What a delivery reads of the log: from where it is, in pieces that are proven to join.
//!
//! The position of the reading is held here and nowhere else: the store is asked for what lies behind it, and whether that
//! comes from memory or from the disk makes no difference. A piece that does not join is read once more from the disk without
//! anything that was kept of earlier readings; if it still does not, the sink stops there until an operator says otherwise.

use super::continuity::{Item, Joined, join};
use super::status::Gap;
use super::tasks::Task;
use crate::executor::{Executor, Lost};
use crate::store::{Batch, End, EventLog, Limits, LogKind, Ordinals, Progress, TailReader};
use std::collections::VecDeque;
use std::io;

/// What is read ahead at once.
const AT_ONCE: Limits = Limits { events: 512, bytes: 4 * 1024 * 1024 };

pub(super) struct Reading {
    log: EventLog,
    executor: Executor,
    /// `None` while it is away reading the disk.
    reader: Option<TailReader>,
    pub(super) task: Option<Task<ReadAhead>>,
    /// Everything up to this sequence was read …
    after: u64,
    /// … and these are the records up to there.
    ordinals: Ordinals,
    /// Read, not yet routed.
    pub(super) buffer: VecDeque<Item>,
    /// The last piece did not join: the next is read from the disk alone.
    doubted: bool,
    /// Nor did it then.
    gap: Option<Gap>,
}

pub(super) struct ReadAhead {
    reader: TailReader,
    batch: io::Result<Batch>,
}

/// What a reading has come to.
pub(super) enum Read {
    /// There may be something in the buffer. Where the log's end was reached: that, and how many records before it are proven
    /// to be gone behind the last that is in the buffer.
    Joined(Option<(End, u64)>),
    /// It is to be read once more.
    Doubted(Gap),
    /// It was read once more: the sink stops there.
    Stopped(Gap),
    /// The disk, or a task that panicked.
    Failed(String),
}

impl Reading {
    pub(super) fn new(log: &EventLog, executor: &Executor, progress: &Progress) -> Self {
        Self {
            log: log.clone(),
            executor: executor.clone(),
            reader: Some(log.tail_reader()),
            task: None,
            after: progress.position,
            ordinals: progress.ordinals,
            buffer: VecDeque::new(),
            doubted: false,
            gap: None,
        }
    }

    /// Whether the log may hold events that were not read.
    pub(super) fn is_behind(&self, end: End) -> bool {
        end.sequence > self.after && self.gap.is_none()
    }

    /// Takes the next events from memory if they are there, else begins to read the disk.
    pub(super) fn start(&mut self) -> Option<Read> {
        let mut reader = self.reader.take()?;
        let after = self.after;
        if !self.doubted
            && let Some(batch) = reader.cached_after(after, AT_ONCE)
        {
            return Some(self.take(ReadAhead { reader, batch: Ok(batch) }));
        }
        let fresh = self.doubted.then(|| self.log.reader());
        self.task = Some(Box::pin(self.executor.call(move || {
            let batch = match fresh {
                Some(mut fresh) => fresh.read_after(after, AT_ONCE),
                None => reader.read_after(after, AT_ONCE),
            };
            ReadAhead { reader, batch }
        })));
        None
    }

    pub(super) fn ended(&mut self, result: Result<ReadAhead, Lost>) -> Read {
        match result {
            Ok(read) => self.take(read),
            Err(error) => {
                self.reader = Some(self.log.tail_reader());
                Read::Failed(error.to_string())
            }
        }
    }

    fn take(&mut self, read: ReadAhead) -> Read {
        self.reader = Some(read.reader);
        let batch = match read.batch {
            Ok(batch) => batch,
            Err(error) => return Read::Failed(error.to_string()),
        };
        let (through, is_end) = (batch.through, batch.ordinals.is_some());
        let damaged_from = |log: LogKind, first| self.log.damaged_from(log, first);
        match join(self.after, self.ordinals, batch, damaged_from) {
            Ok(Joined { items, ordinals, damaged }) => {
                (self.after, self.ordinals, self.doubted) = (through, ordinals, false);
                self.buffer.extend(items);
                Read::Joined(is_end.then_some((End { sequence: through, ordinals }, damaged)))
            }
            Err(gap) if self.doubted => {
                self.gap = Some(gap.clone());
                Read::Stopped(gap)
            }
            Err(gap) => {
                self.doubted = true;
                Read::Doubted(gap)
            }
        }
    }

    /// Goes on behind the gap, which the store has given up.
    pub(super) fn accept(&mut self, gap: &Gap) {
        self.gap.take_if(|at| at == gap);
    }

    /// Begins anew behind `progress`, which a peer keeps.
    pub(super) fn go_to(&mut self, progress: &Progress) {
        *self = Self::new(&self.log, &self.executor, progress);
    }

    /// Whether everything up to a sequence was read.
    pub(super) fn has_read(&self, sequence: u64) -> bool {
        self.after >= sequence
    }
}
