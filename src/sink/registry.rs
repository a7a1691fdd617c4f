//! A schema registry in front of a sink whose format is Avro: each record goes behind the id of its schema, as clients of
//! such a registry expect it (Confluent's wire format: a zero byte, the id as four bytes, big-endian, then the datum).
//!
//! The id is asked for once per subject, by registering the schema: a registry answers with the id that it has, if it has
//! the schema already. What is sent meanwhile waits in its order.

use super::handover::sink_wide;
use super::{CommitError, InvalidSetting, Order, Reason, SendError, Sink, Transactions};
use crate::client::{Client, ClientError, Limits, Reply, encode};
use crate::route::{AVRO_SCHEMA, Outgoing};
use crate::secret::Secret;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// One request may take so long, and its answer be so large.
const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(10),
    connect_timeout: Duration::from_secs(5),
    max_reply: 1 << 20,
    max_idle: 1,
};
/// Subjects whose ids are kept; a template over topics makes one for each.
const MOST: usize = 10_000;
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// How much of the registry's own words is repeated, in characters.
const MAX_MESSAGE: usize = 200;

/// Where Avro's schema is registered.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The registry's address, such as `http://127.0.0.1:8081`; any that speaks Confluent's API. Required.
    pub url: String,
    /// User for HTTP Basic; an API key's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Under which subject the schema is registered. Default: `<topic>-value` in Kafka, `e2b.events-value` elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Settings {
    /// Refuses what cannot work, as far as it shows without the network.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        Registry::new(self).map(drop)
    }
}

/// The registry of one sink.
struct Registry {
    client: Client,
    /// Where its API begins, without a slash at its end.
    prefix: String,
    authorization: Option<Secret>,
}

impl Registry {
    fn new(settings: &Settings) -> Result<Self, InvalidSetting> {
        let invalid = |key: &str, message: &str| Err(InvalidSetting::new(format!("schema_registry.{key}"), message));
        if settings.url.is_empty() {
            return invalid("url", "is required: the registry's address, such as http://127.0.0.1:8081");
        }
        if settings.url.split("://").nth(1).is_some_and(|rest| rest.split('/').next().unwrap_or_default().contains('@'))
        {
            return invalid("url", "holds a user; give `username` and `password` instead");
        }
        if settings.subject.as_deref() == Some("") {
            return invalid("subject", "is empty; leave it out for the default");
        }
        let authorization = match (&settings.username, &settings.password) {
            (Some(user), Some(password)) => {
                let pair = format!("{user}:{}", password.expose());
                Some(Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair))))
            }
            (None, None) => None,
            _ => return invalid("username", "and `password` belong together; give both or neither"),
        };
        let client = Client::new(&settings.url, LIMITS)
            .map_err(|error| InvalidSetting::new("schema_registry.url", error.to_string()))?;
        let prefix = client.base_path().split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self { client, prefix, authorization })
    }

    /// The id of the record's schema under a subject, which has it after this.
    async fn register(&self, subject: &str) -> Result<u32, SendError> {
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let path = format!("{}/subjects/{}/versions", self.prefix, encode(subject));
        let body = Bytes::from(json!({"schema": AVRO_SCHEMA}).to_string());
        let reply = self.understood(self.client.post(&path, &self.headers(), body).await)?;
        let none = |_| self.failed(Reason::Other, "answers 200 without an id; see schema_registry.url".to_owned());
        serde_json::from_slice::<Registered>(&reply.body).map(|registered| registered.id).map_err(none)
    }

    /// Asks for what changes nothing.
    async fn list(&self) -> Result<(), SendError> {
        let path = format!("{}/subjects", self.prefix);
        self.understood(self.client.get(&path, &self.headers()).await).map(drop)
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![("content-type", MEDIA_TYPE), ("accept", MEDIA_TYPE)];
        headers.extend(self.authorization.as_ref().map(|value| ("authorization", value.expose())));
        headers
    }

    fn failed(&self, reason: Reason, message: String) -> SendError {
        sink_wide(reason, format!("schema registry {}: {message}", self.client.peer()))
    }

    fn understood(&self, reply: Result<Reply, ClientError>) -> Result<Reply, SendError> {
        let reply = reply.map_err(|error| match error {
            ClientError::Timeout { .. } => sink_wide(Reason::Timeout, format!("schema registry: {error}")),
            _ => sink_wide(Reason::Connect, format!("schema registry: {error}")),
        })?;
        match reply.status {
            200 => Ok(reply),
            401 | 403 => {
                let message = "refuses the credentials; see schema_registry.username and password, and their rights";
                Err(self.failed(Reason::Auth, message.to_owned()))
            }
            409 => {
                let message = format!(
                    "the subject has a schema that the relay's is not compatible with ({}); set schema_registry.subject, or \
                     the subject's compatibility",
                    said(&reply.body)
                );
                Err(self.failed(Reason::Rejected, message))
            }
            status @ (429 | 500..=599) => Err(self.failed(Reason::Connect, format!("answers {status}"))),
            status => Err(self.failed(Reason::Rejected, format!("answers {status}: {}", said(&reply.body)))),
        }
    }
}

/// In the registry's own words.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let text =
        serde_json::from_slice(body).map_or_else(|_| "without a reason".to_owned(), |Refusal { message }| message);
    text.chars().filter(|character| !character.is_control()).take(MAX_MESSAGE).collect()
}

