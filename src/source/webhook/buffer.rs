//! The memory of all bodies on their way in, bounded together.
//!
//! Whoever holds memory here has proven nothing yet. So when there is no room left, the body that has been arriving for
//! longest gives its memory up: a genuine delivery arrives within milliseconds, and is never the oldest for long, while
//! thousands of connections that trickle their bodies only push out each other.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The first piece of memory of a body, in bytes; most deliveries fit.
const FIRST_BLOCK: usize = 4 << 10;

/// Every further piece, in bytes. Pieces are never moved to grow, which would need twice the memory meanwhile.
const BLOCK: usize = 16 << 10;

/// What a body costs beside its own bytes while it arrives, in bytes: the connection's read buffers, which hold the next
/// bytes of it, and the request itself. Measured with 2,000 connections. Not counted for a body that is alone, so that
/// one body may always be as large as the bound.
const BESIDE: usize = 24 << 10;

/// The bound and who counts towards it.
pub(super) struct Buffers {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reserved: usize,
    next_ticket: u64,
    /// By age. Only those that hold memory.
    arriving: BTreeMap<u64, Holder>,
}

impl State {
    /// Whether `more` bytes for the body with `ticket` are too much beside all others.
    fn has_no_room(&self, max: usize, ticket: u64, more: usize) -> bool {
        let others = self.arriving.len() - usize::from(self.arriving.contains_key(&ticket));
        let beside = if others == 0 { 0 } else { BESIDE.saturating_mul(others + 1) };
        self.reserved.saturating_add(beside).saturating_add(more) > max
    }
}

struct Holder {
    reserved: usize,
    memory: Arc<Memory>,
}

/// Shared with [`Buffers`], so that the memory is free the moment it is given to somebody else.
struct Memory {
    /// `None` once it was given to somebody else.
    blocks: Mutex<Option<Vec<Vec<u8>>>>,
    taken: Notify,
}

/// No room for the body, or its room was given to a younger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Buffers {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, state: Mutex::default() })
    }

    /// A new body; `expected` bytes, if the sender has said so.
    pub(super) fn arriving(self: &Arc<Self>, expected: Option<usize>) -> Arriving {
        let mut state = lock(&self.state);
        state.next_ticket += 1;
        Arriving {
            buffers: Arc::clone(self),
            ticket: state.next_ticket,
            memory: Arc::new(Memory { blocks: Mutex::new(Some(Vec::new())), taken: Notify::new() }),
            expected,
            length: 0,
            reserved: 0,
        }
    }

    /// Makes room for `more` bytes of the body with `ticket`, at the expense of the oldest.
    fn reserve(&self, ticket: u64, held: usize, more: usize, memory: &Arc<Memory>) -> Result<(), NoRoom> {
        if held.saturating_add(more) > self.max {
            return Err(NoRoom);
        }
        let mut state = lock(&self.state);
        if held > 0 && !state.arriving.contains_key(&ticket) {
            return Err(NoRoom);
        }
        while state.has_no_room(self.max, ticket, more) {
            match state.arriving.pop_first() {
                Some((oldest, holder)) if oldest < ticket => {
                    state.reserved = state.reserved.saturating_sub(holder.reserved);
                    *lock(&holder.memory.blocks) = None;
                    holder.memory.taken.notify_one();
                }
                Some((oldest, holder)) => {
                    // Put back: it is this very body, or a younger one.
                    state.arriving.insert(oldest, holder);
                    return Err(NoRoom);
                }
                None => return Err(NoRoom),
            }
        }
        state.reserved += more;
        let holder = state.arriving.entry(ticket).or_insert_with(|| Holder { reserved: 0, memory: Arc::clone(memory) });
        holder.reserved += more;
        Ok(())
    }

    /// Ends the body's part; its blocks, unless they were given to somebody else.
    fn release(&self, ticket: u64) -> Option<Vec<Vec<u8>>> {
        let mut state = lock(&self.state);
        let holder = state.arriving.remove(&ticket)?;
        state.reserved = state.reserved.saturating_sub(holder.reserved);
        lock(&holder.memory.blocks).take()
    }
}

/// One body on its way in. Gives its memory back when dropped.
pub(super) struct Arriving {
    buffers: Arc<Buffers>,
    ticket: u64,
    memory: Arc<Memory>,
    expected: Option<usize>,
    length: usize,
    reserved: usize,
}

impl Arriving {
    /// Bytes that have arrived.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Returns when the memory was given to somebody else.
    pub(super) async fn taken(&self) {
        self.memory.taken.notified().await;
    }

    /// Copies `chunk`, since it is a part of the connection's own buffer, which must not stay alive for it.
    pub(super) fn push(&mut self, mut chunk: &[u8]) -> Result<(), NoRoom> {
        while !chunk.is_empty() {
            let free = self.reserved - self.length;
            if free == 0 {
                self.grow()?;
                continue;
            }
            let (now, later) = chunk.split_at_checked(free).unwrap_or((chunk, &[]));
            let mut blocks = lock(&self.memory.blocks);
            blocks.as_mut().and_then(|blocks| blocks.last_mut()).ok_or(NoRoom)?.extend_from_slice(now);
            drop(blocks);
            self.length += now.len();
            chunk = later;
        }
        Ok(())
    }

