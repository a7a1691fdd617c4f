//! Commands on a terminal.
