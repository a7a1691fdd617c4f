//! e2b-relay takes E2B's signed webhook deliveries, proves them genuine, dedupes them in a durable store, and relays
//! them to Kafka, NATS, AMQP and files.
//!
//! ```text
//! deliveries ─► source/webhook ─► verify ─► decode ─┐                          ┌► deliver(kafka) ─► sink/kafka
//! events API ─► source/backfill ──────────► decode ─┼► intake ─► store ────────┼► deliver(nats)  ─► sink/nats
//! metrics API ─► source/scrape ─────────────────────┘   (dedupe + journal,     ├► deliver(amqp)  ─► sink/amqp
//!                                                        one group commit)     └► deliver(file)  ─► sink/file
//! ```
//!
//! One door in (`intake`), one ordered log, one door out per sink with its own position. Sources never know sinks,
//! sinks never know the store.
//! Nobody has the whole store: `store::open` makes its handles, and each room gets those that it uses.
//!
//! # Invariants
//! 1. No 2xx before the record is in the journal and `fdatasync` has returned. A duplicate is a 2xx; a store that
//!    cannot accept is a 503.
//! 2. A `Verified` body is made in `verify` only, over the raw bytes, and is the only thing a webhook can be decoded
//!    from.
//! 3. A position moves only on the broker's own confirmation. The backfill's cursor moves once per sweep, after the
//!    whole sweep was accepted.
//! 4. One stuck sink delays neither another sink nor the answer to the provider.
//! 5. Every queue, batch, body, retry delay and label set has a limit, named with its unit in the settings.
//! 6. No error is only logged: it is returned, counted, or becomes a dead letter.
//! 7. The journal is the truth; sled holds only what can be rebuilt from it, positions and cursors aside, and losing
//!    those repeats a send, never skips one.
//! 8. A sequence is never used twice. A reader never sees past the last fdatasync that returned.
//! 9. A position is held once. Whoever reads the log says from where, gets records together with the span that they cover,
//!    and proves by their ordinals that spans join; a cache of the log may make reading faster, never different.
//! 10. What is kept in two places has one that decides, a check that they agree, and a way from the first to the second.
//! 11. Opening tells *in use*, *not to be had now* and *corrupt* apart; only what is proved corrupt is moved aside, never
//!     over what was moved aside before.
//! 12. Nothing waits for a log line, a metric or a page; no lock of the store is held over a call of the disk.
//!
//! # Rooms
//! A line may import only from rooms below its own; `tests/tidy.rs` holds that, and which room each foreign crate has.
//!
//! ```text
//! secret backoff shutdown metrics logging certificate health executor sometimes systemd percent ← client
//!   ← event ← verify ← decode route ← store sink e2b ← sandboxes intake ← source deliver
//!   ← http admin simulator ← settings ← app ← cli main
//! ```

pub mod admin;
pub mod app;
pub mod backoff;
pub mod certificate;
pub mod cli;
pub mod client;
pub mod decode;
pub mod deliver;
pub mod e2b;
pub mod event;
pub mod executor;
pub mod health;
pub mod http;
pub mod intake;
pub mod logging;
pub mod metrics;
pub mod percent;
pub mod route;
pub mod sandboxes;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod simulator;
pub mod sink;
pub mod sometimes;
pub mod source;
pub mod store;
pub mod systemd;
pub mod verify;
