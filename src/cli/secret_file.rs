//! Secrets for commands: from a file or the environment, so that none stands on the command line where others can see it.

use super::outcome::{Exit, Failure};
use crate::secret::Secret;
use crate::settings::read_bounded;
use std::path::Path;

/// As most receivers of the provider's webhooks call it, the self-hosting guide's among them.
pub(super) const SECRET_VARIABLE: &str = "E2B_WEBHOOK_SECRET";

/// No secret is longer; a larger file is another file. In bytes.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// The file's text, without one newline at its end.
pub(super) fn read(file: &Path) -> Result<Secret, Failure> {
    let text = read_bounded(file, MAX_SECRET_FILE)
        .map_err(|problem| Failure::new(Exit::Io, format_args!("{}: {problem}", file.display())))?;
    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Secret::new(text))
}

/// What the variable holds, if anything.
pub(super) fn of_environment() -> Option<Secret> {
    std::env::var(SECRET_VARIABLE).ok().filter(|text| !text.is_empty()).map(Secret::new)
}
