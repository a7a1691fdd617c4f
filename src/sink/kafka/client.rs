//! What librdkafka is told.

use super::settings::{Compression, Mechanism, Settings};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::path::{Path, PathBuf};

/// How records are batched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batching {
    /// As many as fit.
    Full,
    /// One record per batch, so that a broker's refusal of a batch is about one record.
    Single,
}

/// Set unless the user sets them.
const DEFAULTS: [(&str, &str); 11] = [
    ("client.id", "e2b-relay"),
    // Five milliseconds buy most of the batching.
    ("linger.ms", "5"),
    // About a hundred records, 1/8 of the brokers' default max.message.bytes: a batch is then never refused as too
    // large for the sum of its records, unless a topic's limit is below this.
    ("batch.size", "131072"),
    // The broker knows its own limit, which counts packed bytes; below this one it is the one to refuse.
    ("message.max.bytes", "8388608"),
    // Above what `deliver` hands over unconfirmed: a full queue is a failed send.
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "262144"),
    // librdkafka waits so long for a topic to appear before it says that it does not exist. Its own 30 s would hide a
    // misspelt one for as long; 5 s are enough for brokers that make topics by themselves.
    ("topic.metadata.propagation.max.ms", "5000"),
    ("reconnect.backoff.max.ms", "5000"),
    // As in the Java client; librdkafka's own 30 s hold on to a broker that accepts and says nothing.
    ("socket.connection.setup.timeout.ms", "10000"),
    ("socket.keepalive.enable", "true"),
    // Like the Java client's, so that the relay and other producers agree on a key's partition.
    ("partitioner", "murmur2_random"),
];

/// How long a transaction may take before the brokers abort it, and how long others wait for one that was left undone.
const TRANSACTION_TIMEOUT_MS: &str = "60000";

/// Of what is set here.
const PRODUCERS_ONLY: [&str; 12] = [
    "acks",
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "enable.idempotence",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "message.timeout.ms",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "topic.metadata.propagation.max.ms",
];

impl Settings {
    /// `security.protocol`, in lower case.
    pub(super) fn protocol(&self) -> String {
        match (&self.tls, &self.sasl, self.librdkafka.get("security.protocol")) {
            (Some(_), Some(_), _) => "sasl_ssl".to_owned(),
            (Some(_), None, _) => "ssl".to_owned(),
            (None, Some(_), _) => "sasl_plaintext".to_owned(),
            (None, None, given) => given.unwrap_or("plaintext").to_ascii_lowercase(),
        }
    }

    /// How large a batch of several records may grow, in bytes. A record larger than this is alone in its batch.
    pub(super) fn batch_size(&self) -> usize {
        let default = || DEFAULTS.iter().find(|(name, _)| *name == "batch.size").map(|(_, value)| *value);
        self.librdkafka.get("batch.size").or_else(default).and_then(|size| size.parse().ok()).unwrap_or(usize::MAX)
    }

    /// What a transactional producer is told. Records in it may expire: that aborts the transaction, and loses nothing.
    pub(super) fn transactional_config(&self, batching: Batching, id: &str) -> ClientConfig {
        let mut config = self.client_config(batching);
        config.remove("message.timeout.ms");
        config.set("transactional.id", id).set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        config
    }

    /// What a consumer is told that reads what transactions have committed. librdkafka warns of what is a producer's only.
    pub(super) fn consumer_config(&self) -> ClientConfig {
        let mut config = self.client_config(Batching::Full);
        for name in PRODUCERS_ONLY {
            config.remove(name);
        }
        // Without a group it could not be polled; nothing is committed, so that no right to one is needed.
        config
            .set("group.id", "e2b-relay")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed");
        config
    }

