//! The binary: parse, listen, announce, do it, tell how it ended. Everything else is in the library.

use e2b_relay::cli::{self, Exit};
use e2b_relay::logging;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Dropped last, after a panic too.
    let _last_lines = logging::FlushOnDrop;
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    // First of all: whoever starts a daemon may tell it something at once.
    let ended = cli.listen().and_then(|signals| {
        // One provider for every TLS client and server of the process; an error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        cli.announce()?;
        cli.execute(signals)
    });
    match ended {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            failure.report();
            failure.exit.into()
        }
    }
}
