#![allow(missing_docs)]
use crate::secret::Secret;
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub types: Vec<String>,
    pub sources: Vec<String>,
    pub filter: Option<String>,
    pub format: Format,
    pub start: String,
    pub renamed_from: Option<String>,
}
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// one
    #[default]
    Json,
    /// two
    Raw,
}
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    pub brokers: Vec<String>,
    #[serde(default)]
    pub topic: String,
    #[serde(default)]
    pub key: String,
    #[serde(default)]
    pub librdkafka: BTreeMap<String, Value>,
}
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatsSettings {
    pub servers: Vec<Secret>,
    pub subject: String,
}
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmqpSettings {
    pub url: Secret,
    pub exchange: String,
}
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    #[schemars(with = "String", extend("format" = "path"))]
    pub path: PathBuf,
}
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StdoutSettings {}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub listen: std::net::SocketAddr,
    pub tls: Option<Tls>,
    #[schemars(with = "String", extend("format" = "size"))]
    pub max_body: ByteSize,
    pub max_connections: usize,
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub request_timeout: Duration,
}
impl Default for Server {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], 8080).into(),
            tls: None,
            max_body: ByteSize::mib(1),
            max_connections: 4096,
            request_timeout: Duration::from_secs(10),
        }
    }
}
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    #[schemars(with = "String", extend("format" = "path"))]
    pub cert_file: PathBuf,
    #[schemars(with = "String", extend("format" = "path"))]
    pub key_file: PathBuf,
}
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    pub listen: std::net::SocketAddr,
    #[schemars(extend("format" = "path"))]
    pub token_file: Option<PathBuf>,
    pub hosts: Vec<String>,
}
impl Default for Admin {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 9464).into(), token_file: None, hosts: vec![] }
    }
}
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    #[schemars(with = "String", extend("format" = "path"))]
    pub path: PathBuf,
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub dedupe_window: Duration,
    #[schemars(with = "String", extend("format" = "size"))]
    pub max_size: ByteSize,
}
impl Default for Store {
    fn default() -> Self {
        Self { path: "./data".into(), dedupe_window: Duration::from_secs(8 * 86400), max_size: ByteSize::gib(10) }
    }
}
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    pub team_id: Option<String>,
    pub webhook: Option<Webhook>,
}
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    pub path: Option<String>,
    pub secrets: Vec<Secret>,
    #[serde(default)]
    pub signature: Dialect,
}
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    #[default]
    Auto,
    E2b,
    Hmac,
    E2bHmac,
}
