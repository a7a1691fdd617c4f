//! What `e2b-relay dev` is made of: a configuration for the relay with a secret of its own, and the simulator that
//! delivers to it. `app` runs both in one process.
//!
//! ```no_run
//! # async fn example(shutdown: e2b_relay::shutdown::Shutdown) -> Result<(), Box<dyn std::error::Error>> {
//! use e2b_relay::simulator::dev;
//! let plan = dev::Plan::new(dev::Options::default(), fastrand::Rng::new())?;
//! let configuration = plan.configuration("/tmp/e2b-relay-dev-1".as_ref()); // YAML: loaded as any other
//! // … start the relay with it; both listeners take a free port of the loopback …
//! let public: std::net::SocketAddr = "127.0.0.1:41234".parse()?;
//! let simulator = plan.simulator(public)?; // then: simulator.run(shutdown).await
//! # let _ = (configuration, simulator, shutdown); Ok(())
//! # }
//! ```

use super::{Options as SimulatorOptions, Simulator, SimulatorError, TEAM_ID};
use crate::secret::Secret;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Where the relay of `dev` takes deliveries.
pub const WEBHOOK_PATH: &str = "/webhooks/e2b";

/// The command's options.
#[derive(Debug, Clone)]
pub struct Options {
    /// Over 0; the default shows all six types within three seconds.
    pub events_per_second: f64,
    /// Until it is ended by hand, if there is none.
    pub duration: Option<Duration>,
    /// Part of the events that is not delivered, 0 to 1.
    pub drop_deliveries: f64,
    /// `nats://…`, `kafka://…` or `amqp://…`; else records go to stdout.
    pub sink: Option<Secret>,
}

impl Default for Options {
    fn default() -> Self {
        Self { events_per_second: 2.0, duration: None, drop_deliveries: 0.0, sink: None }
    }
}

/// The `--sink` cannot be used. Does not repeat it, since it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sink: not a nats://, kafka:// or amqp:// address with a host")]
pub struct SinkAddressError;

/// Everything that relay and simulator must agree on.
#[derive(Clone)]
pub struct Plan {
    options: Options,
    secret: Secret,
    sink: Value,
    seed: u64,
}

/// A sink's address may hold a password.
impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Plan {
    /// Makes up a secret of 128 bits.
    pub fn new(options: Options, mut random: fastrand::Rng) -> Result<Self, SinkAddressError> {
        let sink = match &options.sink {
            Some(address) => sink(address.expose())?,
            None => json!({"type": "stdout"}),
        };
        let secret = Secret::new(format!("{:032x}", random.u128(..)));
        Ok(Self { options, secret, sink, seed: random.u64(..) })
    }

    /// The relay's configuration, as YAML; holds the secret and perhaps the sink's password.
    ///
    /// JSON is YAML, and quotes whatever a path may hold.
    pub fn configuration(&self, store: &Path) -> String {
        json!({
            "server": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "store": {"path": literal(&store.to_string_lossy())},
            "sources": {"dev": {
                "team_id": TEAM_ID,
                "webhook": {"path": WEBHOOK_PATH, "secrets": [self.secret.expose()]},
            }},
            "sinks": {"dev": self.sink},
        })
        .to_string()
    }

    /// The simulator that delivers to the relay's public listener.
    pub fn simulator(&self, public: SocketAddr) -> Result<Simulator, SimulatorError> {
        let mut options = SimulatorOptions::new(format!("http://{public}{WEBHOOK_PATH}"), self.secret.expose());
        options.seed = self.seed;
        options.events_per_second = self.options.events_per_second;
        options.duration = self.options.duration;
        options.withhold = self.options.drop_deliveries;
        // Nobody looks a dev run's ledger through; the counts are enough.
        options.ledger_capacity = 0;
        Simulator::new(options)
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

    fn plan(sink: Option<&str>) -> Result<Plan, SinkAddressError> {
        let options = Options { sink: sink.map(Secret::new), ..Options::default() };
        Plan::new(options, fastrand::Rng::with_seed(1))
    }

    fn configured_sink(address: Option<&str>) -> Value {
        let text = plan(address).expect("valid").configuration(Path::new("/data"));
        let tree: Value = serde_json::from_str(&text).expect("json");
        tree["sinks"]["dev"].clone()
    }

    #[test]
    fn relay_and_simulator_agree_on_secret_path_and_team() {
        let plan = plan(None).expect("valid");
        let text = plan.configuration(Path::new("/da\"ta"));
        let tree: Value = serde_json::from_str(&text).expect("json");
        assert_eq!(tree["store"]["path"], "/da\"ta");
        let source = &tree["sources"]["dev"];
        let simulator = plan.simulator("127.0.0.1:8080".parse().expect("an address")).expect("valid");
        assert_eq!(source["webhook"]["secrets"][0], simulator.options.secret.expose());
        assert!(simulator.options.secret.expose().len() >= 32);
        assert_eq!(source["team_id"], simulator.options.team_id.as_str());
        assert_eq!(simulator.options.deliver_to, "http://127.0.0.1:8080/webhooks/e2b");
        for listener in ["server", "admin"] {
            assert_eq!(tree[listener]["listen"], "127.0.0.1:0");
        }
    }

    #[test]
    fn a_sink_is_chosen_by_its_address() {
        assert_eq!(configured_sink(None), json!({"type": "stdout"}));
        let kafka = json!({"type": "kafka", "brokers": ["a:9092", "b:9092"]});
        assert_eq!(configured_sink(Some("kafka://a:9092,b:9092/")), kafka);
        assert_eq!(configured_sink(Some("nats://a:4222"))["servers"][0], "nats://a:4222");
        assert_eq!(configured_sink(Some("amqp://u:p$1@a:5672/%2f"))["url"], "amqp://u:p$$1@a:5672/%2f");
        assert!(!format!("{:?}", plan(Some("amqp://u:canary@a/"))).contains("canary"));
    }

    #[test]
    fn any_other_address_is_refused_without_repeating_it() {
        for address in ["a:9092", "http://a", "kafka://", "nats://:4222", "amqp://u:secret@", "amqp://u:secret@/x"] {
            let error = plan(Some(address)).expect_err(address);
            assert!(!error.to_string().contains("secret"));
        }
    }
}
