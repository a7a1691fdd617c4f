//! What the service manager is told, by the datagrams that sd_notify(3) describes.

use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

/// The way to the manager, if there is one. Cloning is cheap.
///
/// Nothing depends on whether it hears: a datagram that cannot be sent is let go.
#[derive(Clone, Default)]
pub struct Notifier(Option<Arc<UnixDatagram>>);

impl Notifier {
    /// To the socket that `NOTIFY_SOCKET` names: a path, or a name in the abstract namespace behind an `@`.
    pub fn connect(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        Ok(Self(Some(Arc::new(socket))))
    }

    /// It is started, or has read its configuration again.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\n{}", status_line(status)));
    }

    /// It reads its configuration again; [`Self::ready`] follows.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={microseconds}\n{}",
            status_line("reading the configuration again")
        ));
    }

    /// It has begun to end.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\n{}", status_line(status)));
    }

    /// One line for operators.
    pub fn status(&self, status: &str) {
        self.send(&status_line(status));
    }

    /// It is alive; to be said more often than the manager's `WATCHDOG_USEC`.
    pub fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.0 {
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// A newline would begin another assignment.
fn status_line(status: &str) -> String {
    format!("STATUS={}\n", status.replace(char::is_control, " "))
}
