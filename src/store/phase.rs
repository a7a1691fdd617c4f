//! What the store is busy with, told in the log at `trace` when it begins and when it ends. So whoever cuts the process
//! short can say what it was cut short in; while the level is off, nothing is written.

/// Work that leaves something half done on the disk while it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// Everything before the store takes its first event.
    Recovery,
    /// Writing and syncing one group.
    Commit,
    /// Ending a segment and beginning the next.
    Rotation,
    /// Putting the index of a day on disk.
    IndexFlush,
    /// Removing what need not be remembered any more.
    DayDrop,
    /// Writing and syncing dead letters.
    DeadLettering,
    /// Noting how far a sink is.
    Position,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Commit => "commit",
            Self::Rotation => "rotation",
            Self::IndexFlush => "index flush",
            Self::DayDrop => "day drop",
            Self::DeadLettering => "dead-lettering",
            Self::Position => "position",
        }
    }
}

/// Does the work, and tells of its beginning and its end.
pub(super) fn during<T>(phase: Phase, work: impl FnOnce() -> T) -> T {
    tracing::trace!(phase = phase.name(), "begins");
    let done = work();
    tracing::trace!(phase = phase.name(), "ends");
    done
}
