//! Locks that nobody holds while he waits for the disk: whoever is on a runtime's thread, and the committer, may wait for
//! one of them, and must not wait for the disk with it.
//!
//! In a debug build each thread counts what it holds, and every call of the disk looks at that count, so that a test which
//! comes by a lock held over such a call fails.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// A mutex for what is in memory alone.
#[derive(Debug, Default)]
pub(in crate::store) struct Guarded<T>(Mutex<T>);

impl<T> Guarded<T> {
    pub(in crate::store) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// A holder that panicked left the value as it was; there is nothing better to go on with.
    pub(in crate::store) fn lock(&self) -> Guard<'_, T> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { value, _held: Held::new() }
    }
}

/// The lock while it is held.
pub(in crate::store) struct Guard<'a, T> {
    value: MutexGuard<'a, T>,
    _held: Held,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// What one thread at a time works with on the disk. Whoever waits for it may wait for the disk: never on a runtime's thread.
pub(in crate::store) struct Turns<T> {
    /// `None` while somebody has it; the lock is held only to take it and to give it back.
    free: Mutex<Option<T>>,
    back: Condvar,
}

impl<T> Turns<T> {
    pub(in crate::store) fn new(value: T) -> Self {
        Self { free: Mutex::new(Some(value)), back: Condvar::new() }
    }

    /// Does `work` with it, once it is there.
    pub(in crate::store) fn take<R>(&self, work: impl FnOnce(&mut T) -> R) -> R
    where
        T: Default,
    {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let value = loop {
            match free.take() {
                Some(value) => break value,
                None => free = self.back.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(free);
        let mut turn = Turn { turns: self, value };
        work(&mut turn.value)
    }
}

/// Gives back what was taken, also where the work panics.
struct Turn<'a, T: Default> {
    turns: &'a Turns<T>,
    value: T,
}

impl<T: Default> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let value = std::mem::take(&mut self.value);
        *self.turns.free.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        self.turns.back.notify_one();
    }
}

struct Held;

impl Held {
    fn new() -> Self {
        if cfg!(debug_assertions) {
            HELD.set(HELD.get() + 1);
        }
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.set(HELD.get().saturating_sub(1));
        }
    }
}

/// What every call of the disk begins with. In a debug build it panics while the thread holds a lock of the store.
pub fn assert_no_lock_held() {
    debug_assert!(
        !cfg!(debug_assertions) || std::thread::panicking() || HELD.get() == 0,
        "a lock of the store is held over a call of the disk"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::disk::{Disk, RealDisk};

    #[test]
    #[should_panic(expected = "a lock of the store is held")]
    fn a_lock_held_over_a_call_of_the_disk_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Guarded::new(());
        let held = lock.lock();
        let _ = RealDisk.list(folder.path());
        drop(held);
    }

    #[test]
    fn one_that_was_given_back_is_held_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Guarded::new(1);
        *lock.lock() += 1;
        let (one, two) = (lock.lock(), Guarded::new(2));
        drop((two.lock(), one));
        RealDisk.list(folder.path()).unwrap();
        assert_eq!(*lock.lock(), 2);
    }
}
