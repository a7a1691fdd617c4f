//! What the appender and the compressor share: what failed, folders, and the names of rotated files.

use crate::sink::{Reason, Scope, SendError};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a compressed file's name ends with.
pub(super) const GZIP: &str = "gz";
/// And while it is written.
pub(super) const PART: &str = "gz.part";

/// What failed, in words that name the path, and the system's error.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub(super) struct Failure {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl From<Failure> for SendError {
    /// Everything a file system complains of may heal, and every record would meet it.
    fn from(failure: Failure) -> Self {
        let denied =
            matches!(failure.source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
        let reason = if denied { Reason::Auth } else { Reason::Other };
        Self::Retry { scope: Scope::Sink, reason, message: failure.to_string() }
    }
}

pub(super) fn failure(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure { action, path, source }
}

/// The folder of `path`, `.` for a bare name.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a new or changed name in the folder of `path` durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), Failure> {
    let folder = folder(path);
    fs::File::open(folder).and_then(|open| open.sync_all()).map_err(failure("sync", folder))
}

/// What there is of one number.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Rotated {
    pub(super) plain: Option<PathBuf>,
    /// Whole: it got this name when it was.
    pub(super) compressed: Option<PathBuf>,
    /// What a compression that was cut short has left, or one that is under way.
    pub(super) part: Option<PathBuf>,
}

/// The rotated files of `path` by number, a higher one being newer.
pub(super) fn rotated(path: &Path) -> Result<BTreeMap<u64, Rotated>, Failure> {
    let folder = folder(path);
    let name = path.file_name().unwrap_or_default();
    let mut files: BTreeMap<u64, Rotated> = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failure("list", folder))? {
        let entry = entry.map_err(failure("list", folder))?;
        let file_name = entry.file_name();
        let Some((number, ending)) = number_and_ending(name, &file_name) else { continue };
        let place = match ending {
            "" => &mut files.entry(number).or_default().plain,
            GZIP => &mut files.entry(number).or_default().compressed,
            PART => &mut files.entry(number).or_default().part,
            _ => continue,
        };
        *place = Some(entry.path());
    }
    Ok(files)
}

/// What a rotated file of `name` has behind it in its own: its number, and nothing or one of our endings.
pub(super) fn number_and_ending<'n>(name: &OsStr, rotated: &'n OsStr) -> Option<(u64, &'n str)> {
    let rest = rotated.as_encoded_bytes().strip_prefix(name.as_encoded_bytes())?.strip_prefix(b".")?;
    let rest = std::str::from_utf8(rest).ok()?;
    let (digits, ending) = rest.split_once('.').unwrap_or((rest, ""));
    let is_ours = digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_ours && ["", GZIP, PART].contains(&ending)).then_some((digits.parse().ok()?, ending))
}

/// The name of a rotated file.
pub(super) fn numbered(path: &Path, number: u64) -> PathBuf {
    with_ending(path, &format!("{number:06}"))
}

pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Deletes all but the `keep` newest, compressed or not.
pub(super) fn prune(path: &Path, keep: usize) -> Result<(), Failure> {
    let files = rotated(path)?;
    // A part alone is no file that is kept.
    let kept = |files: &&Rotated| files.plain.is_some() || files.compressed.is_some();
    let surplus = files.values().filter(kept).count().saturating_sub(keep);
    for files in files.values().filter(kept).take(surplus) {
        for path in [&files.plain, &files.compressed].into_iter().flatten() {
            remove(path)?;
        }
    }
    Ok(())
}

/// Deletes a file that may have gone already.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failure("delete", path)(error)),
        _ => Ok(()),
    }
}
