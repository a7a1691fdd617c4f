//! The relay's configuration in `dev`: what it and the simulated E2B must agree on, and everything switched on that one
//! would want to see.

use crate::secret::Secret;
use crate::simulator::TEAM_ID;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// The only source's name.
pub(super) const SOURCE: &str = "dev";
/// The only sink's.
pub(super) const SINK: &str = "dev";
/// Where the relay takes deliveries.
pub(super) const WEBHOOK_PATH: &str = "/webhooks/e2b";

/// Looks as E2B's keys do; the simulated one takes any.
const API_KEY: &str = "e2b_0123456789abcdef0123456789abcdef01234567";

/// The `--sink` cannot be used. Does not repeat it, since it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sink: not a nats://, kafka:// or amqp:// address with a host")]
pub(super) struct SinkAddressError;

/// What is made up for one run.
pub(super) struct Plan {
    secret: Secret,
    sink: Value,
}

impl Plan {
    /// Makes up a secret of 128 bits. Without an address for the sink, records go to standard output.
    pub(super) fn new(sink_address: Option<&Secret>, random: &mut fastrand::Rng) -> Result<Self, SinkAddressError> {
        let sink = match sink_address {
            Some(address) => sink(address.expose())?,
            None => json!({"type": "stdout"}),
        };
        Ok(Self { secret: Secret::new(format!("{:032x}", random.u128(..))), sink })
    }

    /// What deliveries are signed with.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// As YAML; holds the secret and perhaps the sink's password. `api` is where the simulated E2B listens.
    ///
    /// JSON is YAML, and quotes whatever a path may hold.
    pub(super) fn configuration(&self, store: &Path, api: SocketAddr) -> String {
        json!({
            "server": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "store": {"path": literal(&store.to_string_lossy())},
            "sources": {SOURCE: {
                "team_id": TEAM_ID,
                "webhook": {"path": WEBHOOK_PATH, "secrets": [self.secret.expose()]},
                "api": {"url": format!("http://{api}"), "api_key": API_KEY},
                // Short enough to be watched. The simulated list has no latecomers, so that a short overlap does.
                "backfill": {"interval": "2s", "overlap": "5s"},
                // Gauges only: a record of every sample would drown the events.
                "metrics": {"records": false, "max_series": 10},
                "reconcile": {"interval": "10s", "emit": true},
                "usage": true,
                "verify_kills": true,
            }},
            "sinks": {SINK: self.sink},
        })
        .to_string()
    }
}

/// The sink's section. A broker that is tried out seldom has a stream or an exchange yet: core NATS needs none, and
/// for AMQP both ends are declared.
fn sink(address: &str) -> Result<Value, SinkAddressError> {
    let (scheme, rest) = address.split_once("://").ok_or(SinkAddressError)?;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if host.is_empty() || host.starts_with(['/', ':']) {
        return Err(SinkAddressError);
    }
    match scheme {
        "kafka" => {
            let brokers: Vec<String> = rest.trim_end_matches('/').split(',').map(literal).collect();
            Ok(json!({"type": "kafka", "brokers": brokers}))
        }
        "nats" | "tls" => Ok(json!({"type": "nats", "servers": [literal(address)], "jetstream": false})),
        "amqp" | "amqps" => Ok(json!({
            "type": "amqp",
            "url": literal(address),
            "exchange": "e2b",
            "declare": {"exchange_type": "topic", "queue": "e2b-events"},
        })),
        _ => Err(SinkAddressError),
    }
}

/// In a configuration `$` begins a substitution; a password or a path may hold one.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{self, Environment, Loaded};

    const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);

    fn plan(sink: Option<&str>) -> Result<Plan, SinkAddressError> {
        Plan::new(sink.map(Secret::new).as_ref(), &mut fastrand::Rng::with_seed(1))
    }

    fn configured_sink(address: Option<&str>) -> Value {
        let text = plan(address).expect("valid").configuration(Path::new("/data"), API);
        let tree: Value = serde_json::from_str(&text).expect("json");
        tree["sinks"][SINK].clone()
    }

    #[test]
    fn the_configuration_is_sound_for_every_kind_of_sink() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("dev.yaml");
        for sink in
            [None, Some("kafka://127.0.0.1:9092"), Some("nats://127.0.0.1:4222"), Some("amqp://u:p$w@h:5672/%2f")]
        {
            let text = plan(sink).expect("a plan").configuration(&folder.path().join("\"$tore"), API);
            std::fs::write(&file, text).expect("the configuration");
            let loaded = settings::load(std::slice::from_ref(&file), &Environment::default());
            let Loaded { settings, warnings, .. } = loaded.unwrap_or_else(|problems| panic!("{sink:?}: {problems}"));
            assert!(settings.store.path.ends_with("\"$tore"));
            assert_eq!(settings.sinks.len(), 1);
            assert!(warnings.is_empty(), "{sink:?}: {warnings:?}");
            assert!(settings.server.listen.ip().is_loopback() && settings.admin.listen.ip().is_loopback());
        }
    }

    #[test]
    fn a_sink_is_chosen_by_its_address() {
        assert_eq!(configured_sink(None), json!({"type": "stdout"}));
        let kafka = json!({"type": "kafka", "brokers": ["a:9092", "b:9092"]});
        assert_eq!(configured_sink(Some("kafka://a:9092,b:9092/")), kafka);
        assert_eq!(configured_sink(Some("nats://a:4222"))["servers"][0], "nats://a:4222");
        assert_eq!(configured_sink(Some("amqp://u:p$1@a:5672/%2f"))["url"], "amqp://u:p$$1@a:5672/%2f");
    }

    #[test]
    fn any_other_address_is_refused_without_repeating_it() {
        for address in ["a:9092", "http://a", "kafka://", "nats://:4222", "amqp://u:secret@", "amqp://u:secret@/x"] {
            let error = plan(Some(address)).err().expect(address);
            assert!(!error.to_string().contains("secret"));
        }
    }
}
