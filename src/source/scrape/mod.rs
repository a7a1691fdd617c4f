//! What the sandboxes use, from the provider's metrics API.

mod settings;

pub use settings::Settings;
