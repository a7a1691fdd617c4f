//! One call: within the budget, with the key, again after trouble that passes.

use super::{ApiError, Budget, Settings};
use crate::backoff::Backoff;
use crate::client::{Client, ClientError, Exchange, Limits, Method, Reply, encode, path_of};
use crate::decode::Redaction;
use crate::logging::Occasional;
use crate::metrics::Metrics;
use crate::secret::{MASK, Secret};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Attempts of one call, the first included.
const ATTEMPTS: u32 = 4;
/// Delays between attempts: at most this, then twice this …
const BACKOFF: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// A longer `Retry-After` is not waited for within a call: the caller is told, and has other things to do.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A longer `Retry-After` counts as this: beyond it nobody means it, and times have an end.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Largest reply, in bytes: 100 events, each with as much metadata as a body may hold.
const MAX_REPLY: usize = 16 << 20;
/// Connections kept; no more calls than this run side by side.
const MAX_IDLE: usize = 8;
/// How much of the API's own words is repeated, in characters.
const MAX_MESSAGE: usize = 200;

/// What is asked for; label `endpoint` of `api_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /events/sandboxes`
    Events,
    /// `GET /events/sandboxes/{id}`
    SandboxEvents,
    /// `/events/webhooks` and `/events/webhooks/{id}`
    Webhooks,
    /// `GET /events/webhooks/{id}/deliveries`
    Deliveries,
    /// `GET /v2/sandboxes`
    Sandboxes,
    /// `GET /sandboxes/{id}`
    Sandbox,
    /// `GET /sandboxes/metrics`
    Metrics,
    /// `GET /sandboxes/{id}/metrics`
    SandboxMetrics,
}

impl Endpoint {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Events,
        Self::SandboxEvents,
        Self::Webhooks,
        Self::Deliveries,
        Self::Sandboxes,
        Self::Sandbox,
        Self::Metrics,
        Self::SandboxMetrics,
    ];

    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::SandboxEvents => "sandbox_events",
            Self::Webhooks => "webhooks",
            Self::Deliveries => "deliveries",
            Self::Sandboxes => "sandboxes",
            Self::Sandbox => "sandbox",
            Self::Metrics => "metrics",
            Self::SandboxMetrics => "sandbox_metrics",
        }
    }
}

/// What was asked for, and what time it was at the API when it answered.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The reply, understood.
    pub value: T,
    /// The reply's header `Date`, whole seconds; `None` where it is absent or no date.
    pub date: Option<jiff::Timestamp>,
    /// Requests that it took.
    pub calls: u32,
}

impl<T> Answer<T> {
    pub(super) fn map<U>(self, into: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: into(self.value), date: self.date, calls: self.calls }
    }
}

/// The API of one source. Cloning is cheap and shares budget and connections.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
    /// What is taken out of events and metadata before anybody sees them.
    pub(super) redaction: Redaction,
}

struct Inner {
    source: String,
    client: Arc<dyn Exchange>,
    /// The path of the settings' URL, without a slash at its end.
    prefix: String,
    key: Secret,
    budget: Budget,
    metrics: Metrics,
    /// Rows that are not as expected.
    told_odd: Occasional,
    random: Mutex<fastrand::Rng>,
}

/// One request, as often as it is made.
pub(super) struct Request<'a> {
    endpoint: Endpoint,
    method: Method,
    path: &'a str,
    query: String,
    body: Bytes,
}

impl<'a> Request<'a> {
    /// `path` begins with `/` and is encoded already.
    pub(super) fn get(endpoint: Endpoint, path: &'a str) -> Self {
        Self { endpoint, method: Method::GET, path, query: String::new(), body: Bytes::new() }
    }

    pub(super) fn post(endpoint: Endpoint, path: &'a str, body: Bytes) -> Self {
        Self { method: Method::POST, body, ..Self::get(endpoint, path) }
    }

    pub(super) fn patch(endpoint: Endpoint, path: &'a str, body: Bytes) -> Self {
        Self { method: Method::PATCH, body, ..Self::get(endpoint, path) }
    }

    pub(super) fn delete(endpoint: Endpoint, path: &'a str) -> Self {
        Self { method: Method::DELETE, ..Self::get(endpoint, path) }
    }

