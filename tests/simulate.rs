//! The simulated provider over real sockets: every endpoint, its pages, its faults, and its replies against the
//! provider's own schemas.

#[path = "simulate/account.rs"]
mod account;
#[path = "simulate/command.rs"]
mod command;
#[path = "simulate/faults.rs"]
mod faults;
#[path = "simulate/hooks.rs"]
mod hooks;

use e2b_relay::shutdown::{self, Trigger};
use e2b_relay::simulator::provider::{Options, Provider};
use e2b_relay::simulator::{Fault, Faults, Ledger};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};

pub(crate) const KEY: &str = "e2b_0123456789abcdef0123456789abcdef01234567";

/// A provider whose story only goes on when it is told to.
pub(crate) struct Running {
    pub(crate) base: String,
    http: reqwest::Client,
    pub(crate) ledger: Ledger,
    pub(crate) faults: Faults,
    // Ends the provider when dropped.
    _stop: Trigger,
}

impl Running {
    pub(crate) async fn start(options: Options) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options { listen, events_per_second: 0.0, api_key: Some(KEY.to_owned().into()), ..options };
        let provider = Provider::bind(options).await.expect("it listens");
        let base = format!("http://{}", provider.address());
        let (ledger, faults) = (provider.ledger(), provider.faults());
        let (stop, shutdown) = shutdown::channel();
        tokio::spawn(provider.run(shutdown));
        Self { base, http: crate::support::daemon::reqwest_client(), ledger, faults, _stop: stop }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).header("X-API-Key", KEY)
    }

    pub(crate) async fn reply(&self, path: &str) -> reqwest::Response {
        self.request(reqwest::Method::GET, path).send().await.expect("a reply")
    }

    /// 200, and as the schema has it.
    async fn get(&self, path: &str, schema: &str) -> Value {
        let reply = self.reply(path).await;
        assert_eq!(reply.status(), 200, "{path}");
        let body = reply.json().await.expect("json");
        assert_valid(schema, &body);
        body
    }

    /// An error as the provider words them.
    async fn refused(&self, path: &str, status: u16) -> String {
        let reply = self.reply(path).await;
        assert_eq!(reply.status(), status, "{path}");
        let body: Value = reply.json().await.expect("json");
        assert_valid("Error", &body);
        assert_eq!(body["code"], status);
        body["message"].as_str().expect("a message").to_owned()
    }

    /// The next `count` events, over the last `span` seconds.
    pub(crate) async fn happen(&self, count: usize, span: usize) {
        self.happen_ago(count, span, 0).await;
    }

    /// Likewise, that ended `ago` seconds before now.
    pub(crate) async fn happen_ago(&self, count: usize, span: usize, ago: usize) {
        let path = format!("/simulator/events?count={count}&span={span}&ago={ago}");
        let reply = self.request(reqwest::Method::POST, &path).send().await.expect("a reply");
        assert_eq!(reply.status(), 200);
    }

    pub(crate) async fn send(&self, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
        let reply = self.request(method, path).body(body.to_string()).send().await.expect("a reply");
        (reply.status().as_u16(), reply.json().await.unwrap_or_default())
    }

    pub(crate) fn always(&self, fault: Fault) {
        self.faults.set(fault, 1.0).expect("a part");
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.ledger.entries().into_iter().filter_map(|entry| entry.id).collect()
    }
}

/// Against the provider's schemas.
pub(crate) fn assert_valid(name: &str, body: &Value) {
    let mut schemas: Value = serde_json::from_str(include_str!("data/e2b/schemas.json")).expect("the schemas");
    assert!(schemas["$defs"][name].is_object(), "no schema {name}");
    schemas["$ref"] = json!(format!("#/$defs/{name}"));
    let validator = jsonschema::options().should_validate_formats(true).build(&schemas).expect("a schema");
    let faults: Vec<String> =
        validator.iter_errors(body).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{name}: {faults:#?}");
}

fn ids(list: &Value, name: &str) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|one| one[name].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn the_schemas_refuse_what_is_misspelled() {
    let mut event = json!({
        "id": "f5911677-cb60-498f-afed-f68143b3cc59", "version": "v2", "type": "t", "timestamp": "2026-08-06T20:59:36Z",
        "sandboxId": "s", "sandboxExecutionId": "e", "sandboxTemplateId": "t", "sandboxBuildId": "b",
        "sandboxTeamId": "460355b3-4f64-48f9-9a16-4442817f79f5",
    });
    assert_valid("SandboxEvent", &event);
    event["sandbox_id"] = json!("s");
    assert!(std::panic::catch_unwind(|| assert_valid("SandboxEvent", &event)).is_err());
}
