//! An E2B to develop against: sandboxes that are created, paused, resumed, checkpointed and killed, and signed
//! deliveries of it all.
//!
//! ```text
//! life (what happens) ─► shape (the body) ─► sign ─► deliver (attempts) ─► client ─► the relay
//!           └──────────────────► ledger (what was said, and what became of it) ◄──────┘
//! ```
//!
//! It shares no wire struct and no signing code with `verify`, `decode` and `e2b`: it is the other witness. [`Simulator`]
//! only delivers; [`provider`] has the provider's whole API (events, webhooks, sandboxes, metrics) and its faults, and
//! tells the same [`life`].
//!
//! # Wiring
//! ```no_run
//! # async fn example(shutdown: e2b_relay::shutdown::Shutdown) -> Result<(), e2b_relay::simulator::SimulatorError> {
//! use e2b_relay::simulator::{Options, Simulator};
//! let mut options = Options::new("http://127.0.0.1:8080/webhooks/e2b", "a secret of 32 characters or more");
//! options.events_per_second = 2.0;
//! let simulator = Simulator::new(options)?;
//! let ledger = simulator.ledger();
//! let summary = simulator.run(shutdown).await;
//! # let _ = (ledger, summary); Ok(())
//! # }
//! ```

mod api;
mod deliver;
pub mod dev;
mod faults;
mod hooks;
mod ledger;
pub mod life;
pub mod provider;
mod rows;
mod samples;
mod shape;
mod sign;
mod trigger;

pub use faults::{Fault, Faults};
pub use ledger::{Entry, Fate, Ledger, Summary};
pub use shape::Shape;
pub use sign::{Dialect, headers as signature_headers};
pub use trigger::{Trigger, TriggerError};

use crate::client::{Client, ClientError, Limits};
use crate::secret::Secret;
use crate::shutdown::Shutdown;
use bytes::Bytes;
use deliver::{Terms, Transport};
use fastrand::Rng;
use life::Life;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// Deliveries under way at once, those that wait for their next attempt included. Above it the next event waits: the
/// simulator has no queue that could grow without end.
const MAX_UNDERWAY: usize = 1024;

/// The team that the simulated sandboxes belong to, unless told otherwise.
pub const TEAM_ID: &str = "460355b3-4f64-48f9-9a16-4442817f79f5";

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Options {
    /// The receiver's URL, `http` or `https`.
    pub deliver_to: String,
    /// What deliveries are signed with.
    pub secret: Secret,
    /// How they are signed.
    pub dialect: Dialect,
    /// The bodies' shapes; each event takes one of them at random. Not empty.
    pub shapes: Vec<Shape>,
    /// Whose sandboxes; a UUID.
    pub team_id: String,
    /// The same seed tells the same story; the times in it are the clock's.
    pub seed: u64,
    /// Over 0 and at most 100,000.
    pub events_per_second: f64,
    /// Ends by itself after that time and the deliveries then under way.
    pub duration: Option<Duration>,
    /// Ends by itself after that many events and their deliveries.
    pub events: Option<u64>,
    /// Part of the events that is never delivered, 0 to 1: what a backfill has to find.
    pub withhold: f64,
    /// Part of the delivered events that is delivered a second time, 0 to 1.
    pub repeat: f64,
    /// Part of the events that is sent with a wrong signature, and only so, 0 to 1.
    pub forge: f64,
    /// Attempts after the first.
    pub retries: u32,
    /// Between two attempts.
    pub retry_pause: Duration,
    /// Entries that the ledger keeps.
    pub ledger_capacity: usize,
}

impl Options {
    /// What the provider does: every event delivered, in its present shape and signature, three retries.
    pub fn new(deliver_to: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            deliver_to: deliver_to.into(),
            secret: Secret::new(secret),
            dialect: Dialect::default(),
            shapes: vec![Shape::default()],
            team_id: TEAM_ID.to_owned(),
            seed: 0,
            events_per_second: 1.0,
            duration: None,
            events: None,
            withhold: 0.0,
            repeat: 0.0,
            forge: 0.0,
            retries: 3,
            retry_pause: Duration::from_secs(10),
            ledger_capacity: 100_000,
        }
    }
}

/// The simulation cannot begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulatorError {
    /// Where to deliver to.
    #[error("deliver-to: {0}")]
    DeliverTo(#[from] ClientError),
    /// Where to listen.
    #[error("listen {listen}: {problem}")]
    Listen {
        /// As it was asked for.
        listen: std::net::SocketAddr,
        /// The system's words.
        problem: String,
    },
    /// An option out of its range.
    #[error("{name}: {problem}")]
    Option {
        /// As the command line spells it.
        name: &'static str,
        /// The range.
        problem: &'static str,
    },
}

/// A simulated E2B, ready to run.
pub struct Simulator {
    options: Options,
    transport: Arc<dyn Transport>,
    ledger: Ledger,
}

impl Simulator {
    /// Checks the options; nothing is sent yet.
    pub fn new(options: Options) -> Result<Self, SimulatorError> {
        let limits = Limits { max_idle: MAX_UNDERWAY, ..Limits::default() };
        let client = Client::new(&options.deliver_to, limits)?;
        Self::with_transport(options, Arc::new(client))
    }

