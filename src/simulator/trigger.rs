//! One signed delivery, made to order: `e2b-relay trigger sandbox.lifecycle.killed --url … --set k=v`.

use super::deliver::{Headers, Terms};
use super::life::{Happening, Life, uuid};
use super::{Dialect, Shape, TEAM_ID};
use crate::client::{Client, ClientError, Limits, Reply};
use crate::secret::Secret;
use bytes::Bytes;
use fastrand::Rng;
use jiff::SignedDuration;
use serde_json::Value;
use std::time::Duration;

/// Every type of the provider's occurs within that many events.
const OPENING_EVENTS: usize = 6;

/// What is sent, and where to.
#[derive(Debug, Clone)]
pub struct TriggerOptions {
    /// The receiver's URL, `http` or `https`.
    pub url: String,
    /// What it is signed with.
    pub secret: Secret,
    /// How it is signed.
    pub dialect: Dialect,
    /// How the body is spelled.
    pub shape: Shape,
    /// Whose sandbox; a UUID.
    pub team_id: String,
    /// The same seed makes the same event, its id included.
    pub seed: u64,
}

impl TriggerOptions {
    /// In the provider's present shape and signature.
    pub fn new(url: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            secret: Secret::new(secret),
            dialect: Dialect::default(),
            shape: Shape::default(),
            team_id: TEAM_ID.to_owned(),
            seed: 0,
        }
    }
}

