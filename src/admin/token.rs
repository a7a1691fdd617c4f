//! The operators' token: from the file that the settings name, or one that the daemon has made for itself.

use crate::secret::Secret;
use crate::store::{RealDisk, replace};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// In the store's folder.
const NAME: &str = "admin-token";
/// A shorter one could be guessed, in bytes.
const SHORTEST: usize = 16;
/// Longest file, in bytes.
const LONGEST: u64 = 4096;

/// What opens the admin listener, and where operators find it.
#[derive(Debug, Clone)]
pub struct Token {
    secret: Secret,
    file: PathBuf,
}

/// The file with the token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read, or not be written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// The system's word for it.
        source: io::Error,
    },
    /// It can be read.
    #[error("{} {problem}", file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Token {
    /// Where a daemon without `admin.token_file` keeps its own.
    pub fn own_file(store: &Path) -> PathBuf {
        store.join(NAME)
    }

    /// Reads the token; the line's end behind it is not part of it.
    ///
    /// # Errors
    /// If the file cannot be read, is no one line of visible ASCII, or too short.
    pub fn read(file: &Path) -> Result<Self, TokenError> {
        let mut text = String::new();
        let read = File::open(file).and_then(|opened| opened.take(LONGEST).read_to_string(&mut text));
        read.map_err(|source| TokenError::File { file: file.to_owned(), source })?;
        let token = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
        let problem = match token.len() {
            0 => Some("is empty"),
            _ if !token.bytes().all(|byte| byte.is_ascii_graphic()) => Some("is not one line of visible ASCII"),
            short if short < SHORTEST => Some("is shorter than 16 bytes"),
            _ => None,
        };
        match problem {
            Some(problem) => Err(TokenError::Content { file: file.to_owned(), problem }),
            None => Ok(Self { secret: Secret::new(token), file: file.to_owned() }),
        }
    }

    /// The daemon's own, in its store's folder: the one of before, or a fresh one that only its owner can read. Whoever
    /// calls has the store open.
    ///
    /// # Errors
    /// If it can be neither read nor written.
    pub fn own(store: &Path) -> Result<Self, TokenError> {
        let file = Self::own_file(store);
        match Self::read(&file) {
            Err(TokenError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            there => return there,
        }
        let failed = |source| TokenError::File { file: file.clone(), source };
        let secret = Secret::fresh().map_err(failed)?;
        // Never half of one, whatever happens.
        let written = replace(&RealDisk, &file, format!("{}\n", secret.expose()).as_bytes());
        written.map_err(|error| failed(error.into()))?;
        Ok(Self { secret, file })
    }

    /// The file, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The token itself, for whoever presents it.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Compares in a time that tells nothing of where the two differ.
    pub(super) fn is(&self, presented: &[u8]) -> bool {
        self.secret.expose().as_bytes().ct_eq(presented).into()
    }
}