    fn with_transport(options: Options, transport: Arc<dyn Transport>) -> Result<Self, SimulatorError> {
        let refuse = |name, problem| Err(SimulatorError::Option { name, problem });
        if !(options.events_per_second > 0.0 && options.events_per_second <= 100_000.0) {
            return refuse("events-per-second", "must be over 0 and at most 100000");
        }
        for (name, part) in
            [("drop-deliveries", options.withhold), ("repeat", options.repeat), ("forge", options.forge)]
        {
            if !(0.0..=1.0).contains(&part) {
                return refuse(name, "must be from 0 to 1");
            }
        }
        if options.shapes.is_empty() {
            return refuse("shape", "is missing");
        }
        let ledger = Ledger::new(options.ledger_capacity);
        Ok(Self { options, transport, ledger })
    }

    /// What is said and what becomes of it; to be asked at any time.
    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// Makes events and delivers them, until told to end, or until [`Options::duration`] or [`Options::events`] is over.
    /// Deliveries under way are cut off in the first case and finished in the others.
    pub async fn run(self, mut shutdown: Shutdown) -> Summary {
        let Self { options, transport, ledger } = self;
        let mut random = Rng::with_seed(options.seed);
        let mut life = Life::new(random.u64(..), options.team_id.as_str());
        let sender = Arc::new(Sender { terms: terms(&options, &mut random), transport, ledger: ledger.clone() });
        let room = Arc::new(Semaphore::new(MAX_UNDERWAY));
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / options.events_per_second));
        // A rate above the timer's grain, or a pause for want of room, is caught up with.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = options.duration.and_then(|duration| Instant::now().checked_add(duration));
        let mut underway = JoinSet::new();
        for _ in 0..options.events.unwrap_or(u64::MAX) {
            let permit = tokio::select! {
                biased;
                () = shutdown.requested() => return ledger.summary(),
                () = until(end) => break,
                Ok(permit) = async { ticks.tick().await; Arc::clone(&room).acquire_owned().await } => permit,
            };
            while underway.try_join_next().is_some() {}
            let event = Planned::draw(&options, &mut life, &mut random);
            let sender = Arc::clone(&sender);
            let mut random = random.fork();
            underway.spawn(async move {
                sender.send(event, &mut random).await;
                drop(permit);
            });
        }
        tokio::select! {
            () = shutdown.requested() => {}
            _ = async { while underway.join_next().await.is_some() {} } => {}
        }
        ledger.summary()
    }
}

/// Never, if there is no end.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn terms(options: &Options, random: &mut Rng) -> Terms {
    Terms {
        secret: options.secret.clone(),
        dialect: options.dialect,
        webhook_id: life::uuid(random),
        retries: options.retries,
        pause: options.retry_pause,
    }
}

/// An event and what shall be done with it.
struct Planned {
    entry: Entry,
    plan: Plan,
}

enum Plan {
    Withhold,
    Forge,
    Deliver { times: u32 },
}

impl Planned {
    fn draw(options: &Options, life: &mut Life, random: &mut Rng) -> Self {
        let happening = life.next(jiff::Timestamp::now());
        let shape = random.choice(&options.shapes).copied().unwrap_or_default();
        // Strings and numbers in structs always have a JSON form; an empty body would be refused by the receiver.
        let body = shape.body(&happening).map_or_else(|_| Bytes::new(), Bytes::from);
        let plan = if random.f64() < options.withhold {
            Plan::Withhold
        } else if random.f64() < options.forge {
            Plan::Forge
        } else {
            Plan::Deliver { times: if random.f64() < options.repeat { 2 } else { 1 } }
        };
        let entry = Entry {
            id: shape.has_id().then_some(happening.id),
            kind: happening.kind,
            sandbox_id: happening.sandbox_id,
            body,
            listed: false,
            fate: Fate::Underway,
        };
        Self { entry, plan }
    }
}

/// What every delivery shares.
struct Sender {
    terms: Terms,
    transport: Arc<dyn Transport>,
    ledger: Ledger,
}

impl Sender {
    async fn send(&self, event: Planned, random: &mut Rng) {
        let body = event.entry.body.clone();
        let place = self.ledger.made(event.entry);
        let fate = match event.plan {
            Plan::Withhold => Fate::Withheld,
            Plan::Forge => {
                let secret = Secret::new(format!("not the secret {}", random.u64(..)));
                let terms = Terms { secret, retries: 0, ..self.terms.clone() };
                Fate::Forged(terms.deliver(&*self.transport, &body, random).await.last.ok())
            }
            Plan::Deliver { times } => self.deliver(&body, times, random).await,
        };
        self.ledger.settle(place, fate);
    }

    async fn deliver(&self, body: &Bytes, wanted: u32, random: &mut Rng) -> Fate {
        let (mut times, mut attempts) = (0, 0);
        for _ in 0..wanted {
            let outcome = self.terms.deliver(&*self.transport, body, random).await;
            attempts += outcome.attempts;
            if outcome.is_success() {
                times += 1;
                continue;
            }
            let problem = outcome.last.map_or_else(|problem| problem, |status| format!("answered {status}"));
            tracing::warn!(attempts, problem, "a simulated delivery was given up");
            if times == 0 {
                return Fate::GivenUp { attempts, problem };
            }
        }
        Fate::Delivered { times, attempts }
    }
}

#[cfg(test)]
mod tests;