/// A delivery that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// A `--set` that is not `path=value`, or whose path runs through what is no object.
    #[error("set `{path}`: {problem}")]
    Set {
        /// As it was given, without the value.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The body has no JSON form.
    #[error("cannot write the body: {0}")]
    Body(String),
    /// Where it goes to, or on the way there.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A signed delivery, not yet sent.
pub struct Trigger {
    client: Client,
    url: String,
    headers: Headers,
    body: Bytes,
}

impl Trigger {
    /// Makes an event of `kind` at `now`; `killed` is short for `sandbox.lifecycle.killed`, and any other type is taken
    /// as it is.
    ///
    /// Each of `set` is `path=value` over the body, the fields as the shape spells them, dots between names; the value
    /// is JSON, or else text: `event_data.sandbox_metadata.env=prod`.
    pub fn new(
        kind: &str,
        set: &[String],
        options: &TriggerOptions,
        now: jiff::Timestamp,
    ) -> Result<Self, TriggerError> {
        let client = Client::new(&options.url, Limits::default())?;
        let mut random = Rng::with_seed(options.seed);
        let happening = happening(kind, options, random.u64(..), now);
        let body = body(options.shape, &happening, set)?;
        let terms = Terms {
            secret: options.secret.clone(),
            dialect: options.dialect,
            webhook_id: uuid(&mut random),
            retries: 0,
            pause: Duration::ZERO,
        };
        let headers = terms.headers(body.as_bytes(), &mut random);
        Ok(Self { client, url: options.url.clone(), headers, body: Bytes::from(body) })
    }

    /// The body to be sent.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Sends it, once.
    pub async fn send(&self) -> Result<Reply, ClientError> {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.client.post(&self.client.base_path(), &headers, self.body.clone()).await
    }

    /// The same as a command for a POSIX shell. It holds the signature, and not the secret.
    pub fn curl(&self) -> String {
        let mut command = format!("curl -sS -X POST {}", quote(&self.url));
        for (name, value) in &self.headers {
            command.push_str(&format!(" \\\n  -H {}", quote(&format!("{name}: {value}"))));
        }
        command.push_str(&format!(" \\\n  --data-binary {}", quote(&String::from_utf8_lossy(&self.body))));
        command
    }
}

fn happening(kind: &str, options: &TriggerOptions, seed: u64, now: jiff::Timestamp) -> Happening {
    let kind = if kind.contains('.') { kind.to_owned() } else { format!("sandbox.lifecycle.{kind}") };
    let team_id = if options.team_id.is_empty() { TEAM_ID } else { &options.team_id };
    let mut life = Life::new(seed, team_id);
    let opening: Vec<Happening> = (0..OPENING_EVENTS).map(|_| life.next(now)).collect();
    let Some(position) = opening.iter().position(|happening| happening.kind == kind) else {
        return opening.into_iter().next().map_or_else(|| life.next(now), |created| Happening { kind, ..created });
    };
    // Told again, so that what came before the event came a minute apart and it itself comes now.
    let mut life = Life::new(seed, team_id);
    for before in (1..=position).rev() {
        let minutes = i64::try_from(before).unwrap_or_default();
        life.next(now.saturating_sub(SignedDuration::from_mins(minutes)).unwrap_or(now));
    }
    life.next(now)
}

fn body(shape: Shape, happening: &Happening, set: &[String]) -> Result<String, TriggerError> {
    let text = |error: serde_json::Error| TriggerError::Body(error.to_string());
    if set.is_empty() {
        return shape.body(happening).map_err(text);
    }
    let mut tree = shape.tree(happening).map_err(text)?;
    for one in set {
        let error = |problem| TriggerError::Set { path: one.split('=').next().unwrap_or_default().to_owned(), problem };
        let (path, value) = one.split_once('=').ok_or_else(|| error("a path, `=` and a value are needed"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        put(&mut tree, path, value).map_err(error)?;
    }
    serde_json::to_string(&tree).map_err(text)
}

/// Objects on the way are made where there is nothing or null.
fn put(tree: &mut Value, path: &str, value: Value) -> Result<(), &'static str> {
    let mut place = tree;
    for name in path.split('.') {
        if name.is_empty() {
            return Err("a name is empty");
        }
        if place.is_null() {
            *place = Value::Object(serde_json::Map::new());
        }
        let members = place.as_object_mut().ok_or("the path runs through a value that is no object")?;
        place = members.entry(name).or_insert(Value::Null);
    }
    *place = value;
    Ok(())
}

/// In single quotes nothing has a meaning but the quote itself.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn trigger(kind: &str, set: &[&str], options: &TriggerOptions) -> Result<Trigger, TriggerError> {
        let set: Vec<String> = set.iter().map(|one| (*one).to_owned()).collect();
        Trigger::new(kind, &set, options, "2026-08-06T20:59:36Z".parse().expect("a time"))
    }

    fn options() -> TriggerOptions {
        TriggerOptions::new("http://127.0.0.1:8080/webhooks/e2b", SECRET)
    }

    fn tree(trigger: &Trigger) -> Value {
        serde_json::from_slice(trigger.body()).expect("json")
    }

    #[test]
    fn the_type_is_one_of_the_providers_in_short_or_any() {
        for (kind, expected) in [
            ("killed", "sandbox.lifecycle.killed"),
            ("sandbox.lifecycle.checkpointed", "sandbox.lifecycle.checkpointed"),
            ("sandbox.lifecycle.forked", "sandbox.lifecycle.forked"),
        ] {
            assert_eq!(tree(&trigger(kind, &[], &options()).expect(kind))["type"], expected);
        }
        let killed = tree(&trigger("killed", &[], &options()).expect("valid"));
        assert!(killed["event_data"]["execution"]["execution_time"].as_i64() > Some(0));
        assert_eq!(killed["timestamp"], "2026-08-06T20:59:36Z");
    }

    #[test]
    fn fields_are_set_by_path_as_json_or_text() {
        let set = ["sandbox_id=sbx", "event_data.sandbox_metadata.env=a=b", "event_data.n=7", "new.deep=null"];
        let tree = tree(&trigger("created", &set, &options()).expect("valid"));
        assert_eq!(tree["sandbox_id"], "sbx");
        assert_eq!(tree["event_data"]["sandbox_metadata"]["env"], "a=b");
        assert_eq!(tree["event_data"]["n"], 7);
        assert!(tree["new"]["deep"].is_null());
        for (set, named) in [("novalue", "novalue"), ("type.x=1", "type.x"), (".=1", "."), ("=1", "")] {
            match trigger("created", &[set], &options()) {
                Err(TriggerError::Set { path, .. }) => assert_eq!(path, named),
                other => panic!("{set} gave {:?}", other.map(|trigger| trigger.body().clone())),
            }
        }
    }

    #[test]
    fn shapes_spell_their_fields_each_in_their_way() {
        let body = |shape| tree(&trigger("paused", &[], &TriggerOptions { shape, ..options() }).expect("valid"));
        let v1 = body(Shape::V1);
        assert_eq!((&v1["version"], &v1["eventLabel"]), (&"v1".into(), &"pause".into()));
        assert!(v1["eventData"]["execution"]["vcpu_count"].is_number(), "event data stay in snake_case");
        let v2 = body(Shape::V2);
        assert_eq!((&v2["version"], &v2["event_label"]), (&"v2".into(), &"pause".into()));
        let own = body(Shape::SelfHosted);
        let names: Vec<&String> = own.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["eventCategory", "eventLabel", "sandboxId", "sandboxTeamId", "timestamp"]);
        assert_eq!(own["eventLabel"], "pause");
    }

    #[test]
    fn the_curl_command_is_safe_to_paste_and_holds_no_secret() {
        let set = ["event_data.sandbox_metadata.env=it's $(rm -rf) `x`"];
        let options = TriggerOptions { dialect: Dialect::Hmac, ..options() };
        let command = trigger("created", &set, &options).expect("valid").curl();
        assert!(command.contains(r"it'\''s $(rm -rf) `x`"), "{command}");
        assert!(command.contains("-H 'x-e2b-signature: "));
        assert!(!command.contains("e2b-delivery-id"));
        assert!(!command.contains(SECRET));
    }
}
