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
    if kind == Kind::Bash {
        // clap_complete 4.6 names the functions of a program with a `-` in two ways, and then completes nothing.
        let text = String::from_utf8(script).map_err(Failure::internal)?;
        script = text.replace("e2b__subcmd__relay", "e2b__relay").into_bytes();
    }
    print_bytes(&script)
}
