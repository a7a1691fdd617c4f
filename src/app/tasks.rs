//! Loops that can be ended one by one, each with what it was made from.

use crate::health::{self, Health};
use crate::settings::Said;
use crate::shutdown::{self, Shutdown, Trigger};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// By name. Nothing runs before [`Tasks::begin`].
pub(super) struct Tasks<K> {
    health: Health,
    /// What operators call a task.
    name: fn(&K) -> String,
    tasks: BTreeMap<K, Task>,
}

struct Task {
    said: Vec<Said>,
    stop: Trigger,
    /// Until it runs. Dropped, it never does.
    begin: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl<K: Ord + Clone> Tasks<K> {
    /// They note there that they move.
    pub(super) fn new(health: Health, name: fn(&K) -> String) -> Self {
        Self { health, name, tasks: BTreeMap::new() }
    }

    /// Whether one of this name was made from just this, and has not ended by itself.
    pub(super) fn has(&self, key: &K, said: &[Said]) -> bool {
        self.tasks.get(key).is_some_and(|task| task.said == said && !task.running.is_finished())
    }

    /// Adds one that ends when the [`Shutdown`] that it gets says so.
    pub(super) fn add<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        key: K,
        said: Vec<Said>,
        make: impl FnOnce(Shutdown) -> F,
    ) {
        let (stop, shutdown) = shutdown::channel();
        let (begin, begun) = oneshot::channel();
        let made = make(shutdown);
        let (health, name) = (self.health.clone(), (self.name)(&key));
        let running = tokio::spawn(async move {
            if begun.await.is_ok() {
                health.join(name, health::PATIENCE).keep(made).await;
            }
        });
        self.tasks.insert(key, Task { said, stop, begin: Some(begin), running });
    }

    /// Has those run that do not yet.
    pub(super) fn begin(&mut self) {
        for begin in self.tasks.values_mut().filter_map(|task| task.begin.take()) {
            // An error means that it has ended.
            let _ = begin.send(());
        }
    }

    /// Tells all of them to end.
    pub(super) fn stop(&self) {
        self.tasks.values().for_each(|task| task.stop.fire());
    }

    /// Ends those that `which` names, and returns once they have; what takes longer than `within` is cut off. Whoever
    /// drops this future half-way finds those that have not ended still here.
    pub(super) async fn end(&mut self, which: impl Fn(&K) -> bool, within: Duration) {
        let ending: Vec<K> = self.tasks.keys().filter(|key| which(key)).cloned().collect();
        for task in ending.iter().filter_map(|key| self.tasks.get(key)) {
            task.stop.fire();
        }
        let deadline = Instant::now() + within;
        for key in ending {
            let name = (self.name)(&key);
            if let Some(task) = self.tasks.get_mut(&key)
                && tokio::time::timeout_at(deadline, task.ended(&name)).await.is_err()
            {
                tracing::warn!(task = name, "did not end in time, and is cut off");
                task.running.abort();
            }
            self.tasks.remove(&key);
        }
    }

    /// Returns once all have ended, however long that takes.
    pub(super) async fn ended(&mut self) {
        for (key, task) in &mut self.tasks {
            task.ended(&(self.name)(key)).await;
        }
        self.tasks.clear();
    }
}

impl Task {
    async fn ended(&mut self, name: &str) {
        self.begin = None;
        if let Err(error) = (&mut self.running).await {
            tracing::error!(task = name, %error, "panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_those_that_are_named_end_and_what_hangs_is_cut_off() {
        let mut tasks = Tasks::new(Health::default(), |name: &&str| (*name).to_owned());
        tasks.add("stays", Vec::new(), |mut shutdown| async move { shutdown.requested().await });
        tasks.add("ends", Vec::new(), |mut shutdown| async move { shutdown.requested().await });
        tasks.add("hangs", Vec::new(), |_| std::future::pending());
        tasks.begin();
        let started = Instant::now();
        tasks.end(|name| *name != "stays", Duration::from_secs(5)).await;
        assert_eq!(started.elapsed(), Duration::from_secs(5));
        assert!(tasks.has(&"stays", &[]) && !tasks.has(&"ends", &[]) && !tasks.has(&"hangs", &[]));
        tasks.stop();
        tasks.ended().await;
        assert!(!tasks.has(&"stays", &[]));
    }

    #[tokio::test]
    async fn one_that_ended_by_itself_is_not_there_any_more() {
        let mut tasks = Tasks::new(Health::default(), |name: &&str| (*name).to_owned());
        tasks.add("brief", Vec::new(), |_| async {});
        tasks.begin();
        while tasks.has(&"brief", &[]) {
            tokio::task::yield_now().await;
        }
    }
}
