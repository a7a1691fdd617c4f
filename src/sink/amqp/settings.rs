//! What an AMQP sink is told.

use crate::secret::Secret;
use crate::sink::{InvalidSetting, peer};
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often each side says that it is there; twice that without a word, and the connection counts as dead. RabbitMQ's
/// documentation advises 5 to 20 s. `?heartbeat=` in the URL is taken instead.
const HEARTBEAT_SECONDS: u16 = 10;

/// Settings of a sink of type `amqp`: AMQP 0.9.1, as RabbitMQ speaks it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS; the virtual host `/` is written `%2f`. This or
    /// `urls` is required.
    pub url: Secret,
    /// Several such, of one cluster, in place of `url`. Each attempt to connect tries them in the order given, the first
    /// one first.
    pub urls: Vec<Secret>,
    /// The exchange to publish to; empty for the default exchange, which routes to the queue named by the routing key.
    pub exchange: String,
    /// Templates over the record are allowed; at most 255 bytes once rendered.
    pub routing_key: String,
    /// What to declare at each connection, and when it turns out to be gone; nothing unless given.
    pub declare: Option<Declare>,
    /// What to do with a record that no queue is bound for.
    pub unroutable: Unroutable,
    /// PEM file with the authorities to trust instead of the system's.
    #[schemars(extend("format" = "path"))]
    pub ca_file: Option<PathBuf>,
    /// PEM file with a certificate to show to the broker, and its chain. `?auth_mechanism=external` in the URL logs in by
    /// it, where the broker has `rabbitmq_auth_mechanism_ssl`.
    #[schemars(extend("format" = "path"))]
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of `cert_file`, without a passphrase.
    #[schemars(extend("format" = "path"))]
    pub key_file: Option<PathBuf>,
    /// Takes any certificate. The status page shows it.
    pub insecure_skip_verify: bool,
    /// For one attempt to connect to one URL.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub connect_timeout: Duration,
    /// How long a confirmation may take; then the record is sent again. Longer than other sinks', since the broker does
    /// not know an id again: what was confirmed too late is in the queue twice.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub ack_timeout: Duration,
    /// How many records may wait for their confirmation at once; each takes a channel of the connection. The broker's own
    /// limit on channels is kept.
    pub max_unconfirmed: u16,
}

/// An exchange and, if it is named, a queue bound to it; both durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Declare {
    /// The exchange's type.
    pub exchange_type: ExchangeType,
    /// The queue; none if empty.
    pub queue: String,
    /// The queue's type; the virtual host's default if not given.
    pub queue_type: Option<QueueType>,
    /// Which routing keys the queue gets.
    pub binding_key: String,
}

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeType {
    /// By pattern over the routing key.
    Topic,
    /// By the routing key itself.
    Direct,
    /// To every queue.
    Fanout,
    /// By the record's headers.
    Headers,
}

/// How a queue keeps what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueType {
    /// On one node.
    Classic,
    /// Replicated by Raft.
    Quorum,
}

/// What to do with a record that the broker has no queue for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unroutable {
    /// Keep it as a dead letter; until the sink's first record was routed, stop it instead: then there is no queue at all.
    DeadLetter,
    /// Count it as filtered.
    Drop,
    /// Stop the sink until there is a queue.
    Halt,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Secret::new(""),
            urls: Vec::new(),
            exchange: "e2b".to_owned(),
            routing_key: "{{ type }}".to_owned(),
            declare: None,
            unroutable: Unroutable::DeadLetter,
            ca_file: None,
            cert_file: None,
            key_file: None,
            insecure_skip_verify: false,
            connect_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(30),
            max_unconfirmed: 256,
        }
    }
}

impl Default for Declare {
    fn default() -> Self {
        Self { exchange_type: ExchangeType::Topic, queue: String::new(), queue_type: None, binding_key: "#".to_owned() }
    }
}

impl QueueType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

/// One of the URLs.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) uri: AMQPUri,
    /// For messages.
    pub(super) peer: Arc<str>,
}

