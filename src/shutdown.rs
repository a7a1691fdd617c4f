//! How every loop learns that it shall end: one watch, cloned to whoever waits.

use tokio::sync::watch;

/// Held by `app`; ends the daemon when told so or when dropped.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Held by each loop.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// A trigger and what waits for it.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks every holder of the [`Shutdown`] to end.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether the end was asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the end was asked for.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone, which is an end too.
        let _ = self.0.wait_for(|fired| *fired).await;
    }
}
