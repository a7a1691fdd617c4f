//! `completions`: what a shell needs to complete this command line.

use super::Cli;
use super::outcome::{Failure, print_bytes};
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell as Kind;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Which shell.
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    let kind = match options.shell {
        Shell::Bash => Kind::Bash,
        Shell::Zsh => Kind::Zsh,
        Shell::Fish => Kind::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(kind, &mut Cli::command(), "e2b-relay", &mut script);
    print_bytes(&script)
}