    /// Everything that librdkafka is told.
    pub(super) fn client_config(&self, batching: Batching) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in DEFAULTS {
            config.set(name, value);
        }
        let protocol = self.protocol();
        if protocol.ends_with("ssl") {
            // OpenSSL is linked in, so its own default is not where this system keeps its roots.
            if !self.librdkafka.iter().any(|(name, _)| name.starts_with("ssl.ca.")) {
                config.set("ssl.ca.location", "probe");
            }
            if self.insecure_skip_verify {
                config.set("enable.ssl.certificate.verification", "false");
            }
        }
        for (name, value) in self.librdkafka.iter() {
            config.set(name, value);
        }
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            let mut location = |name: &str, path: &Option<PathBuf>| {
                if let Some(path) = path {
                    config.set(name, text(path));
                }
            };
            location("ssl.ca.location", &tls.ca_file);
            location("ssl.certificate.location", &tls.cert_file);
            location("ssl.key.location", &tls.key_file);
            if let Some(password) = &tls.key_password {
                config.set("ssl.key.password", password.expose());
            }
        }
        if let Some(sasl) = &self.sasl {
            let mechanism = match sasl.mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
                Mechanism::OAuthBearer => "OAUTHBEARER",
            };
            config.set("sasl.mechanism", mechanism);
            if let (Some(username), Some(password)) = (&sasl.username, &sasl.password) {
                config.set("sasl.username", username);
                config.set("sasl.password", password.expose());
            }
        }
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        config.set("compression.codec", compression);
        if !self.idempotence {
            // With two, one that fails would land behind the next.
            config.set("max.in.flight.requests.per.connection", "1");
        }
        if batching == Batching::Single {
            config.set("batch.num.messages", "1");
        }
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("enable.idempotence", self.idempotence.to_string())
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            // Notices and worse; with `debug` in the passthrough also what was asked for.
            .set_log_level(match self.librdkafka.get("debug") {
                Some(_) => RDKafkaLogLevel::Debug,
                None => RDKafkaLogLevel::Info,
            });
        config
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Properties, Sasl, Tls};
    use super::*;
    use crate::secret::Secret;

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
    fn librdkafka_is_told_what_promises_rest_on() {
        let config = fine().client_config(Batching::Full);
        for (name, value) in [("enable.idempotence", "true"), ("acks", "all"), ("message.timeout.ms", "0")] {
            assert_eq!(config.get(name), Some(value));
        }
        let without = Settings { idempotence: false, ..fine() }.client_config(Batching::Full);
        assert_eq!(without.get("enable.idempotence"), Some("false"));
        assert_eq!(without.get("max.in.flight.requests.per.connection"), Some("1"));
        let own = Settings { librdkafka: passthrough("queue.buffering.max.ms", "50"), ..fine() };
        assert_eq!(own.client_config(Batching::Full).get("linger.ms"), Some("50"));
        assert_eq!(own.client_config(Batching::Single).get("batch.num.messages"), Some("1"));
        assert_eq!(Settings { librdkafka: passthrough("batch.size", "7000"), ..fine() }.batch_size(), 7000);
        assert_eq!(fine().batch_size(), 131_072);
    }

    #[test]
    fn the_protocol_follows_from_tls_and_sasl_and_roots_are_looked_for() {
        for (tls, sasl, protocol) in [
            (None, None, "plaintext"),
            (Some(Tls::default()), None, "ssl"),
            (None, sasl(), "sasl_plaintext"),
            (Some(Tls::default()), sasl(), "sasl_ssl"),
        ] {
            let encrypted = tls.is_some();
            let config = Settings { tls, sasl, ..fine() }.client_config(Batching::Full);
            assert_eq!(config.get("security.protocol"), Some(protocol));
            assert_eq!(config.get("ssl.ca.location"), encrypted.then_some("probe"));
        }
        let own = Settings { tls: Some(Tls { ca_file: Some("/x/ca.pem".into()), ..Tls::default() }), ..fine() };
        assert_eq!(own.client_config(Batching::Full).get("ssl.ca.location"), Some("/x/ca.pem"));
    }
}
