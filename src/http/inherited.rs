//! Sockets that whoever started this process has bound already: systemd's socket activation (`LISTEN_FDS`, see
//! sd_listen_fds(3)).
//!
//! Such a socket outlives the process, so that what comes during a restart waits in it instead of being refused.

use std::io;
use std::net::{SocketAddr, TcpListener};

/// The name of the admin listener's socket (systemd: `FileDescriptorName=`).
const ADMIN: &str = "admin";

/// What was handed over; each is taken instead of the address in the settings.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The public listener: one under any other name than the next.
    pub public: Option<TcpListener>,
    /// The admin listener: one with the name `admin`.
    pub admin: Option<TcpListener>,
}

/// Why a socket that was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// systemd's unit has another kind of socket.
    #[error("the socket {name:?} that was handed over is none that listens for TCP: {source}")]
    Kind {
        /// Its name.
        name: String,
        /// The system's word for it.
        source: io::Error,
    },
    /// There is one public and one admin listener.
    #[error(
        "of the sockets that were handed over two are for the {listener} listener ({first} and {second}); leave one \
         ListenStream= of the socket unit, or give one FileDescriptorName={ADMIN}"
    )]
    Twice {
        /// `public` or `admin`.
        listener: &'static str,
        /// Where one listens …
        first: SocketAddr,
        /// … and the other.
        second: SocketAddr,
    },
}

impl Inherited {
    /// Takes what the environment of this process names; nothing, where that is meant for another one. To be called before
    /// there are threads, since it also takes the variables out of the environment.
    ///
    /// # Errors
    /// If one of them is none that listens for TCP, or two are for one listener.
    pub fn from_env() -> Result<Self, InheritedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = listenfd::ListenFd::from_env();
        let mut inherited = Self::default();
        let mut names = names.split(':');
        for index in 0..sockets.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let taken = sockets.take_tcp_listener(index);
            let Some(socket) = taken.map_err(|source| InheritedError::Kind { name: name.clone(), source })? else {
                continue;
            };
            let (listener, place) = match name.as_str() {
                ADMIN => (ADMIN, &mut inherited.admin),
                _ => ("public", &mut inherited.public),
            };
            if let Some(first) = place.replace(socket) {
                let address = |socket: &TcpListener| socket.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
                let second = place.as_ref().map_or_else(|| ([0, 0, 0, 0], 0).into(), address);
                return Err(InheritedError::Twice { listener, first: address(&first), second });
            }
        }
        Ok(inherited)
    }
}
