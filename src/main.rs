//! The binary: parse, announce, do it, tell how it ended. Everything else is in the library.

use e2b_relay::cli::{self, Exit};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    // One provider for every TLS client and server of the process; an error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.announce().and_then(|()| cli.execute()) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            failure.report();
            failure.exit.into()
        }
    }
}
