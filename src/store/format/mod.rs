//! The file `format`: which format the store has, whose it is, and the key of its dedupe hash.

pub(super) mod migrate;

use super::errors::OpenError;
use super::files::disk::RealDisk;
use super::files::replace::replace;
use super::log::segment::FORMAT;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Format {
    format: u32,
    /// The store's UUID; `relay.instance` in records.
    pub(super) instance: String,
    /// Drawn at random, so that nobody outside can make two ids collide.
    pub(super) hash_key: [u8; 16],
    /// The version that made the store, or brought it to this format; some of format 1 are without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    migrated: Option<Migrated>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The last step from one format to the next.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Migrated {
    /// The format before.
    pub(super) from: u32,
    /// When it began.
    pub(super) at: jiff::Timestamp,
    /// Whether it came to its end; if not, it is to be done again.
    pub(super) finished: bool,
}

impl Format {
    pub(super) fn number(&self) -> u32 {
        self.format
    }

    /// The format from which a step was begun that did not come to its end.
    pub(super) fn unfinished(&self) -> Option<u32> {
        self.migrated.filter(|migrated| !migrated.finished).map(|migrated| migrated.from)
    }

    /// Since when, and of which format, a copy is kept.
    pub(super) fn kept(&self) -> Option<Migrated> {
        self.migrated
    }

    /// The same store one format later.
    pub(super) fn to_next(&self, migrated: Migrated) -> Self {
        let version = Some(VERSION.to_owned());
        Self { format: migrated.from + 1, version, migrated: Some(migrated), ..self.clone() }
    }

    pub(super) fn finish(&mut self) {
        if let Some(migrated) = &mut self.migrated {
            migrated.finished = true;
        }
    }

    /// Puts the file into a folder, durably and in one step.
    pub(super) fn write(&self, folder: &Path) -> Result<(), OpenError> {
        let file = folder.join("format");
        let text = serde_json::to_vec(self).map_err(std::io::Error::from);
        let written = text.and_then(|text| Ok(replace(&RealDisk, &file, &text)?));
        written.map_err(|error| OpenError::io(&file, error))
    }
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
            let format = Format {
                format: FORMAT,
                instance: uuid::Uuid::new_v4().to_string(),
                hash_key: *uuid::Uuid::new_v4().as_bytes(),
                version: Some(VERSION.to_owned()),
                migrated: None,
            };
            format.write(path)?;
            Ok(format)
        }
        Err(error) => Err(OpenError::io(&file, error)),
    }
}

/// Reads the file of a store that is there, and of this version's format.
pub(super) fn read(path: &Path) -> Result<Format, OpenError> {
    let file = path.join("format");
    let text = std::fs::read(&file).map_err(|error| OpenError::io(&file, error))?;
    let format = check(&file, &text)?;
    if format.format < FORMAT || format.unfinished().is_some() {
        return Err(OpenError::Format(format!(
            "{} is not yet of format {FORMAT}, which this version reads; start its daemon on it once, or use the version that wrote it",
            file.display()
        )));
    }
    Ok(format)
}

fn check(file: &Path, text: &[u8]) -> Result<Format, OpenError> {
    let format: Format = serde_json::from_slice(text)
        .map_err(|error| OpenError::Format(format!("{} cannot be read: {error}", file.display())))?;
    if format.format > FORMAT {
        let by = format.version.map_or_else(String::new, |version| format!(" of version {version}"));
        return Err(OpenError::Format(format!(
            "{} has format {}{by}, and this version, {VERSION}, knows formats up to {FORMAT}; use the version that wrote it, or a newer one; how to go back to this one is said under Upgrading in deploy/OPERATIONS.md",
            file.display(),
            format.format
        )));
    }
    Ok(format)
}
