//! What can be set of a Kafka sink.

use super::client::Batching;
use super::oauth::Tokens;
use super::properties::Properties;
use crate::secret::Secret;
use crate::sink::InvalidSetting;
use rdkafka::error::KafkaError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Longest name of a topic that a broker takes.
pub(super) const MAX_TOPIC: usize = 249;

/// Records to Apache Kafka, by an idempotent producer with `acks=all`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` of one or more brokers to begin with; the client learns of the others from them. Required.
    pub brokers: Vec<String>,
    /// The topic, which must exist unless the brokers make topics by themselves. A template over the record is allowed
    /// after a literal prefix; a record whose topic then does not exist is a dead letter.
    pub topic: String,
    /// Where a record goes whose topic, made by a template, does not exist; its header `e2b-relay-topic` says which that
    /// was. Must exist. Default: it becomes a dead letter.
    pub fallback_topic: Option<String>,
    /// Template of the record's key. Records of one key are in one partition, and in order there.
    pub key: String,
    /// How the client packs batches: `lz4` costs the least CPU and every consumer library of today reads it; `zstd`
    /// packs closest and needs brokers from 2.1 on; `gzip`, `snappy`, or `none`.
    pub compression: Compression,
    /// Whether the brokers drop what the client repeats. `false` is for clusters that do not allow it, as before Kafka 2.8
    /// without the right IDEMPOTENT_WRITE: then one request at a time is on its way to each broker, which keeps the
    /// order and costs throughput, and a record whose confirmation was lost is there twice.
    pub idempotence: bool,
    /// Whether each batch is one transaction together with the sink's position, which is kept in the topic
    /// `e2b-relay.positions` (one partition, compacted; to be made before): consumers with `read_committed` then see no
    /// record twice, whatever crashes. Replayed records and retried dead letters are outside of it.
    pub exactly_once: bool,
    /// TLS to the brokers. Default: off. `tls: {}` verifies them against the system's roots.
    pub tls: Option<Tls>,
    /// Accepts any certificate, under any name. For tests; the status page shows it.
    pub insecure_skip_verify: bool,
    /// How to authenticate. Default: not at all, or by the certificate in `tls`.
    pub sasl: Option<Sasl>,
    /// Passed through to librdkafka: its properties by its names (CONFIGURATION.md there). What the relay's promises
    /// rest on cannot be set.
    pub librdkafka: Properties,
}

/// TLS to the brokers.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file or folder of the roots to trust. Default: the system's.
    #[schemars(extend("format" = "path"))]
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate to show to the brokers.
    #[schemars(extend("format" = "path"))]
    pub cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    #[schemars(extend("format" = "path"))]
    pub key_file: Option<PathBuf>,
    /// The private key's passphrase.
    pub key_password: Option<Secret>,
}

/// Credentials for the brokers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512` with a name and a password; `OAUTHBEARER` with tokens.
    pub mechanism: Mechanism,
    /// The user's name.
    #[serde(default)]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// OAUTHBEARER: the URL that gives tokens for client credentials (RFC 6749, section 4.4).
    #[serde(default)]
    pub token_url: Option<String>,
    /// OAUTHBEARER: who the relay is there.
    #[serde(default)]
    pub client_id: Option<String>,
    /// OAUTHBEARER: what proves it.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// OAUTHBEARER: the scopes to ask for, with a space between them. Default: what the endpoint gives unasked.
    #[serde(default)]
    pub scope: Option<String>,
}

impl Sasl {
    /// With nothing but the mechanism.
    pub fn new(mechanism: Mechanism) -> Self {
        Self {
            mechanism,
            username: None,
            password: None,
            token_url: None,
            client_id: None,
            client_secret: None,
            scope: None,
        }
    }

    /// Each mechanism wants its own keys, and would not look at the others.
    fn check(&self) -> Result<(), InvalidSetting> {
        let is_oauth = self.mechanism == Mechanism::OAuthBearer;
        for (key, is_given, is_oauths) in [
            ("username", self.username.is_some(), false),
            ("password", self.password.is_some(), false),
            ("token_url", self.token_url.is_some(), true),
            ("client_id", self.client_id.is_some(), true),
            ("client_secret", self.client_secret.is_some(), true),
            ("scope", self.scope.is_some(), true),
        ] {
            let is_own = is_oauths == is_oauth;
            let message = match is_given {
                true if !is_own => FOREIGN,
                false if is_own && key != "scope" => MISSING,
                _ => continue,
            };
            return Err(InvalidSetting::new(format!("sasl.{key}"), message));
        }
        if is_oauth { Tokens::new(self).map(drop) } else { Ok(()) }
    }
}

/// Of a key that the mechanism cannot do without.
pub(super) const MISSING: &str = "is required by this sasl.mechanism";
const FOREIGN: &str = "is not for this sasl.mechanism; leave it out";

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// RFC 4616; the password travels as it is, so use it with TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 7677's scheme with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// RFC 7628; the token travels as it is, so use it with TLS.
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
}

