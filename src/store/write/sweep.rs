//! What may go: segments that every sink is past, for good, and that are old, or whose room is wanted.

use crate::store::files::disk::Open;
use crate::store::log::ids_path;
use crate::store::shared::{LogShare, Shared};
use std::io;
use std::sync::atomic::Ordering;

/// Removes the oldest segments that may go: those older than the retention, and as many more as `wanted` bytes need. The
/// ids of an event stay in their file for as long as they must be remembered. The committer and the janitor may both want
/// room: each segment is removed by whoever takes it out of the list.
pub(super) fn make_room(shared: &Shared, events: bool, wanted: u64) -> io::Result<()> {
    let share = if events { &shared.events } else { &shared.samples };
    let kept_since = shared.now().checked_sub(shared.settings.retention).unwrap_or(jiff::Timestamp::MIN);
    let is_sane = shared.clock_is_sane();
    for segment in share.segments.snapshot() {
        let old = is_sane && segment.last_received() < kept_since.as_microsecond();
        let complete = segment.sealed.load(Ordering::Acquire) && segment.ids_written.load(Ordering::Acquire);
        let may_stay = !old && shared.has_room(events, wanted);
        if !complete || may_stay || !is_settled(shared, segment.last_sequence())? {
            break;
        }
        if !share.segments.remove(segment.header.number) {
            continue;
        }
        share.place.disk.remove(&segment.path)?;
        if !events {
            // Samples are deduped by the last one per sandbox, not by their ids.
            remove_ids(share, segment.header.number)?;
        }
    }
    Ok(())
}

/// Whether every sink is past a sequence, by what is on disk for good: positions are put there only when that is asked.
fn is_settled(shared: &Shared, sequence: u64) -> io::Result<bool> {
    if shared.settled_by_all() < sequence && shared.settled_by_all_in_memory() >= sequence {
        shared.reserve.write(|| shared.positions.sync())?;
    }
    Ok(shared.settled_by_all() >= sequence)
}

pub(super) fn remove_ids(share: &LogShare, number: u64) -> io::Result<()> {
    let path = ids_path(&share.place, number);
    let length = share.place.disk.open(&path, Open::Existing)?.length()?;
    share.place.disk.remove(&path)?;
    share.ids_bytes.fetch_sub(length, Ordering::Relaxed);
    Ok(())
}
