//! Somebody who connects all the time, to see whether an address ever refuses.

use super::daemon::PATIENCE;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    /// How many connections were refused, and of how many.
    task: JoinHandle<(usize, usize)>,
}

impl Probe {
    /// Counts from the first connection that is taken: until then nobody has bound the address.
    pub(crate) fn of(address: &str) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), address.to_owned());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            while TcpStream::connect(&address).await.is_err() {
                tokio::task::yield_now().await;
            }
            let (mut refused, mut connections) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                refused += usize::from(TcpStream::connect(&address).await.is_err());
                connections += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (refused, connections)
        });
        Self { stop, task }
    }

    /// How many connections there were, of which none may have been refused.
    pub(crate) async fn end_unrefused(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (refused, connections) = tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        assert_eq!(refused, 0, "of {connections} connections");
        connections
    }
}
