//! Where a record stands in its log, and what of the log is gone before it.

use crate::store::{LogKind, Progress, Record};

/// A record's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) log: LogKind,
    pub(super) ordinal: u64,
    /// Records before it that are proven to be gone, and that the sink passes with it.
    pub(super) gone: Gone,
}

impl Place {
    pub(super) fn new(record: &Record, gone: Gone) -> Self {
        Self { log: record.log, ordinal: record.ordinal, gone }
    }
}

/// Records that are not in the log any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// The sink did not get them.
    pub(super) damaged: u64,
    /// They were put among its dead letters before, and the process ended before its position was moved past them.
    pub(super) dead_lettered: u64,
}

impl std::ops::AddAssign for Gone {
    fn add_assign(&mut self, other: Self) {
        self.damaged += other.damaged;
        self.dead_lettered += other.dead_lettered;
    }
}

impl Gone {
    pub(super) fn count(self, progress: &mut Progress) {
        progress.damaged += self.damaged;
        progress.dead_lettered += self.dead_lettered;
    }
}