/// How batches are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// DEFLATE.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            topic: "e2b.events".to_owned(),
            key: "{{ sandbox_id }}".to_owned(),
            fallback_topic: None,
            compression: Compression::default(),
            idempotence: true,
            exactly_once: false,
            tls: None,
            insecure_skip_verify: false,
            sasl: None,
            librdkafka: Properties::default(),
        }
    }
}

impl Settings {
    /// Refuses what cannot work, and what librdkafka does not know or would not take.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        if self.brokers.is_empty() {
            return Err(InvalidSetting::new("brokers", "is required: one or more host:port"));
        }
        for broker in &self.brokers {
            check_broker(broker)?;
        }
        check_topic("topic", &self.topic)?;
        if let Some(fallback) = &self.fallback_topic {
            if !self.is_topic_templated() {
                let message = "is only for a `topic` with a template in it: a literal one that is missing halts the sink \
                               until it is there; leave it out";
                return Err(InvalidSetting::new("fallback_topic", message));
            }
            if is_template(fallback) {
                return Err(InvalidSetting::new("fallback_topic", "must be one topic's name, without a template"));
            }
            check_topic("fallback_topic", fallback)?;
        }
        if self.key.is_empty() {
            let message = "is empty, which would spread each sandbox over all partitions; leave it out for \
                           \"{{ sandbox_id }}\"";
            return Err(InvalidSetting::new("key", message));
        }
        if self.exactly_once && !self.idempotence {
            let message = "needs `idempotence: true`; leave one of them out";
            return Err(InvalidSetting::new("exactly_once", message));
        }
        self.librdkafka.check()?;
        self.check_security()?;
        self.client_config(Batching::Full).create_native_config().map(drop).map_err(|error| self.explain(&error))
    }

    fn check_security(&self) -> Result<(), InvalidSetting> {
        if let Some(tls) = &self.tls
            && tls.cert_file.is_some() != tls.key_file.is_some()
        {
            return Err(InvalidSetting::new("tls", "has only one of cert_file and key_file; set both or neither"));
        }
        if let Some(sasl) = &self.sasl {
            sasl.check()?;
        }
        let protocol = self.librdkafka.get("security.protocol");
        if protocol.is_some() && (self.tls.is_some() || self.sasl.is_some()) {
            let message = "follows from `tls` and `sasl`; leave it out";
            return Err(InvalidSetting::new("librdkafka.security.protocol", message));
        }
        let encrypted = self.protocol().ends_with("ssl");
        if self.insecure_skip_verify && !encrypted {
            let message = "has no effect without TLS; set `tls: {}` too, or leave it out";
            return Err(InvalidSetting::new("insecure_skip_verify", message));
        }
        for (name, _) in self.librdkafka.iter() {
            let typed = match name {
                "ssl.ca.location" | "ssl.certificate.location" | "ssl.key.location" | "ssl.key.password"
                    if self.tls.is_some() =>
                {
                    "tls"
                }
                "sasl.mechanism" | "sasl.username" | "sasl.password" if self.sasl.is_some() => "sasl",
                _ => continue,
            };
            let message = format!("is said by `{typed}` already; leave one of them out");
            return Err(InvalidSetting::new(format!("librdkafka.{name}"), message));
        }
        Ok(())
    }

    /// Whether the topic depends on the record, and so on what strangers write into metadata.
    pub(super) fn is_topic_templated(&self) -> bool {
        is_template(&self.topic)
    }

    /// Says which key librdkafka does not like. Its own words may hold the value, so only its verdict is kept.
    fn explain(&self, error: &KafkaError) -> InvalidSetting {
        match error {
            KafkaError::ClientConfig(_, verdict, name, _) => InvalidSetting::new(
                format!("librdkafka.{name}"),
                format!("librdkafka says: {}", verdict.to_lowercase()),
            ),
            other => InvalidSetting::new("librdkafka", other.to_string()),
        }
    }
}

fn is_template(topic: &str) -> bool {
    topic.contains("{{") || topic.contains("{%")
}

fn check_broker(broker: &str) -> Result<(), InvalidSetting> {
    let invalid = |message: String| Err(InvalidSetting::new("brokers", message));
    let Some((host, port)) = broker.rsplit_once(':') else {
        return invalid(format!("{broker:?} has no port; write {broker}:9092 if that is it"));
    };
    if broker.contains("://") || broker.contains(['/', '@', ',', ' ']) || host.is_empty() {
        return invalid("is a list of host:port each, without a scheme, a user or a path".to_owned());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        Ok(0) | Err(_) => invalid(format!("{broker:?} has no usable port after its last colon")),
    }
}