/// A record that waits for its schema's id, and who waits for it.
type Waiting = (Arc<Outgoing>, oneshot::Sender<Result<BoxFuture<'static, Result<(), SendError>>, SendError>>);

enum Id {
    Known(u32),
    Asked(Vec<Waiting>),
}

/// A sink behind a registry.
pub struct Registered(Arc<Inner>);

struct Inner {
    sink: Arc<dyn Sink>,
    registry: Registry,
    subject: Option<String>,
    /// Whether each topic has a subject of its own.
    by_topic: bool,
    ids: Mutex<HashMap<String, Id>>,
}

impl Registered {
    /// In front of `sink`; `by_topic`: an address is a topic, and its name makes the subject.
    pub fn new(sink: Arc<dyn Sink>, settings: &Settings, by_topic: bool) -> Result<Self, InvalidSetting> {
        let (registry, subject) = (Registry::new(settings)?, settings.subject.clone());
        Ok(Self(Arc::new(Inner { sink, registry, subject, by_topic, ids: Mutex::default() })))
    }
}

impl Inner {
    fn subject(&self, outgoing: &Outgoing) -> String {
        match &self.subject {
            Some(subject) => subject.clone(),
            None if self.by_topic => format!("{}-value", outgoing.address),
            None => "e2b.events-value".to_owned(),
        }
    }

    fn ids(&self) -> MutexGuard<'_, HashMap<String, Id>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and sends on what has gathered. Under the lock, so that nothing overtakes it.
    async fn settle(self: Arc<Self>, subject: String) {
        let answer = self.registry.register(&subject).await;
        let mut ids = self.ids();
        let Some(Id::Asked(waiting)) = ids.remove(&subject) else { return };
        if let Ok(id) = &answer {
            tracing::info!(subject, id, "the schema is registered");
            if ids.len() >= MOST {
                ids.clear();
            }
            ids.insert(subject, Id::Known(*id));
        }
        for (outgoing, waits) in waiting {
            let sent = answer.clone().map(|id| self.sink.send(framed(&outgoing, id)));
            // Whoever waited may have gone away.
            let _ = waits.send(sent);
        }
    }

    async fn id(&self, subject: &str) -> Result<u32, SendError> {
        if let Some(Id::Known(id)) = self.ids().get(subject) {
            return Ok(*id);
        }
        let id = self.registry.register(subject).await?;
        self.ids().insert(subject.to_owned(), Id::Known(id));
        Ok(id)
    }
}

fn framed(outgoing: &Outgoing, id: u32) -> Arc<Outgoing> {
    let mut payload = BytesMut::with_capacity(5 + outgoing.payload.len());
    payload.put_u8(0);
    payload.put_u32(id);
    payload.extend_from_slice(&outgoing.payload);
    Arc::new(Outgoing { payload: payload.freeze(), ..outgoing.clone() })
}

impl Sink for Registered {
    fn order(&self) -> Order {
        self.0.sink.order()
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>> {
        async {
            let answer = self.0.sink.probe().await?;
            self.0.registry.list().await?;
            Ok(format!("{answer}; schema registry {} answers", self.0.registry.client.peer()))
        }
        .boxed()
    }

    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        let subject = self.0.subject(&outgoing);
        let mut ids = self.0.ids();
        if let Some(Id::Known(id)) = ids.get(&subject) {
            return self.0.sink.send(framed(&outgoing, *id));
        }
        let (waits, sent) = oneshot::channel();
        match ids.get_mut(&subject) {
            Some(Id::Asked(waiting)) => waiting.push((outgoing, waits)),
            _ => {
                ids.insert(subject.clone(), Id::Asked(vec![(outgoing, waits)]));
                tokio::spawn(Arc::clone(&self.0).settle(subject));
            }
        }
        async {
            let ended = || sink_wide(Reason::Other, "the runtime ends".to_owned());
            sent.await.map_err(|_| ended())??.await
        }
        .boxed()
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.0.sink.transactions().map(|_| self as &dyn Transactions)
    }

    fn trouble(&self) -> Option<(Reason, String)> {
        self.0.sink.trouble()
    }

    fn swallowed(&self) -> Vec<u64> {
        self.0.sink.swallowed()
    }

    fn waits_for_a_first_route(&self) -> bool {
        self.0.sink.waits_for_a_first_route()
    }

    fn reopen(&self) {
        self.0.sink.reopen();
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.sink.close()
    }
}

impl Transactions for Registered {
    fn open<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<Option<String>, SendError>> {
        match self.0.sink.transactions() {
            Some(transactions) => transactions.open(names),
            None => async { Ok(None) }.boxed(),
        }
    }

    fn commit<'a>(&'a self, records: &'a [Arc<Outgoing>], position: String) -> BoxFuture<'a, Result<(), CommitError>> {
        async move {
            let mut ready = Vec::with_capacity(records.len());
            for outgoing in records {
                let id = self.0.id(&self.0.subject(outgoing)).await.map_err(CommitError::Aborted)?;
                ready.push(framed(outgoing, id));
            }
            match self.0.sink.transactions() {
                Some(transactions) => transactions.commit(&ready, position).await,
                None => Ok(()),
            }
        }
        .boxed()
    }
}
