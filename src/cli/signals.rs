//! What a daemon is told by signals, from its first moment on.

use crate::app::Reloader;
use crate::shutdown::Trigger;
use std::io;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, which end a daemon, and SIGHUP, which has it read its configuration again.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// How often it was told to end.
    ends: u32,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves, nor are they lost where it is process 1; what
    /// comes before anybody asks is kept.
    ///
    /// # Errors
    /// If the system gives no file descriptor, or no handler can be put in place.
    pub fn listen() -> io::Result<Self> {
        // Only for tokio to put its handlers in place before there are threads: whichever runtime runs when somebody asks
        // passes on what these have noted.
        let first = runtime::Builder::new_current_thread().enable_all().build()?;
        let _entered = first.enter();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            ends: 0,
        })
    }

    /// Returns once it was told to end for the `count`th time.
    pub(super) async fn end(&mut self, count: u32) {
        while self.ends < count {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.ends += 1;
        }
    }

    /// Fires when it was told to end and returns when it was told so twice; at SIGHUP it asks for a reload. What came
    /// before counts.
    pub(super) async fn obey(&mut self, trigger: &Trigger, reloader: &Reloader) {
        loop {
            match self.ends {
                0 => {}
                1 => trigger.fire(),
                _ => return,
            }
            tokio::select! {
                _ = self.terminate.recv() => self.ends += 1,
                _ = self.interrupt.recv() => self.ends += 1,
                _ = self.hang_up.recv() => reloader.ask(),
            }
        }
    }
}
