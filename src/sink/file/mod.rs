//! A file of lines, one per record: appended in groups, one fdatasync for each group, rotated by size and by time.
//!
//! The relay is the file's only writer and holds an advisory lock (flock) on it. A record counts as delivered after the
//! fdatasync that covers it has returned. What a failed write left behind is cut off again, and so is, at start, a last
//! line without a line feed: the power went while it was written, it was never confirmed, and it is sent again.

mod appender;
mod files;
mod gzip;
mod place;

pub use place::Shared;

use super::lines::Writer;
use super::{InvalidSetting, Order, SendError, Sink};
use crate::route::Outgoing;
use appender::Appender;
use bytesize::ByteSize;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Owner writes, group reads, nobody else: records hold what users put into their sandboxes' metadata.
const MODE: u32 = 0o640;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Records appended to a file, one per line.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The file. Made with mode 0640 when it is not there; its folder must exist. Moved or removed by another program
    /// (logrotate, without `copytruncate`), it is made anew at the next record or SIGHUP.
    #[schemars(extend("format" = "path"))]
    pub path: PathBuf,
    /// When a record counts as delivered: `always` after an fdatasync (one for all the records that wait), `never` when
    /// the kernel has it, so that a power cut may take confirmed records.
    pub fsync: Fsync,
    /// Before the file would grow over this size it is renamed to `<path>.000001`, then `.000002` and so on, a higher
    /// number being newer, and a new one is begun. Default: never. One record larger than this has a file of its own.
    #[schemars(with = "Option<String>", extend("format" = "size"))]
    pub rotate_size: Option<ByteSize>,
    /// Rotated before the first record in a further period of this length, such as `1d` or `1h`; periods are counted from
    /// 1970 on in UTC, so that a day's begins at midnight. Whole seconds. Default: never. With `rotate_size`, whichever
    /// comes first.
    #[serde(with = "humantime_serde::option")]
    #[schemars(with = "Option<String>", extend("format" = "duration"))]
    pub rotate_every: Option<Duration>,
    /// Whether rotated files are compressed, to `<path>.000001.gz`, in the background.
    pub compress: Compress,
    /// How many rotated files are kept, compressed or not; the oldest are deleted. Default: all.
    pub keep: Option<usize>,
}

/// When a record is on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// After an fdatasync.
    #[default]
    Always,
    /// When the kernel sees fit.
    Never,
}

/// How rotated files are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// As they are.
    #[default]
    None,
    /// As gzip (RFC 1952).
    Gzip,
}

impl Settings {
    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let invalid = |key: &str, message: &str| Err(InvalidSetting::new(key, message));
        if self.path.as_os_str().is_empty() {
            return invalid("path", "is required: the file to append to");
        }
        if self.path.file_name().is_none() {
            return invalid("path", "does not end in a file's name");
        }
        if self.rotate_size == Some(ByteSize::b(0)) {
            return invalid("rotate_size", "must be more than 0; leave it out to never rotate");
        }
        if self.rotate_every.is_some_and(|every| every.is_zero() || every.subsec_nanos() > 0) {
            return invalid("rotate_every", "must be whole seconds, at least one; leave it out to never rotate");
        }
        let rotates = self.rotate_size.is_some() || self.rotate_every.is_some();
        let idle = "has no effect without rotate_size or rotate_every; set one of them too, or leave it out";
        match self.keep {
            Some(_) if !rotates => return invalid("keep", idle),
            Some(0) => return invalid("keep", "must be 1 or more: at 0 each file would be deleted when it is full"),
            _ => {}
        }
        if self.compress != Compress::None && !rotates { invalid("compress", idle) } else { Ok(()) }
    }
}

/// Appends to the file from a thread of its own.
#[derive(Debug)]
pub struct File {
    writer: Writer,
}

impl File {
    /// Starts the threads; the file is opened when it is first written to. An error is that of a thread.
    pub fn new(settings: &Settings) -> io::Result<Self> {
        Self::with_clock(settings, Arc::new(SystemTime::now))
    }

    /// The same by another clock.
    pub fn with_clock(settings: &Settings, clock: Clock) -> io::Result<Self> {
        Ok(Self { writer: Writer::start(Appender::new(settings.clone(), clock)?)? })
    }
}

impl Sink for File {
    fn order(&self) -> Order {
        Order::Pipelined
    }

    /// Changes nothing: neither makes the file nor mends it.
    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>> {
        Box::pin(self.writer.probe())
    }

    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        self.writer.send(&outgoing)
    }

    fn reopen(&self) {
        self.writer.reopen();
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.writer.close())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        let path = PathBuf::from("/var/lib/audit.ndjson");
        let fine = Settings { path, rotate_size: Some(ByteSize::mib(64)), keep: Some(3), ..Settings::default() };
        assert_eq!(fine.check(), Ok(()));
        for (settings, key) in [
            (Settings::default(), "path"),
            (Settings { path: PathBuf::from("/"), ..fine.clone() }, "path"),
            (Settings { rotate_size: Some(ByteSize::b(0)), ..fine.clone() }, "rotate_size"),
            (Settings { rotate_size: None, ..fine.clone() }, "keep"),
            (Settings { keep: Some(0), ..fine.clone() }, "keep"),
            (Settings { rotate_every: Some(Duration::ZERO), ..fine.clone() }, "rotate_every"),
            (Settings { rotate_every: Some(Duration::from_millis(1500)), ..fine.clone() }, "rotate_every"),
            (Settings { rotate_size: None, keep: None, compress: Compress::Gzip, ..fine }, "compress"),
        ] {
            assert_eq!(settings.check().unwrap_err().key, key);
        }
    }
}