    pub(super) fn query(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        self.query.push_str(&encode(&value.to_string()));
        self
    }
}

impl Api {
    /// `settings` are those of the source, filled in from the environment; nothing is asked yet.
    pub fn new(
        source: &str,
        settings: &Settings,
        metrics: Metrics,
        random: fastrand::Rng,
    ) -> Result<Self, ClientError> {
        let limits =
            Limits { timeout: settings.timeout, max_reply: MAX_REPLY, max_idle: MAX_IDLE, ..Limits::default() };
        let url = settings.url.as_deref().unwrap_or(super::DEFAULT_URL);
        let client = Arc::new(Client::new(url, limits)?);
        let prefix = path_of(url)?.trim_end_matches('/').to_owned();
        Ok(Self::over(client, prefix, source, settings, metrics, random))
    }

    /// The same by another road than HTTP.
    pub fn over(
        client: Arc<dyn Exchange>,
        prefix: String,
        source: &str,
        settings: &Settings,
        metrics: Metrics,
        random: fastrand::Rng,
    ) -> Self {
        metrics.api(source, Endpoint::ALL.map(Endpoint::label));
        let inner = Arc::new(Inner {
            source: source.to_owned(),
            client,
            prefix,
            key: settings.api_key.clone().unwrap_or_else(|| Secret::new("")),
            budget: Budget::per_minute(settings.max_calls_per_minute),
            metrics,
            told_odd: Occasional::default(),
            random: Mutex::new(random),
        });
        Self { inner, redaction: Redaction::default() }
    }

    /// The same, whose events and metadata come without those values.
    #[must_use]
    pub fn redacting(self, redaction: Redaction) -> Self {
        Self { redaction, ..self }
    }

    /// The source's name in the settings.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// Host and port, as messages name it.
    pub fn peer(&self) -> String {
        self.inner.client.peer()
    }

    /// The API's list goes round: page after page brings nothing that was not listed before. `why` is what may be the
    /// reason.
    pub fn repeats(&self, path: &str, why: &str) -> ApiError {
        let problem = format!("its list repeats itself: page after page brings nothing new, {why}");
        ApiError::Invalid { peer: self.peer(), path: path.to_owned(), problem }
    }

    /// Where rows that are not as expected are counted, and how often they are told.
    pub(super) fn rows_told(&self) -> (&Metrics, &Occasional) {
        (&self.inner.metrics, &self.inner.told_odd)
    }

