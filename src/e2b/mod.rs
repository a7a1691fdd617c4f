//! E2B's API, as far as the relay reads it: events, webhooks, deliveries, sandboxes, metrics. The only room that knows
//! its paths, parameters and replies.
//!
//! ```text
//! poller ─► Api (budget ─► request ─► again, after back-off) ─► Answer { value, date } | ApiError
//! ```
//!
//! Sources: the provider's two specifications (e2b-dev/infra `spec/openapi.yml`, e2b-dev/dashboard
//! `spec/openapi.argus.yaml`). Events are handed on as the JSON that came; `decode` makes sense of them.

mod api;
mod budget;
mod deliveries;
mod error;
mod events;
mod metrics;
mod rows;
mod sandboxes;
mod settings;
mod webhooks;

pub use api::{Answer, Api, Endpoint};
pub use budget::Budget;
pub use deliveries::{Attempt, Delivery, DeliveryPage, DeliveryQuery};
pub use error::ApiError;
pub use events::{EventsPage, MAX_EVENTS};
pub use metrics::{MAX_SANDBOXES, Sample};
pub use sandboxes::{ListedSandbox, SandboxPage};
pub use settings::{DEFAULT_URL, KEY_VARIABLE, Settings};
pub use webhooks::{EVENT_TYPES, NewWebhook, SHORTEST_SECRET, Webhook, WebhookChange};
