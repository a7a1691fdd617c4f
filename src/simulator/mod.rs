//! An E2B to develop against: sandboxes that are created, paused, resumed, checkpointed and killed, signed deliveries of
//! it all, the provider's API, and what goes wrong with them.
//!
//! ```text
//! life (what happens) ─► shape (the body) ─► sign ─► deliver (attempts) ─► client ─► the relay
//!           └──────────────────► ledger (what was said, and what became of it) ◄──────┘
//! ```
//!
//! It shares no wire struct and no signing code with `verify`, `decode` and `e2b`: it is the other witness.
//! [`provider`] is the whole of it; [`Trigger`] is one signed delivery made to order.
//!
//! # Wiring
//! ```no_run
//! # async fn example(shutdown: e2b_relay::shutdown::Shutdown) -> Result<(), e2b_relay::simulator::SimulatorError> {
//! use e2b_relay::simulator::provider::{Options, Provider};
//! let provider = Provider::bind(Options { events_per_second: 2.0, ..Options::default() }).await?;
//! provider.deliver_to("http://127.0.0.1:8080/webhooks/e2b", &"a secret of 32 characters or more".to_owned().into())?;
//! let ledger = provider.ledger();
//! let summary = provider.run(shutdown).await?;
//! # let _ = (ledger, summary); Ok(())
//! # }
//! ```

mod api;
mod deliver;
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
pub use trigger::{Trigger, TriggerError, TriggerOptions};

use crate::client::ClientError;

/// The team that the simulated sandboxes belong to, unless told otherwise.
pub const TEAM_ID: &str = "460355b3-4f64-48f9-9a16-4442817f79f5";

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
