//! The whole simulated provider: one account with its story, its API over HTTP, and its deliveries.
//!
//! ```text
//! life ─┬─► rows (what the events API lists)                         ┌─► api (axum)
//!       ├─► samples (what the metrics API gives)          account ───┤
//!       ├─► hooks ─► deliver ─► the relay                            └─► story (a tick makes an event)
//!       └─► ledger (everything that ever happened: the oracle)
//! ```

mod job;

use super::api;
use super::faults::{Fault, Faults};
use super::hooks::{Hook, Hooks};
use super::ledger::{Ledger, Summary};
use super::life::{Happening, Life, uuid};
use super::rows::Rows;
use super::samples::{Samples, hash};
use super::{Dialect, Shape, SimulatorError, TEAM_ID};
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use job::Job;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Events whose deliveries are under way; above it the story waits.
const MAX_UNDERWAY: usize = 1024;

/// As good as never.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 for a free one.
    pub listen: SocketAddr,
    /// What `X-API-Key` must hold; without one any key will do, and only the loopback is listened on.
    pub api_key: Option<Secret>,
    /// 0 for a story that only goes on when it is told to.
    pub events_per_second: f64,
    /// After that time nothing happens any more by itself; the API is served on. Without it the story has no end.
    pub duration: Option<Duration>,
    /// A receiver, and its secret, that is registered from the start.
    pub deliver_to: Option<(String, Secret)>,
    /// Of deliveries and of the event list; without it each as the provider has it today: deliveries in snake_case, the
    /// list in camelCase.
    pub shape: Option<Shape>,
    /// Whether the event list comes as `{"events": […]}`, as the documentation has it, and not as the bare array that
    /// the provider sends.
    pub wrap_events: bool,
    /// How deliveries are signed.
    pub dialect: Dialect,
    /// UUID.
    pub team_id: String,
    /// The same seed tells the same story; the times in it are the clock's.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// The most that a delayed delivery is late.
    pub delay_by: Duration,
    /// For how long a slow reply is held back.
    pub slow_by: Duration,
    /// The most that a row is listed late.
    pub late_by: Duration,
    /// Added to the true time on a node with a wrong clock.
    pub wrong_clock_by: SignedDuration,
    /// Running sandboxes that are there from the start, besides those of the story.
    pub sandboxes: usize,
    /// Attempts after the first.
    pub retries: u32,
    /// Between two attempts.
    pub retry_pause: Duration,
    /// Entries that the ledger keeps.
    pub ledger_capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Where the provider's SDKs look with E2B_DEBUG=true.
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)),
            api_key: None,
            events_per_second: 1.0,
            duration: None,
            deliver_to: None,
            shape: None,
            wrap_events: false,
            dialect: Dialect::default(),
            team_id: TEAM_ID.to_owned(),
            seed: 0,
            faults: Faults::default(),
            delay_by: Duration::from_secs(20),
            slow_by: Duration::from_secs(5),
            late_by: Duration::from_secs(20),
            wrong_clock_by: SignedDuration::from_secs(90),
            sandboxes: 0,
            retries: 3,
            retry_pause: Duration::from_secs(10),
            ledger_capacity: 1_000_000,
        }
    }
}

/// A provider that listens, and is not yet served.
pub struct Provider {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the story, the API and the deliveries have in common.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) ledger: Ledger,
    account: Mutex<Account>,
    room: Arc<Semaphore>,
    /// Decides about replies; apart from the account's, or requests would change the story.
    dice: Mutex<Rng>,
    /// Events whose deliveries came to an end.
    settled: watch::Sender<u64>,
    /// Whether the story is over.
    over: watch::Sender<bool>,
    underway: Mutex<JoinSet<()>>,
}

/// What the provider knows of the team.
pub(super) struct Account {
    pub(super) life: Life,
    pub(super) rows: Rows,
    pub(super) samples: Samples,
    pub(super) hooks: Hooks,
    pub(super) random: Rng,
    last_at: Option<Timestamp>,
}

