//! Whether there is room for a group, and what is said of it while there is none.

use super::committer::{Committer, failed};
use super::sweep;
use crate::logging::Occasional;
use crate::sometimes;
use crate::store::errors::Refused;
use crate::store::log::frame;
use crate::store::shared::{Claim, Shared};
use tokio::time::Instant;

/// A refusal is lifted once a group of so many bytes fits; with less, every other delivery would still be refused.
const USEFUL_ROOM: usize = 64 * 1024;
/// How often room is made before a group is refused: the janitor may take for a spare what was made free, or be about to free
/// the same.
const ROOM_TRIES: u32 = 4;

/// What was logged of them: each refused group may have a reason in other words.
#[derive(Default)]
pub(in crate::store) struct Refusals {
    said: Occasional,
    /// A line says that deliveries are refused, and none that they are accepted again.
    told: bool,
}

impl Committer {
    /// Whether a group may be written: the disk has `min_free` left, and the log stays within its size. The room that it
    /// needs is taken for as long as the claim is kept, or until it is there.
    pub(super) fn check_room<'a>(
        &self,
        shared: &'a Shared,
        events: bool,
        length: usize,
    ) -> Result<Option<Claim<'a>>, Refused> {
        let space = shared.disk.space(&shared.settings.path).map_err(|error| failed(&error))?;
        if space.free < shared.min_free + length as u64 {
            return Err(Refused::Full(format!(
                "{} bytes are free on its disk, and store.min_free is {}",
                space.free, shared.min_free
            )));
        }
        let (log, share) = if events { (&self.events, &shared.events) } else { (&self.samples, &shared.samples) };
        let needs_segment = log.needs_segment(length);
        let of_segment = if needs_segment && share.spare().is_none() {
            share.place.segment_size
        } else if !needs_segment && events && self.unclaimed {
            share.unfilled()
        } else {
            0
        };
        let wanted = log.excess(length) + of_segment;
        if wanted == 0 {
            return Ok(None);
        }
        for _ in 0..ROOM_TRIES {
            if let Some(claim) = shared.claim(events, wanted, wanted) {
                return Ok(Some(claim));
            }
            sweep::make_room(shared, events, wanted).map_err(|error| failed(&error))?;
        }
        if let Some(claim) = shared.claim(events, wanted, wanted) {
            return Ok(Some(claim));
        }
        sometimes::happened("a refusal for want of room");
        let setting = if events { "store.max_size" } else { "store.max_samples_size" };
        Err(Refused::Full(format!("{setting} is reached, and what is left is still unsent")))
    }

    /// While nothing comes, a refusal is lifted once its cause is gone, so that readiness returns by itself.
    pub(super) fn look_at_the_disk(&mut self) {
        let refusing = self.shared.refusing.borrow().is_some();
        if refusing && self.check_room(&self.shared, true, USEFUL_ROOM).is_ok() {
            self.note(None);
        }
    }

    /// Tells whoever watches whether events are accepted. That the store is being closed stays said.
    pub(super) fn note(&mut self, refused: Option<Refused>) {
        let today = frame::day_of(self.shared.now());
        let refused = refused.or_else(|| [today, today - 1].iter().find_map(|day| self.unavailable.get(day)).cloned());
        let changed = self.shared.refusing.send_if_modified(|now| {
            let changed = *now != refused && *now != Some(Refused::Draining);
            if changed {
                now.clone_from(&refused);
            }
            changed
        });
        let Refusals { said, told } = &mut self.refusals;
        match refused {
            Some(error) => {
                if let Some(suppressed) = said.pass(Instant::now()) {
                    tracing::error!(%error, suppressed, "deliveries are refused");
                    *told = true;
                }
            }
            None if changed && std::mem::take(told) => tracing::info!("deliveries are accepted again"),
            None => {}
        }
    }
}
