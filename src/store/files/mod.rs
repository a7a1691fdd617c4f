//! The disk as the rest sees it, and what is done with files everywhere: written anew whole, read in frames, locked; and the
//! guard that no lock is held over any of it.

pub(in crate::store) mod bytes;
pub(in crate::store) mod disk;
pub(in crate::store) mod folders;
pub(in crate::store) mod frames;
pub(in crate::store) mod guarded;
pub(in crate::store) mod lock;
pub(in crate::store) mod replace;