impl Provider {
    /// Checks the options and begins to listen; requests wait for [`Provider::run`].
    pub async fn bind(options: Options) -> Result<Self, SimulatorError> {
        let refuse = |name, problem| SimulatorError::Option { name, problem };
        if !(0.0..=100_000.0).contains(&options.events_per_second) {
            return Err(refuse("events-per-second", "must be from 0 to 100000"));
        }
        if options.api_key.is_none() && !options.listen.ip().is_loopback() {
            return Err(refuse("listen", "an address other than the loopback's needs an API key"));
        }
        if options.shape == Some(Shape::SelfHosted) {
            return Err(refuse("shape", "a self-hosted installation has no API to simulate"));
        }
        let account = Account::new(&options)?;
        let failed =
            |error: std::io::Error| SimulatorError::Listen { listen: options.listen, problem: error.to_string() };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Shared {
            ledger: Ledger::new(options.ledger_capacity),
            account: Mutex::new(account),
            room: Arc::new(Semaphore::new(MAX_UNDERWAY)),
            dice: Mutex::new(Rng::with_seed(!options.seed)),
            settled: watch::Sender::new(0),
            over: watch::Sender::new(false),
            underway: Mutex::new(JoinSet::new()),
            options,
        };
        Ok(Self { listener, address, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers one more receiver, for every type of event.
    pub fn deliver_to(&self, url: &str, secret: &Secret) -> Result<(), SimulatorError> {
        self.shared.account().deliver_to(url, secret)
    }

    /// Turns true when the story is over because of [`Options::duration`].
    pub fn over(&self) -> watch::Receiver<bool> {
        self.shared.over.subscribe()
    }

    /// What happened and what became of it; to be asked at any time.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger.clone()
    }

    /// To be changed at any time.
    pub fn faults(&self) -> Faults {
        self.shared.options.faults.clone()
    }

    /// Serves and tells its story until told to end; what is under way is then cut off.
    pub async fn run(self, shutdown: Shutdown) -> Result<Summary, SimulatorError> {
        let Self { listener, address, shared } = self;
        let mut told = shutdown.clone();
        let serve = axum::serve(listener, api::router(Arc::clone(&shared))).into_future();
        let served = tokio::select! {
            served = serve => served,
            () = shared.story(shutdown) => Ok(()),
            () = told.requested() => Ok(()),
        };
        lock(&shared.underway).abort_all();
        served.map_err(|error| SimulatorError::Listen { listen: address, problem: error.to_string() })?;
        Ok(shared.ledger.summary())
    }
}

impl Account {
    fn new(options: &Options) -> Result<Self, SimulatorError> {
        let mut random = Rng::with_seed(options.seed);
        let mut life = Life::new(random.u64(..), options.team_id.as_str());
        let mut samples = Samples::new(options.faults.clone());
        life.settle(options.sandboxes, Timestamp::now());
        life.sandboxes().iter().for_each(|sandbox| samples.begin(sandbox));
        let (rows, hooks) = (Rows::default(), Hooks::default());
        let mut account = Self { life, rows, samples, hooks, random, last_at: None };
        if let Some((url, secret)) = &options.deliver_to {
            account.deliver_to(url, secret)?;
        }
        Ok(account)
    }

    fn deliver_to(&mut self, url: &str, secret: &Secret) -> Result<(), SimulatorError> {
        let hook = Hook {
            id: uuid(&mut self.random),
            name: "deliver-to".to_owned(),
            created_at: Timestamp::now(),
            url: url.to_owned(),
            enabled: true,
            events: Vec::new(),
            secret: secret.clone(),
            transport: Hook::transport(url)?,
        };
        self.hooks.add(hook).map_err(|problem| SimulatorError::Option { name: "deliver-to", problem })?;
        Ok(())
    }

    /// What `options` make of the next event; the samples follow the sandbox's life.
    fn next(&mut self, options: &Options, now: Timestamp) -> Happening {
        let faults = &options.faults;
        if faults.strikes(Fault::Crashes, &mut self.random)
            && let Some(id) = self.life.crash()
        {
            self.samples.end(&id, now);
        }
        let same = faults.strikes(Fault::EqualTimes, &mut self.random).then_some(self.last_at).flatten();
        let mut happening = self.life.next(same.unwrap_or(now));
        self.last_at = Some(happening.at);
        self.follow(&happening);
        if faults.marks(Fault::WrongClock, hash(&happening.sandbox_id)) {
            happening.at = happening.at.saturating_add(options.wrong_clock_by).unwrap_or(happening.at);
        }
        happening
    }

    fn follow(&mut self, happening: &Happening) {
        let id = &happening.sandbox_id;
        match happening.kind.as_str() {
            "sandbox.lifecycle.created" | "sandbox.lifecycle.resumed" => {
                if let Some(sandbox) = self.life.sandboxes().iter().find(|sandbox| sandbox.id == *id) {
                    self.samples.begin(sandbox);
                }
            }
            "sandbox.lifecycle.paused" | "sandbox.lifecycle.killed" => self.samples.end(id, happening.at),
            _ => {}
        }
    }
}

impl Shared {
    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.account)
    }

