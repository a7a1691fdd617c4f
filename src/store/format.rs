//! The file `format`: which format the store has, whose it is, and the key of its dedupe hash.

use super::open::OpenError;
use super::segment::FORMAT;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::Path;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Format {
    format: u32,
    /// The store's UUID; `relay.instance` in records.
    pub(super) instance: String,
    /// Drawn at random, so that nobody outside can make two ids collide.
    pub(super) hash_key: [u8; 16],
}

/// Reads the file, or writes it, durably, into a folder that holds no store yet.
pub(super) fn open(path: &Path) -> Result<Format, OpenError> {
    let file = path.join("format");
    match std::fs::read(&file) {
        Ok(text) => check(&file, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if path.join("journal").exists() {
                return Err(OpenError::Format(format!(
                    "{} is missing, yet there is a journal beside it; put the file back from a backup",
                    file.display()
                )));
            }
            create(path, &file).map_err(|error| OpenError::io(&file, error))
        }
        Err(error) => Err(OpenError::io(&file, error)),
    }
}

/// Reads the file of a store that is there.
pub(super) fn read(path: &Path) -> Result<Format, OpenError> {
    let file = path.join("format");
    let text = std::fs::read(&file).map_err(|error| OpenError::io(&file, error))?;
    check(&file, &text)
}

fn check(file: &Path, text: &[u8]) -> Result<Format, OpenError> {
    let format: Format = serde_json::from_slice(text)
        .map_err(|error| OpenError::Format(format!("{} cannot be read: {error}", file.display())))?;
    if format.format > FORMAT {
        return Err(OpenError::Format(format!(
            "{} has format {}, and this version knows formats up to {FORMAT}; use the version that wrote it, or a newer one",
            file.display(),
            format.format
        )));
    }
    Ok(format)
}

fn create(path: &Path, file: &Path) -> std::io::Result<Format> {
    let format = Format {
        format: FORMAT,
        instance: uuid::Uuid::new_v4().to_string(),
        hash_key: *uuid::Uuid::new_v4().as_bytes(),
    };
    let temporary = path.join("format.new");
    let mut out = std::fs::File::create(&temporary)?;
    out.write_all(&serde_json::to_vec(&format)?)?;
    out.sync_all()?;
    std::fs::rename(&temporary, file)?;
    std::fs::File::open(path)?.sync_all()?;
    Ok(format)
}
