//! Who moves, and who stands still.
//!
//! Every thread and every loop of the daemon notes now and then that it has moved ([`Pulse::beat`]). One that has not for
//! longer than it may, or that has panicked, makes `/livez` 503, and the service manager's watchdog is not fed. Whoever only
//! waits (a committer without events, a sink whose broker is away) still looks around while it does, and so moves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// How long a loop, or a commit, may take without a sign of life.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a task is looked after.
const EVERY: Duration = Duration::from_secs(5);

/// The time since some moment that stays the same, as a parameter.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// All who are to move. Cloning is cheap, and a clone is the same.
#[derive(Clone)]
pub struct Health {
    clock: Clock,
    members: Arc<Mutex<Members>>,
}

#[derive(Default)]
struct Members {
    next: u64,
    by_number: BTreeMap<u64, Arc<Member>>,
}

struct Member {
    name: String,
    within: Duration,
    /// By the clock, in milliseconds.
    moved_at: AtomicU64,
    panicked: AtomicBool,
}

/// One who does not move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Still {
    /// For longer than it may.
    For(String, Duration),
    /// It never will again.
    Panicked(String),
}

impl std::fmt::Display for Still {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::For(name, time) => write!(f, "{name} has not moved for {} s", time.as_secs()),
            Self::Panicked(name) => write!(f, "{name} has panicked"),
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        let start = Instant::now();
        Self::new(Arc::new(move || start.elapsed()))
    }
}

impl Health {
    /// By that clock.
    pub fn new(clock: Clock) -> Self {
        Self { clock, members: Arc::default() }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, until its pulse is dropped; it may stand still for `within`. It takes the place of one of its name that
    /// has panicked.
    pub fn join(&self, name: impl Into<String>, within: Duration) -> Pulse {
        let member = Arc::new(Member {
            name: name.into(),
            within,
            moved_at: AtomicU64::new(self.now()),
            panicked: AtomicBool::new(false),
        });
        let mut members = self.members();
        members.by_number.retain(|_, one| one.name != member.name || !one.panicked.load(Ordering::Relaxed));
        let number = members.next;
        members.next += 1;
        members.by_number.insert(number, Arc::clone(&member));
        drop(members);
        Pulse { health: self.clone(), number, member }
    }

    /// Those who do not move; empty when all is well.
    pub fn still(&self) -> Vec<Still> {
        let now = self.now();
        let still = |member: &Arc<Member>| {
            if member.panicked.load(Ordering::Relaxed) {
                return Some(Still::Panicked(member.name.clone()));
            }
            let time = Duration::from_millis(now.saturating_sub(member.moved_at.load(Ordering::Relaxed)));
            (time > member.within).then(|| Still::For(member.name.clone(), time))
        };
        self.members().by_number.values().filter_map(still).collect()
    }

    fn now(&self) -> u64 {
        u64::try_from((self.clock)().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Held by one who is to move.
pub struct Pulse {
    health: Health,
    number: u64,
    member: Arc<Member>,
}

impl Pulse {
    /// It has moved.
    pub fn beat(&self) {
        self.member.moved_at.store(self.health.now(), Ordering::Relaxed);
    }

    /// Runs a task that is alive for as long as it lets itself be asked: it may wait for whatever it wants, and must
    /// neither block nor panic.
    pub async fn keep<F: Future>(self, task: F) -> F::Output {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut task = std::pin::pin!(task);
        loop {
            tokio::select! {
                biased;
                output = &mut task => return output,
                _ = ticks.tick() => self.beat(),
            }
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.member.panicked.store(true, Ordering::Relaxed);
        } else {
            self.health.members().by_number.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_tokio() -> Health {
        let start = tokio::time::Instant::now();
        Health::new(Arc::new(move || start.elapsed()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_beat_is_named_until_it_does_or_leaves() {
        let health = by_tokio();
        let (one, other) = (health.join("one", PATIENCE), health.join("other", Duration::from_secs(60)));
        tokio::time::advance(PATIENCE).await;
        assert_eq!(health.still(), []);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(health.still(), [Still::For("one".to_owned(), Duration::from_secs(31))]);
        one.beat();
        assert_eq!(health.still(), []);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(health.still().len(), 2);
        drop((one, other));
        assert_eq!(health.still(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_may_wait_for_ever_and_may_not_panic() {
        let health = by_tokio();
        let waits = tokio::spawn(health.join("waits", PATIENCE).keep(std::future::pending::<()>()));
        let ends = tokio::spawn(health.join("ends", PATIENCE).keep(tokio::time::sleep(Duration::from_secs(60))));
        let panics = health.join("panics", PATIENCE).keep(async {
            tokio::time::sleep(Duration::from_secs(600)).await;
            panic!("so that it is seen");
        });
        let panics = tokio::spawn(panics);
        for _ in 0..59 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(health.still(), []);
        }
        ends.await.unwrap();
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(health.still(), [Still::Panicked("panics".to_owned())]);
        let again = health.join("panics", PATIENCE);
        assert_eq!(health.still(), [], "another one does its work");
        drop(again);
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        tokio::time::advance(PATIENCE * 2).await;
        assert_eq!(health.still(), []);
    }
}
