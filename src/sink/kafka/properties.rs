//! librdkafka's own properties: which may be passed through, under which of their names, and what may be shown.

use crate::secret::{MASK, Secret};
use crate::sink::InvalidSetting;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Properties for librdkafka by name. A value that may be a credential is masked wherever the settings are shown.
#[derive(Debug, Clone, Default)]
pub struct Properties(BTreeMap<String, Secret>);

/// Properties on which the relay's promises rest or that have a setting of their own, and what to do instead.
const REFUSED: [(&str, &str); 28] = [
    ("acks", ACKS),
    ("request.required.acks", ACKS),
    ("enable.idempotence", "use `idempotence`"),
    ("enable.gapless.guarantee", "one record that is refused would end the producer; leave it out"),
    ("message.timeout.ms", EXPIRY),
    ("delivery.timeout.ms", EXPIRY),
    ("retries", EXPIRY),
    ("message.send.max.retries", EXPIRY),
    ("max.in.flight", IDEMPOTENCE),
    ("max.in.flight.requests.per.connection", IDEMPOTENCE),
    ("queuing.strategy", IDEMPOTENCE),
    ("queue.buffering.backpressure.threshold", IDEMPOTENCE),
    ("transactional.id", "use `exactly_once`"),
    ("transaction.timeout.ms", "the relay chooses it; leave it out, and see `exactly_once`"),
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("compression.codec", "use `compression`"),
    ("compression.type", "use `compression`"),
    ("enable.ssl.certificate.verification", UNVERIFIED),
    ("ssl.endpoint.identification.algorithm", UNVERIFIED),
    ("delivery.report.only.error", "a delivery is confirmed by its report; leave it out"),
    ("enabled_events", "the relay chooses them; leave it out"),
    ("log.queue", "the relay chooses it; leave it out"),
    ("log_level", "choose by the relay's own log filter; leave it out"),
    ("statistics.interval.ms", "the relay does not publish them, see /metrics; leave it out"),
    ("test.mock.num.brokers", "it replaces the brokers; leave it out"),
    ("test.mock.broker.rtt", "there are no mock brokers; leave it out"),
    ("test.sasl.fail.enable", "it is for librdkafka's own tests; leave it out"),
];
const ACKS: &str = "always all, since a confirmation means that every in-sync replica has the record; leave it out";
const IDEMPOTENCE: &str = "the order of records rests on the idempotent producer's value; leave it out";
const EXPIRY: &str = "records never expire in the client, since one sent anew would land behind its successors; leave it \
                      out, and see sink_oldest_unsent_age_seconds";
const UNVERIFIED: &str = "use `insecure_skip_verify`, which the status page shows";

/// Those that send equal keys to one partition. The others would spread one sandbox over several.
const CONSISTENT_PARTITIONERS: [&str; 6] =
    ["consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"];

/// Other names of properties that the relay sets or asks for.
const ALIASES: [(&str, &str); 2] = [("queue.buffering.max.ms", "linger.ms"), ("sasl.mechanisms", "sasl.mechanism")];

/// A property's value is masked if its name holds one of these; librdkafka's own list of sensitive names is shorter.
const SENSITIVE: [&str; 8] = ["password", "pem", "secret", "token", "oauthbearer", "assertion", "private", "username"];

