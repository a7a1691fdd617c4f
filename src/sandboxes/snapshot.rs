//! A set on disk: one file, replaced as a whole.

use super::set::Set;
use crate::store::{RealDisk, replace};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Rises when a kept set cannot be read by an older version, or the other way round.
const FORMAT: u32 = 1;

#[derive(Deserialize)]
struct Kept {
    format: u32,
    set: Set,
}

#[derive(Serialize)]
struct Keep<'s> {
    format: u32,
    set: &'s Set,
}

/// What was kept; `None` where nothing was, or nothing that can be read.
pub(super) fn load(file: &Path) -> Option<Set> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %file.display(), %error, "the live set cannot be read: it is made anew from the provider's list");
            return None;
        }
    };
    match serde_json::from_slice::<Kept>(&text) {
        Ok(kept) if kept.format == FORMAT => Some(kept.set),
        Ok(kept) => {
            tracing::warn!(path = %file.display(), format = kept.format, "the live set is of another version: it is made anew from the provider's list");
            None
        }
        Err(error) => {
            tracing::warn!(path = %file.display(), %error, "the live set is damaged: it is made anew from the provider's list");
            None
        }
    }
}

pub(super) fn encode(set: &Set) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Keep { format: FORMAT, set })?)
}

/// On disk for good when this returns; a crash leaves the old one or the new one.
pub(super) fn save(file: &Path, text: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    Ok(replace(&RealDisk, file, text)?)
}