    /// Whether the fault befalls the reply that is being made.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        self.options.faults.strikes(fault, &mut lock(&self.dice))
    }

    async fn story(self: &Arc<Self>, mut shutdown: Shutdown) {
        if self.options.events_per_second <= 0.0 {
            return shutdown.requested().await;
        }
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / self.options.events_per_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = tokio::time::sleep(self.options.duration.unwrap_or(FOREVER));
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = &mut end => break,
                () = async { ticks.tick().await; self.happen(None).await; } => {}
            }
        }
        self.over.send_replace(true);
        shutdown.requested().await;
    }

    /// The next event of the story, at `at` or now, once there is room for its delivery.
    pub(super) async fn happen(self: &Arc<Self>, at: Option<Timestamp>) {
        // The semaphore is never closed.
        if let Ok(permit) = Arc::clone(&self.room).acquire_owned().await {
            self.tell_next(at, permit);
        }
    }

    /// Likewise, unless there is no room: an API reply does not wait for a receiver.
    pub(super) fn happen_if_room(self: &Arc<Self>) {
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            self.tell_next(None, permit);
        }
    }

    /// Does `act` to a sandbox, at somebody's wish; whether it had anything to tell, if there is such a sandbox.
    pub(super) async fn by_hand(
        self: &Arc<Self>,
        id: &str,
        act: fn(&mut Life, &str, Timestamp) -> Option<Option<Happening>>,
    ) -> Option<bool> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok()?;
        let mut account = self.account();
        let said = act(&mut account.life, id, Timestamp::now())?;
        let Some(happening) = said else { return Some(false) };
        account.follow(&happening);
        self.tell(&mut account, happening, permit);
        Some(true)
    }

    fn tell_next(self: &Arc<Self>, at: Option<Timestamp>, permit: OwnedSemaphorePermit) {
        let mut account = self.account();
        let happening = account.next(&self.options, at.unwrap_or_else(Timestamp::now));
        self.tell(&mut account, happening, permit);
    }

    /// Lists it, enters it in the ledger and sends it, as far as the faults let it.
    fn tell(self: &Arc<Self>, account: &mut Account, happening: Happening, permit: OwnedSemaphorePermit) {
        let faults = &self.options.faults;
        let happening = Arc::new(happening);
        let listed = !faults.strikes(Fault::LostRows, &mut account.random);
        let late = faults.strikes(Fault::LateRows, &mut account.random).then(|| within(self.options.late_by, account));
        let twice = faults.strikes(Fault::RepeatedRows, &mut account.random);
        let visible_at = Timestamp::now().saturating_add(late.unwrap_or_default()).unwrap_or(Timestamp::MAX);
        for _ in 0..if listed { 1 + u8::from(twice) } else { 0 } {
            account.rows.insert(Arc::clone(&happening), visible_at);
        }
        let job = Job::draw(self, account, happening, listed);
        let shared = Arc::clone(self);
        let mut underway = lock(&self.underway);
        while underway.try_join_next().is_some() {}
        underway.spawn(async move {
            job.run(&shared).await;
            shared.settled.send_modify(|settled| *settled += 1);
            drop(permit);
        });
    }
}

/// A moment of at most `most`.
fn within(most: Duration, account: &mut Account) -> Duration {
    most.mul_f64(account.random.f64())
}

/// Nothing is left half-way by a panic elsewhere that a simulation could not live with.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
