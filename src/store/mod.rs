//! The durable, deduped log: a journal for the bodies, sled for the index of ids and the positions.
//!
//! ```text
//! format        the store's format number, its UUID, the key of its dedupe hash
//! lock          held by the daemon that has the store open
//! reserve       given up when the disk is full, so that positions, ids and dead letters can still be written
//! journal/      000000000001.seg …  000000000001.ids …  spare-ready
//! samples/      likewise, for metrics samples
//! seen/         one sled database per UTC day of the events' own timestamps: hashes of source and id, many in each value
//! positions/    position and counts per sink
//! meta/         sled: cursors of the backfill, replays, and other small state
//! dead-letters/ letters.log
//! quarantine/   well signed bodies that were no events
//! damaged/      bytes of the files above that were found damaged, for people to look at, and the ids that were lost with them
//! before-format-1/  a copy from before an upgrade that changed the format; see `format::migrate`
//! ```
//!
//! The journal is the truth. Why not sled for all of it: its `flush()` is `sync_file_range`, not fsync, so that a 200
//! after it would be a broken promise, and random keys beside bodies keep it from ever giving space back.
//!
//! What is durable is kept in memory for a while, too: whoever reads on as the log grows ([`TailReader`]) reads the disk only
//! where he is behind. A reader has no position: it is asked for what lies behind a sequence, and answers with the span that
//! it covers; each record has its ordinal in its log, so that whoever reads proves that nothing lies between two.
//!
//! Four workers, each with a thread: the *committer* alone writes the logs and answers; the *librarian* opens, checks and
//! rebuilds the indexes of days; the *janitor* writes ids, makes spares and removes what nobody needs; the *dead letters*
//! have one of their own. No lock is held over a call of the disk; see `files::guarded`.
//!
//! # Handles
//! [`open()`] makes them together, and whoever is outside holds no more of them than he uses: [`EventLog`] (accept, read, and
//! what is proven to be gone), [`SinkRegistry`] and its [`Claim`]s (positions), [`DeadLetters`], [`State`], [`Quarantine`].
//! One [`Engine`] has the store open and closes it. No path, segment or database is seen through them: they are the seam for
//! another engine.
//!
//! # Folders
//! | folder | has |
//! |---|---|
//! | `handles` | what is seen from outside |
//! | `log` | the journal and the samples: their format, who appends, who reads, the memory of what was appended last |
//! | `write` | the committer and its inbox, the janitor, the reserve |
//! | `dedupe` | the indexes of days and the librarian |
//! | `sinks` | which sinks are known, and their positions |
//! | `dead_letters`, `quarantine`, `state` | what an operator decides about, bodies that were no events, small state |
//! | `damage` | what is proven to be gone |
//! | `format` | the store's format and the way from an older one |
//! | `files`, `kv` | the disk, and databases: a trait, and sled behind it |
//! | `verify` | the proof that a stopped store is sound |
//! | `errors` | whatever the store answers where it does not do what it is asked |
//!
//! # Every durable write
//! "Cut" is a kill or a power cut at that call; whatever a failed call leaves is left by a cut, too. Shown by
//! `tests/store_faults` unless another test is named.
//!
//! | write | durable when | a cut before | a cut behind |
//! |---|---|---|---|
//! | a group of events or samples (`log`) | its `fdatasync` returned | dropped whole at the start, nothing was answered | read at the start; answered or not, it counts |
//! | a group that failed is voided (`log::writer`) | its `fdatasync`, before anything is written behind it in either log | it may be read at the start, and nothing stands behind it | it is none (`store_faults::voided`) |
//! | a note in the journal (`log::notes`): sinks, damage | as a group | the note before counts, whole | the new one counts, whole (`reload::renames::killed…`); one that is refused is voided as a group (`store_faults::voided`) |
//! | a segment's header | `fdatasync`, then the folder's fsync; before the first answer from it | the file is removed | an empty segment, gone on with |
//! | the ids of a sealed segment (`log::ids`) | `replace` returned | written at the next start | used to rebuild indexes; the segment may go |
//! | a spare | rename, then the folder's fsync | an unfinished file, made anew | a segment is made of it |
//! | a position (`sinks::positions`) | kill: written to the older of two files; power: that file's `fdatasync`, before a segment goes | the position before; what lies between is sent again | the new position |
//! | small state (`state`, `kv`) | its files are fsynced | the value before | the new value |
//! | an index of ids (`dedupe::day_index`, `kv`) | closed, synced, and its checksum noted in `seen/closed.json` by `replace` | checked against the journal at the start, or rebuilt | relied on |
//! | a dead letter, or what became of one (`dead_letters`) | its frame's `fdatasync`, before the position moves | torn frame dropped; the record is rejected again | it waits, or is resolved; its record is not sent besides (`again::behind_a_kill`) |
//! | the dead letters' file written anew | `replace` returned; until then the old one is gone on with | the old file | the new one (`store_faults::letters`) |
//! | a body in quarantine | its file's fsync and the folder's | not kept; nothing was promised of it | kept |
//! | `format`, and a step from an older one (`format::migrate`) | `replace` returned | the step is done again from the copy | done (`store_faults::upgrades`, `store_faults::first_version`) |
//! | damaged bytes and lost ids (`damage`) | fsync of file and folders, before the damage is noted and the ids go from the indexes | found and kept at the next start | kept once (`damaged::`, `store_faults::damage`) |
//! | the reserve | its `fdatasync` | made again | given up once the disk is full (`relay::full`, `relay::starts`) |

mod clock;
mod damage;
mod dead_letters;
mod dedupe;
mod errors;
mod files;
mod format;
#[cfg(test)]
mod fuzzing;
mod handles;
mod kv;
mod log;
mod open;
mod phase;
mod quarantine;
mod settings;
mod shared;
mod sinks;
mod state;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub use clock::{BootClock, Clock, ProviderClock, since_boot};
pub use damage::{DamagedSpan, Missing};
pub use dead_letters::{Cause, DeadLetter, DeadLetterCounts, Resolution};
pub use errors::{AttachError, OpenError, Refused};
pub use files::disk::{Disk, File, Open, RealDisk, Space};
pub use files::guarded::assert_no_lock_held;
pub use files::replace::{Failed, replace};
pub use format::migrate::{Step, Work};
pub use handles::{Claim, DeadLetters, Engine, EventLog, Handles, Quarantine, SinkRegistry, State};
pub use kv::{Bad, Database, KeyValue, OnSled, Visit};
pub use log::reader::{Mark, Reader};
pub use log::record::{Batch, End, Limits, LogKind, Ordinals, Record};
pub use log::tail_cache::TAIL;
pub use log::tail_reader::TailReader;
pub use open::{Parts, open, open_migrating};
pub use quarantine::Quarantined;
pub use settings::Settings;
pub use sinks::positions::Progress;
pub use sinks::registry::{Removed, SinkStart, Start};
pub use verify::{Proof, Sum, verify};
pub use write::inbox::Accepted;