impl Server {
    fn parse(url: &Secret) -> Option<Self> {
        let mut uri: AMQPUri = url.expose().parse().ok()?;
        let peer = peer::without_credentials(url.expose());
        // The parser takes every IPv6 address for localhost.
        if let Some((host, _)) = peer.split_once("://[").and_then(|(_, rest)| rest.split_once(']')) {
            uri.authority.host = host.to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Some(Self { uri, peer: peer.into() })
    }
}

impl Settings {
    /// Parses the URLs; at least one. Whatever is wrong with one, its text is not shown.
    pub(super) fn servers(&self) -> Result<Vec<Server>, InvalidSetting> {
        const EXAMPLE: &str = "amqp://user:password@host:5672/%2f, or amqps://";
        let is_one = !self.url.expose().is_empty();
        if is_one && !self.urls.is_empty() {
            return Err(InvalidSetting::new("urls", "stands beside url; keep one of them"));
        }
        if self.urls.is_empty() {
            let invalid = || InvalidSetting::new("url", format!("is required: {EXAMPLE}"));
            return Ok(vec![Server::parse(&self.url).ok_or_else(invalid)?]);
        }
        let numbered = self.urls.iter().enumerate();
        let invalid = |place| InvalidSetting::new("urls", format!("number {} is not {EXAMPLE}", place + 1));
        numbered.map(|(place, url)| Server::parse(url).ok_or_else(|| invalid(place))).collect()
    }

    pub(super) fn tls(&self) -> peer::Tls<'_> {
        peer::Tls {
            ca_file: self.ca_file.as_deref(),
            cert_file: self.cert_file.as_deref(),
            key_file: self.key_file.as_deref(),
            insecure_skip_verify: self.insecure_skip_verify,
        }
    }

    /// Refuses what cannot work, as far as it shows without the network and the disk.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        self.servers()?;
        self.check()
    }

    /// Refuses files that cannot be used. Blocks on the disk.
    pub fn check_files(&self) -> Result<(), InvalidSetting> {
        peer::tls(&self.tls()).map(drop)
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        let short = |key, text: &str| match ShortString::try_new(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(InvalidSetting::new(key, error.to_string())),
        };
        short("exchange", &self.exchange)?;
        self.tls().identity()?;
        if self.max_unconfirmed == 0 {
            return Err(InvalidSetting::new("max_unconfirmed", "must be at least 1"));
        }
        let Some(declare) = &self.declare else { return Ok(()) };
        short("declare.queue", &declare.queue)?;
        short("declare.binding_key", &declare.binding_key)?;
        if self.exchange.is_empty() {
            return Err(InvalidSetting::new(
                "declare",
                "the default exchange (`exchange` is empty) cannot be declared",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Settings {
        Settings { url: Secret::new(url), ..Settings::default() }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_being_shown() {
        for url in
            ["", "canary", "http://u:canary@h", "amqp://u:can/ary@h:x", "amqp://u:canary@h?heartbeat=x", "amqp:canary"]
        {
            let several = Settings { urls: vec![Secret::new("amqp://h"), Secret::new(url)], ..Settings::default() };
            for (settings, key) in [(settings(url), "url"), (several, "urls")] {
                let error = settings.servers().expect_err(url);
                assert_eq!(error.key, key);
                assert!(!error.message.contains("canary") && !error.message.contains("can/ary"), "{error}");
            }
        }
        let both = Settings { urls: vec![Secret::new("amqp://h")], ..settings("amqp://h") };
        assert_eq!(both.servers().expect_err("two keys for one thing").key, "urls");
    }

    #[test]
    fn the_host_is_the_one_named_and_heartbeats_are_on() {
        for (url, host, vhost, heartbeat) in [
            ("amqp://u:p@[::1]:5672/%2f", "::1", "/", 10),
            ("amqp://u:p@[::1]", "::1", "/", 10),
            ("amqp://127.0.0.1:5672/a%2fb?heartbeat=3", "127.0.0.1", "a/b", 3),
            ("amqps://rabbit", "rabbit", "/", 10),
        ] {
            let uri = settings(url).servers().expect(url).remove(0).uri;
            assert_eq!(
                (uri.authority.host.as_str(), uri.vhost.as_str(), uri.query.heartbeat),
                (host, vhost, Some(heartbeat)),
                "{url}"
            );
        }
    }

    #[test]
    fn names_that_the_protocol_cannot_carry_are_refused() {
        let long = "x".repeat(256);
        let declare = |queue: &str| Some(Declare { queue: queue.to_owned(), ..Declare::default() });
        for (settings, key) in [
            (Settings { exchange: long.clone(), ..settings("amqp://h") }, "exchange"),
            (Settings { declare: declare(&long), ..settings("amqp://h") }, "declare.queue"),
            (Settings { declare: declare("q"), exchange: String::new(), ..settings("amqp://h") }, "declare"),
            (Settings { max_unconfirmed: 0, ..settings("amqp://h") }, "max_unconfirmed"),
            (Settings { cert_file: Some("client.pem".into()), ..settings("amqp://h") }, "cert_file"),
        ] {
            assert_eq!(settings.check().expect_err(key).key, key);
        }
    }
}