impl Properties {
    /// Every property by librdkafka's preferred name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (canonical(name), value.expose()))
    }

    /// The value of a property, under whichever of its names.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    /// Refuses what would undo a promise, or be said twice.
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        for name in self.0.keys() {
            if let Some((_, remedy)) = REFUSED.iter().find(|(refused, _)| refused == name) {
                return Err(InvalidSetting::new(format!("librdkafka.{name}"), format!("cannot be set here: {remedy}")));
            }
            let preferred = canonical(name);
            if preferred != name && self.0.contains_key(preferred) {
                let message = format!("is another name of {preferred}, which is set too; leave one of them out");
                return Err(InvalidSetting::new(format!("librdkafka.{name}"), message));
            }
        }
        match self.get("partitioner") {
            Some(partitioner) if !CONSISTENT_PARTITIONERS.contains(&partitioner) => Err(InvalidSetting::new(
                "librdkafka.partitioner",
                format!(
                    "would spread a sandbox over several partitions, and its order with it; use one of {}",
                    CONSISTENT_PARTITIONERS.join(", ")
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, preferred)| preferred)
}

fn is_sensitive(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SENSITIVE.iter().any(|part| name.contains(part)) || value.contains("-----BEGIN")
}

impl<S: Into<String>> FromIterator<(S, S)> for Properties {
    fn from_iter<I: IntoIterator<Item = (S, S)>>(properties: I) -> Self {
        Self(properties.into_iter().map(|(name, value)| (name.into(), Secret::new(value))).collect())
    }
}

/// What a property may be written as.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(Secret),
    Flag(bool),
    Whole(i64),
    Real(f64),
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let properties = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
        let text = |scalar| match scalar {
            Scalar::Text(text) => text,
            Scalar::Flag(flag) => Secret::new(flag.to_string()),
            Scalar::Whole(number) => Secret::new(number.to_string()),
            Scalar::Real(number) => Secret::new(number.to_string()),
        };
        Ok(Self(properties.into_iter().map(|(name, value)| (name, text(value))).collect()))
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            let value = value.expose();
            map.serialize_entry(name, if is_sensitive(name, value) { MASK } else { value })?;
        }
        map.end()
    }
}

impl JsonSchema for Properties {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LibrdkafkaProperties".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": {"type": ["string", "integer", "number", "boolean"]}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Properties {
        Properties::from_iter([(name, value)])
    }

    #[test]
    fn what_promises_rest_on_is_refused_with_a_remedy() {
        for (name, remedy) in REFUSED {
            let refused = one(name, "1").check().unwrap_err();
            assert_eq!(refused.key, format!("librdkafka.{name}"));
            assert!(refused.message.ends_with(remedy), "{refused}");
        }
        let refused = one("partitioner", "random").check().unwrap_err();
        assert_eq!(refused.key, "librdkafka.partitioner");
        assert!(refused.message.contains("murmur2_random"), "{refused}");
        assert_eq!(one("partitioner", "fnv1a").check(), Ok(()));
        assert_eq!(one("batch.size", "65536").check(), Ok(()));
    }

    #[test]
    fn one_property_under_two_names_is_refused() {
        let twice = Properties::from_iter([("linger.ms", "1"), ("queue.buffering.max.ms", "2")]);
        assert_eq!(twice.check().unwrap_err().key, "librdkafka.queue.buffering.max.ms");
        assert_eq!(one("queue.buffering.max.ms", "2").get("linger.ms"), Some("2"));
    }

    #[test]
    fn scalars_are_read_and_credentials_never_shown() {
        let properties: Properties = serde_json::from_str(
            r#"{"linger.ms": 0.5, "batch.size": 1000, "socket.keepalive.enable": true, "sasl.password": "canary",
                "ssl.key.pem": "canary", "sasl.oauthbearer.config": "canary", "x": "-----BEGIN canary"}"#,
        )
        .unwrap();
        assert_eq!(properties.get("linger.ms"), Some("0.5"));
        assert_eq!(properties.get("batch.size"), Some("1000"));
        assert_eq!(properties.get("socket.keepalive.enable"), Some("true"));
        assert_eq!(properties.get("sasl.password"), Some("canary"));
        let shown = serde_json::to_string(&properties).unwrap();
        assert!(shown.contains(r#""batch.size":"1000""#), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!format!("{properties:?}").contains("canary"));
        let wrong = serde_json::from_str::<Properties>(r#"{"sasl.password": ["canary"]}"#).unwrap_err();
        assert!(!wrong.to_string().contains("canary"), "{wrong}");
    }
}
