#![allow(missing_docs)]
pub mod admin;
pub mod deliver;
pub mod http;
pub mod source;

pub mod webhook;
pub mod nats {
    use crate::secret::Secret;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    /// Nats.
    #[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct Settings {
        pub servers: Vec<Secret>,
        pub subject: String,
        pub jetstream: bool,
        pub stream: Option<Stream>,
    }
    #[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    pub struct Stream {
        pub name: String,
        pub subjects: Vec<String>,
        pub create: bool,
    }
}
pub mod amqp {
    use crate::secret::Secret;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    /// Amqp.
    #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Settings {
        pub url: Secret,
        pub exchange: String,
        pub routing_key: String,
        #[serde(default)]
        pub declare: Option<serde_json::Value>,
    }
}
