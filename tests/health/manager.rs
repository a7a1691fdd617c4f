//! What the service manager hears from the real daemon.

use crate::support::daemon::{Home, PATIENCE};
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// The manager's end.
pub(super) struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    pub(super) fn at(path: &Path) -> Self {
        Self::on(UnixDatagram::bind(path).unwrap())
    }

    fn on(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    /// The next datagram, as its assignments.
    fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("the daemon says nothing");
        String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// The next that holds `assignment`; what it skips is told.
    fn until(&self, assignment: &str) -> Vec<String> {
        loop {
            let said = self.next();
            if said.iter().any(|one| one == assignment) {
                return said;
            }
            println!("skipped {said:?}");
        }
    }

    /// What is there already.
    pub(super) fn heard(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        heard
    }
}

const CONFIGURATION: &str = "sources: {acme: {webhook: {secrets: [0123456789abcdef0123456789abcdef]}}}\n\
                             sinks: {audit: {type: file, path: ./audit.ndjson}}\n";

fn value<'s>(said: &'s [String], name: &str) -> &'s str {
    let found = said.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {said:?}"))
}

/// When it began to reload, in microseconds; by the clock that does not jump, which is behind the machine's uptime by the
/// time that the machine has slept.
fn moment(said: &[String]) -> u128 {
    let at: u128 = value(said, "MONOTONIC_USEC").parse().unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    // It is told in hundredths of a second.
    assert!(at > 0 && at <= (seconds * 1e6) as u128 + 10_000, "{at} at an uptime of {seconds} s");
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn it_hears_of_start_life_reload_and_end() {
    let home = Home::new(CONFIGURATION);
    let path = home.path().join("notify");
    let manager = Manager::at(&path);
    let daemon = home.start_with(&[("NOTIFY_SOCKET", path.into()), ("WATCHDOG_USEC", "100000".into())]).await;
    let said = manager.until("READY=1");
    assert_eq!(value(&said, "STATUS"), format!("deliveries are taken on {}", daemon.public));
    assert!(tokio::net::TcpStream::connect(&daemon.public).await.is_ok());
    manager.until("WATCHDOG=1");

    daemon.hang_up();
    let said = manager.until("RELOADING=1");
    let first = moment(&said);
    let said = manager.until("READY=1");
    assert_eq!(value(&said, "STATUS"), "the configuration is read again and in force");

    home.configure("sinks: nonsense\n");
    daemon.hang_up();
    let second = moment(&manager.until("RELOADING=1"));
    assert!(second > first, "{first}, {second}");
    let said = manager.until("READY=1");
    assert!(value(&said, "STATUS").starts_with("the new configuration is not taken"), "{said:?}");

    daemon.ask_to_end();
    let said = manager.until("STOPPING=1");
    assert_eq!(value(&said, "STATUS"), "no more deliveries are taken; what is left is sent on");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_listen_in_the_abstract_namespace_and_want_no_watchdog() {
    let home = Home::new(CONFIGURATION);
    let name = crate::support::brokers::unique("notify");
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::on(UnixDatagram::bind_addr(&address).unwrap());
    let address: OsString = format!("@{name}").into();
    // The watchdog is another process's.
    let environment = [("NOTIFY_SOCKET", address), ("WATCHDOG_USEC", "1000".into()), ("WATCHDOG_PID", "1".into())];
    let daemon = home.start_with(&environment).await;
    manager.until("READY=1");
    assert!(daemon.terminate().await.success());
    let heard = manager.heard();
    let fed = heard.iter().filter(|said| said.contains("WATCHDOG=1")).count();
    assert!(fed <= 1, "every 10 s for the log, not every 500 µs: {heard:?}");
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_no_trouble() {
    let home = Home::new(CONFIGURATION);
    let daemon = home.start_with(&[("NOTIFY_SOCKET", home.path().join("nobody").into())]).await;
    daemon.says(0, "the service manager is not told anything").await;
    assert!(daemon.terminate().await.success());
}
