//! The configuration through the real binary: the shipped files, every kind of fault, and that no secret gets out.
#![cfg(test)]

#[path = "settings/bad.rs"]
mod bad;
#[path = "settings/canary.rs"]
mod canary;
#[path = "settings/commands.rs"]
mod commands;
#[path = "settings/durations.rs"]
mod durations;
#[path = "settings/shipped.rs"]
mod shipped;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// 32 bytes, as a secret should have.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The program under test, with nothing of this process's environment that could configure it.
fn relay(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.env_clear().current_dir(folder);
    command
}

fn run(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    Run {
        code: status.code(),
        stdout: String::from_utf8(stdout).expect("results are UTF-8"),
        stderr: String::from_utf8(stderr).expect("diagnostics are UTF-8"),
    }
}

/// How a call ended and what it said.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Both streams.
    fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in a folder, in order. Fails if there are none: a test over nothing proves nothing.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}