    fn grow(&mut self) -> Result<(), NoRoom> {
        let usual = if self.length == 0 { FIRST_BLOCK } else { BLOCK };
        if self.expected.is_some_and(|expected| expected > self.buffers.max) {
            return Err(NoRoom);
        }
        let announced = self.expected.map_or(usize::MAX, |expected| expected.saturating_sub(self.length));
        let possible = self.buffers.max.saturating_sub(self.reserved);
        let more = usual.min(announced).min(possible).max(1);
        self.buffers.reserve(self.ticket, self.reserved, more, &self.memory)?;
        let mut blocks = lock(&self.memory.blocks);
        let blocks = blocks.as_mut().ok_or(NoRoom)?;
        blocks.push(Vec::with_capacity(more));
        self.reserved += more;
        Ok(())
    }

    /// The whole body, which from now on does not count here any more: it is about to be verified.
    pub(super) fn finish(self) -> Result<Bytes, NoRoom> {
        if self.length == 0 {
            return Ok(Bytes::new());
        }
        let mut blocks = self.buffers.release(self.ticket).ok_or(NoRoom)?;
        match blocks.len() {
            1 => blocks.pop().map(Bytes::from).ok_or(NoRoom),
            _ => Ok(Bytes::from(blocks.concat())),
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.buffers.release(self.ticket);
    }
}

/// Nothing under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reserved(buffers: &Buffers) -> usize {
        lock(&buffers.state).reserved
    }

    #[test]
    fn a_body_comes_out_as_it_went_in_and_leaves_nothing() {
        let buffers = Buffers::new(1 << 20);
        let body: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
        let mut arriving = buffers.arriving(Some(body.len()));
        for chunk in body.chunks(777) {
            arriving.push(chunk).expect("room");
        }
        assert_eq!(reserved(&buffers), body.len(), "exactly what was announced");
        assert_eq!(arriving.finish().expect("room"), body);
        assert_eq!(reserved(&buffers), 0);
        assert_eq!(buffers.arriving(None).finish(), Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn the_oldest_gives_way_to_the_younger() {
        // Room for two of them and what they cost beside, but not for three.
        let buffers = Buffers::new(3 * 40_000 + 3 * BESIDE - 1);
        let mut bodies: Vec<Arriving> = (0..3).map(|_| buffers.arriving(Some(40_000))).collect();
        for body in bodies.iter_mut().take(2) {
            body.push(&[0; 40_000]).expect("room");
        }
        bodies[2].push(&[0; 40_000]).expect("at the expense of the first");
        bodies[0].taken().await;
        assert_eq!(bodies[0].push(&[0]), Err(NoRoom));
        assert_eq!(reserved(&buffers), 80_000);
        let mut bodies = bodies.into_iter();
        assert_eq!(bodies.next().expect("first").finish(), Err(NoRoom));
        for body in bodies {
            assert_eq!(body.finish().map(|body| body.len()), Ok(40_000));
        }
    }

    #[test]
    fn the_oldest_does_not_push_out_a_younger_one() {
        let buffers = Buffers::new(6_000);
        let (mut old, mut young) = (buffers.arriving(None), buffers.arriving(None));
        young.push(&[0; 1]).expect("room for a first block");
        assert_eq!(old.push(&[0; 1]), Err(NoRoom));
        assert_eq!(young.finish().map(|body| body.len()), Ok(1));
        assert_eq!(reserved(&buffers), 0);
    }

    #[test]
    fn a_body_larger_than_everything_pushes_nobody_out() {
        let buffers = Buffers::new(10_000);
        let (mut other, mut large) = (buffers.arriving(Some(10_000)), buffers.arriving(Some(20_000)));
        other.push(&[0; 10_000]).expect("one that is alone may be as large as the bound");
        assert_eq!(large.push(&[0; 1]), Err(NoRoom), "it would not even fit alone");
        assert_eq!(reserved(&buffers), 10_000);
        assert_eq!(other.finish().map(|body| body.len()), Ok(10_000));
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_everything_is_given_back(steps in prop::collection::vec((0usize..8, 0usize..30_000, any::<bool>()), 1..200)) {
            let max = 50_000;
            let buffers = Buffers::new(max);
            let mut bodies: Vec<Option<Arriving>> = (0..8).map(|_| None).collect();
            for (index, bytes, finish) in steps {
                let slot = &mut bodies[index];
                if finish {
                    slot.take().map(Arriving::finish);
                } else if slot.get_or_insert_with(|| buffers.arriving(None)).push(&vec![0; bytes]).is_err() {
                    *slot = None;
                }
                let state = lock(&buffers.state);
                prop_assert!(state.reserved <= max);
                let held: usize = state.arriving.values().map(|holder| holder.reserved).sum();
                prop_assert_eq!(state.reserved, held);
                let allocated: usize = bodies.iter().flatten().map(|body| lock(&body.memory.blocks).iter().flatten().map(Vec::capacity).sum::<usize>()).sum();
                prop_assert!(allocated <= state.reserved);
            }
            drop(bodies);
            prop_assert_eq!(reserved(&buffers), 0);
        }
    }
}
