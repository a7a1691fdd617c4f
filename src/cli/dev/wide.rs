//! Records are wider than a terminal: there each is shown by what fits into one row, so that one can follow them.

use std::io::{self, IsTerminal, Write};

/// The private modes of a VT100 and all that came after it: whether a row goes on in the next one (DECAWM).
const CUT: &[u8] = b"\x1b[?7l";
const WRAP: &[u8] = b"\x1b[?7h";

/// While it is there a terminal on standard output cuts what does not fit into a row; a pipe or a file gets all of it.
pub(super) struct Cut(());

impl Cut {
    /// `None` where standard output is no terminal, or one without such modes.
    pub(super) fn begin() -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_dumb || !io::stdout().is_terminal() {
            return None;
        }
        set(CUT);
        Some(Self(()))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        set(WRAP);
    }
}

/// A terminal that has gone has nothing to be set back.
fn set(mode: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(mode).and_then(|()| out.flush());
}
