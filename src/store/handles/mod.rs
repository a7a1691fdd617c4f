//! What whoever is outside has of the store: to each a handle that can do no more than he needs.
//!
//! Nothing of files, segments or databases is seen through them, so that another engine may stand behind them. Cloning one
//! is cheap and shares it. One is not cloned: whoever has the [`Engine`] has the store open, and closes it.

mod claim;
mod dead_letters;
mod engine;
mod event_log;
mod quarantine;
mod sink_registry;
mod state;

pub use claim::Claim;
pub use dead_letters::DeadLetters;
pub use engine::Engine;
pub use event_log::EventLog;
pub use quarantine::Quarantine;
pub use sink_registry::SinkRegistry;
pub use state::State;

pub(super) use engine::Threads;

use super::shared::Shared;
use std::sync::Arc;

/// The open store. Where the [`Engine`] is dropped it is closed, and the other handles take nothing more.
#[derive(Debug)]
pub struct Handles {
    /// What was accepted.
    pub log: EventLog,
    /// Which sinks there are, and by their claims how far each is.
    pub registry: SinkRegistry,
    /// What sinks never took.
    pub letters: DeadLetters,
    /// Small state.
    pub state: State,
    /// Bodies that were no events.
    pub quarantine: Quarantine,
    /// That the store is open.
    pub engine: Engine,
}

impl Handles {
    pub(super) fn new(shared: Arc<Shared>, threads: Threads) -> Self {
        Self {
            log: EventLog::new(&shared),
            registry: SinkRegistry::new(&shared),
            letters: DeadLetters::new(&shared),
            state: State::new(&shared),
            quarantine: Quarantine::new(&shared),
            engine: Engine::new(shared, threads),
        }
    }
}