/// What stands before a template must be a topic's prefix, and a literal one a whole name.
fn check_topic(key: &str, topic: &str) -> Result<(), InvalidSetting> {
    let invalid = |message: &str| Err(InvalidSetting::new(key, message));
    let literal = topic.split(['{']).next().unwrap_or_default();
    let literal = if is_template(topic) { literal } else { topic };
    match literal {
        "" if topic.is_empty() => invalid("is empty; leave it out for its default"),
        "" => invalid("begins with a template, so that a record could choose any topic; begin with a literal prefix"),
        "." | ".." if !is_template(topic) => invalid("is a name that brokers refuse"),
        _ if literal.len() > MAX_TOPIC => invalid("is longer than 249 characters"),
        _ if literal.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => Ok(()),
        _ => invalid("may hold only letters, digits, '.', '_' and '-' outside a template"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Settings {
        Settings { brokers: vec!["127.0.0.1:9092".to_owned()], ..Settings::default() }
    }

    fn sasl() -> Option<Sasl> {
        let (username, password) = (Some("relay".to_owned()), Some(Secret::new("canary")));
        Some(Sasl { username, password, ..Sasl::new(Mechanism::ScramSha512) })
    }

    fn passthrough(name: &str, value: &str) -> Properties {
        Properties::from_iter([(name, value)])
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(fine().check(), Ok(()));
        let templated = |fallback: &str| Settings {
            topic: "e2b.{{ type }}".to_owned(),
            fallback_topic: Some(fallback.to_owned()),
            ..fine()
        };
        let brokers = |broker: &str| vec![broker.to_owned()];
        let no_ca = Tls { ca_file: Some("/no/such/ca.pem".into()), ..Tls::default() };
        assert_eq!(Settings { tls: Some(no_ca), ..fine() }.check_files().unwrap_err().key, "tls.ca_file");
        let cert_only = Tls { cert_file: Some("x.pem".into()), ..Tls::default() };
        for (settings, key) in [
            (Settings::default(), "brokers"),
            (Settings { brokers: brokers("kafka"), ..fine() }, "brokers"),
            (Settings { brokers: brokers("kafka://a:9092"), ..fine() }, "brokers"),
            (Settings { brokers: brokers("a:0"), ..fine() }, "brokers"),
            (Settings { topic: String::new(), ..fine() }, "topic"),
            (Settings { topic: "a b".to_owned(), ..fine() }, "topic"),
            (Settings { topic: "{{ type }}".to_owned(), ..fine() }, "topic"),
            (Settings { topic: "..".to_owned(), ..fine() }, "topic"),
            (Settings { topic: "x".repeat(250), ..fine() }, "topic"),
            (Settings { fallback_topic: Some("e2b.rest".into()), ..fine() }, "fallback_topic"),
            (templated("{{ type }}"), "fallback_topic"),
            (templated("a b"), "fallback_topic"),
            (Settings { key: String::new(), ..fine() }, "key"),
            (Settings { exactly_once: true, idempotence: false, ..fine() }, "exactly_once"),
            (Settings { tls: Some(cert_only), ..fine() }, "tls"),
            (Settings { insecure_skip_verify: true, ..fine() }, "insecure_skip_verify"),
            (Settings { sasl: Some(Sasl { password: None, ..sasl().unwrap() }), ..fine() }, "sasl.password"),
            (Settings { sasl: Some(Sasl { scope: Some("x".into()), ..sasl().unwrap() }), ..fine() }, "sasl.scope"),
            (Settings { sasl: Some(Sasl::new(Mechanism::OAuthBearer)), ..fine() }, "sasl.token_url"),
            (Settings { librdkafka: passthrough("acks", "1"), ..fine() }, "librdkafka.acks"),
            (Settings { librdkafka: passthrough("lingr.ms", "1"), ..fine() }, "librdkafka.lingr.ms"),
            (Settings { librdkafka: passthrough("linger.ms", "soon"), ..fine() }, "librdkafka.linger.ms"),
            (
                Settings { librdkafka: passthrough("security.protocol", "ssl"), sasl: sasl(), ..fine() },
                "librdkafka.security.protocol",
            ),
            (
                Settings { librdkafka: passthrough("sasl.mechanisms", "PLAIN"), sasl: sasl(), ..fine() },
                "librdkafka.sasl.mechanism",
            ),
        ] {
            let invalid = settings.check().unwrap_err();
            assert_eq!(invalid.key, key, "{invalid}");
        }
        assert_eq!(templated("e2b.rest").check(), Ok(()));
    }

    #[test]
    fn a_bad_value_is_not_repeated_in_the_message() {
        let settings =
            Settings { librdkafka: passthrough("sasl.kerberos.min.time.before.relogin", "canary"), ..fine() };
        let invalid = settings.check().unwrap_err();
        assert!(!invalid.to_string().contains("canary"), "{invalid}");
    }

    #[test]
    fn credentials_are_not_shown() {
        let settings = Settings { sasl: sasl(), librdkafka: passthrough("ssl.key.pem", "canary"), ..fine() };
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
