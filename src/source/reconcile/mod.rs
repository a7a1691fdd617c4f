//! The set of live sandboxes against the provider's list.

mod settings;

pub use settings::Settings;