    /// The reply of a call, as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<Answer<T>, ApiError> {
        let parse = |reply: &Reply| serde_json::from_slice(&reply.body).map_err(|error| no_json(&error));
        self.call(request, parse).await
    }

    /// Makes the request until it succeeds, fails for good, or has been tried [`ATTEMPTS`] times. `understand` says what
    /// is wrong with a reply of 2xx, without repeating it.
    pub(super) async fn call<T>(
        &self,
        request: Request<'_>,
        understand: impl Fn(&Reply) -> Result<T, String>,
    ) -> Result<Answer<T>, ApiError> {
        let random = self.inner.random.lock().unwrap_or_else(PoisonError::into_inner).fork();
        let mut backoff = Backoff::new(BACKOFF, LONGEST_BACKOFF, random);
        loop {
            let error = match self.once(&request, &understand).await {
                Ok(answer) => return Ok(Answer { calls: backoff.attempt() + 1, ..answer }),
                Err(error) => error,
            };
            // A creation that got no answer may have happened; only a 429 tells that it has not.
            let repeatable = match request.method {
                Method::POST => matches!(error, ApiError::RateLimited { .. }),
                _ => error.is_passing(),
            };
            let wait = error.retry_after().unwrap_or_default();
            if !repeatable || wait > LONGEST_WAIT || backoff.attempt() + 1 >= ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(source = %self.inner.source, %error, "the API is asked again");
            tokio::time::sleep(wait + backoff.next_delay()).await;
        }
    }

    async fn once<T>(
        &self,
        request: &Request<'_>,
        understand: impl Fn(&Reply) -> Result<T, String>,
    ) -> Result<Answer<T>, ApiError> {
        let inner = &*self.inner;
        inner.budget.take().await;
        let target = format!("{}{}{}", inner.prefix, request.path, request.query);
        let headers =
            [("x-api-key", inner.key.expose()), ("accept", "application/json"), ("content-type", "application/json")];
        let headers = headers.get(..if request.body.is_empty() { 2 } else { 3 }).unwrap_or_default();
        let sent = inner.client.exchange(request.method.clone(), &target, headers, request.body.clone());
        let reply = sent.await;
        let code = reply.as_ref().map_or_else(code_of, |reply| reply.status.to_string());
        inner.metrics.api_request(&inner.source, request.endpoint.label(), &code);
        let reply = reply.map_err(|error| self.no_reply(request, &error))?;
        if !(200..300).contains(&reply.status) {
            return Err(self.no_success(request, &reply));
        }
        let value = understand(&reply).map_err(|problem| ApiError::Invalid {
            peer: self.peer(),
            path: request.path.to_owned(),
            problem,
        })?;
        Ok(Answer { value, date: date(&reply, "date"), calls: 1 })
    }

    fn no_reply(&self, request: &Request<'_>, error: &ClientError) -> ApiError {
        match error {
            ClientError::Connect { .. }
            | ClientError::Timeout { .. }
            | ClientError::Broken { .. }
            | ClientError::Setup(_) => ApiError::Unavailable { problem: error.to_string(), retry_after: None },
            ClientError::TooLarge { .. } | ClientError::Url(_) => ApiError::Refused {
                peer: self.peer(),
                path: request.path.to_owned(),
                status: 0,
                message: error.to_string(),
            },
        }
    }

    fn no_success(&self, request: &Request<'_>, reply: &Reply) -> ApiError {
        let (peer, path, status) = (self.peer(), request.path.to_owned(), reply.status);
        match status {
            401 | 403 => ApiError::Unauthorized { source_name: self.inner.source.clone(), peer, status },
            404 if matches!(request.endpoint, Endpoint::Events | Endpoint::Sandboxes | Endpoint::Metrics) => {
                ApiError::NotOffered { peer, path }
            }
            404 => ApiError::NotFound { peer, path },
            429 => ApiError::RateLimited { peer, retry_after: retry_after(reply) },
            408 | 500.. => ApiError::Unavailable {
                problem: format!("the API at {peer} answers {status}"),
                retry_after: retry_after(reply),
            },
            _ => ApiError::Refused { peer, path, status, message: self.message(reply) },
        }
    }

    /// The API's own words, on one line; a load balancer's are HTML and are not repeated.
    fn message(&self, reply: &Reply) -> String {
        #[derive(Deserialize)]
        struct Error {
            message: String,
        }
        let Ok(Error { message }) = serde_json::from_slice(&reply.body) else { return "no message".to_owned() };
        let key = self.inner.key.expose();
        let message = if key.is_empty() { message } else { message.replace(key, MASK) };
        message.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(MAX_MESSAGE).collect()
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("source", &self.inner.source).field("peer", &self.peer()).finish_non_exhaustive()
    }
}

/// What is wrong with a reply; serde's own words may quote it.
pub(super) fn no_json(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Io | Category::Eof => "it ends too early",
        Category::Syntax => "it is no JSON",
        Category::Data => "its JSON has other members than specified",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// In place of a status.
fn code_of(error: &ClientError) -> String {
    match error {
        ClientError::Connect { .. } => "connect",
        ClientError::Timeout { .. } => "timeout",
        ClientError::TooLarge { .. } => "too_large",
        ClientError::Broken { .. } => "broken",
        ClientError::Setup(_) | ClientError::Url(_) => "other",
    }
    .to_owned()
}

/// Seconds, or a date that is compared with the reply's own (RFC 9110, section 10.2.3).
fn retry_after(reply: &Reply) -> Option<Duration> {
    let text = reply.header("retry-after")?.trim();
    let asked_for = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let (then, now) = (date(reply, "retry-after")?, date(reply, "date")?);
        Duration::try_from(then.duration_since(now)).unwrap_or_default()
    };
    Some(asked_for.min(LONGEST_RETRY_AFTER))
}

/// An HTTP date in the form that is to be sent (RFC 9110, section 5.6.7), which is one of RFC 2822's.
fn date(reply: &Reply, name: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::parse(reply.header(name)?).ok().map(|date| date.timestamp())
}
