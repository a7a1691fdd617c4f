//! Signed deliveries: the HTTP endpoint that the provider posts to.
//!
//! ```text
//! path ─► method ─► length ─► content-encoding ─► body ─► verify ─► decode ─► team ─► intake ─► answer
//!  404     405        413           415        408 413 503   401       400      401   400 503     200
//! ```

mod answer;
mod body;
mod buffer;
mod claims;
mod settings;

pub use answer::{error, method_not_allowed, no_such_path};
pub use settings::{DEFAULT_PATH, MAX_SECRETS, Settings};

use crate::decode::{self, Malformed, Redaction};
use crate::event::{Arrival, Origin};
use crate::intake::{self, Intake};
use crate::logging::Occasional;
use crate::metrics::Metrics;
use crate::verify::{Presented, Refusal, Verified, Verifier};
use answer::Answer;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Version, header};
use axum::response::Response;
use buffer::Buffers;
use bytes::Bytes;
use claims::Claims;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::Instant;

/// A request's extension: when its first byte came. Without it that is when the request gets here.
#[derive(Debug, Clone, Copy)]
pub struct Received(pub Instant);

/// What bounds the reading of bodies; from the section `server` of the settings.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of one body, in bytes.
    pub max_body: usize,
    /// Of all bodies that are not yet verified, in bytes.
    pub max_buffered: usize,
    /// From a request's first byte to its body's last.
    pub request_timeout: Duration,
}

/// Takes the deliveries of every source.
pub struct Receiver {
    by_path: RwLock<Arc<ByPath>>,
    limits: Limits,
    buffers: Arc<Buffers>,
    intake: Arc<Intake>,
    metrics: Metrics,
}

type ByPath = HashMap<String, Source>;

struct Source {
    name: Arc<str>,
    team_id: Option<String>,
    verifier: Verifier,
    redaction: Redaction,
    /// Log lines about what anybody can send.
    unsigned: Occasional,
    /// Log lines about what only who knows the secret can send; a flood of the others does not drown them.
    signed: Occasional,
}

impl Receiver {
    /// Serves each source that has a webhook, by name, under its path. Paths are unique; the settings have checked that.
    pub fn new<'s>(
        sources: impl IntoIterator<Item = (&'s str, &'s super::Settings)>,
        limits: Limits,
        intake: Arc<Intake>,
        metrics: Metrics,
    ) -> Self {
        let buffers = Buffers::new(limits.max_buffered);
        let this = Self { by_path: RwLock::default(), limits, buffers, intake, metrics };
        this.serve(sources);
        this
    }

    /// Serves these and no others from now on. A delivery that is arriving is judged by what holds once it is there.
    pub fn serve<'s>(&self, sources: impl IntoIterator<Item = (&'s str, &'s super::Settings)>) {
        let mut by_path = HashMap::new();
        for (name, source) in sources {
            let Some(webhook) = &source.webhook else { continue };
            self.metrics.source(name);
            self.metrics.webhook(name);
            let path = webhook.path.as_deref().unwrap_or(DEFAULT_PATH);
            let source = Source {
                name: Arc::from(name),
                team_id: source.team_id.clone(),
                verifier: Verifier::new(&webhook.secrets, webhook.signature),
                redaction: source.redact.clone(),
                unsigned: Occasional::default(),
                signed: Occasional::default(),
            };
            by_path.insert(path.to_owned(), source);
        }
        *self.by_path.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(by_path);
    }

    fn by_path(&self) -> Arc<ByPath> {
        Arc::clone(&self.by_path.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a source takes its deliveries there.
    pub fn serves_path(&self, path: &str) -> bool {
        self.by_path().contains_key(path)
    }

    /// The endpoint.
    pub async fn receive(&self, request: Request) -> Response {
        let received = request.extensions().get::<Received>().map_or_else(Instant::now, |received| received.0);
        let path = request.uri().path().to_owned();
        if request.method() != Method::POST {
            return method_not_allowed("POST");
        }
        let http2 = request.version() == Version::HTTP_2;
        let Some((source, answer)) = self.answer(&path, request, received).await else { return no_such_path() };
        self.metrics.delivery(&source, answer.outcome());
        if let Answer::Intake(_, intake::Answer::Accepted | intake::Answer::Duplicate) = answer {
            self.metrics.delivery_answered(received.elapsed());
        }
        let mut response = answer.into_response();
        if http2 {
            // HTTP/2 has no such header (RFC 9113, section 8.2.2); there a request ends its own stream only.
            response.headers_mut().remove(header::CONNECTION);
        }
        response
    }

    /// `None`: the path was taken out of the settings while the delivery came.
    async fn answer(&self, path: &str, request: Request, received: Instant) -> Option<(Arc<str>, Answer)> {
        let name = Arc::clone(&self.by_path().get(path)?.name);
        let arrived = match self.arrive(request, received).await {
            Ok(arrived) => arrived,
            Err(answer) => return Some((name, answer)),
        };
        // Only now: the secret that signed it may have been taken out meanwhile.
        let by_path = self.by_path();
        let source = by_path.get(path)?;
        let answer = self.judge(source, &by_path, arrived).await;
        Some((Arc::clone(&source.name), answer))
    }

    async fn arrive(&self, request: Request, received: Instant) -> Result<(Claims, Bytes), Answer> {
        let (head, body) = request.into_parts();
        if body::is_announced_over(&body, self.limits.max_body) {
            return Err(Answer::Unread(body::Unread::TooLarge));
        }
        if !is_identity(&head.headers) {
            return Err(Answer::ContentEncoding);
        }
        if self.intake.is_draining() {
            return Err(Answer::Draining);
        }
        let claims = Claims::copy(&head.headers);
        drop(head);
        let deadline = received + self.limits.request_timeout;
        let body = body::read(body, self.limits.max_body, deadline, &self.buffers).await.map_err(Answer::Unread)?;
        Ok((claims, body))
    }

    async fn judge(&self, source: &Source, by_path: &ByPath, (claims, body): (Claims, Bytes)) -> Answer {
        let presented = claims.presented();
        match source.verifier.verify(&presented, Bytes::clone(&body)) {
            Ok(verified) => self.offer(source, &verified, claims).await,
            Err(refusal) => {
                self.log_refusal(source, by_path, &presented, &body, refusal, claims.delivery_id.as_deref());
                Answer::Unsigned(refusal)
            }
        }
    }

    async fn offer(&self, source: &Source, verified: &Verified, claims: Claims) -> Answer {
        let received_at = self.intake.now();
        self.metrics.delivery_seen(&source.name, received_at.as_duration().as_secs_f64());
        let mut decoded = match decode::delivery(verified) {
            Ok(decoded) => decoded,
            Err(malformed) => {
                self.quarantine(source, verified, &malformed, claims.delivery_id.as_deref()).await;
                return Answer::Malformed(malformed);
            }
        };
        if let (Some(own), Some(team)) = (&source.team_id, &decoded.team_id)
            && own != team
        {
            if let Some(suppressed) = source.signed.pass(Instant::now()) {
                tracing::warn!(source = %source.name, delivery_id = claims.delivery_id, event_id = decoded.event.id, suppressed, "refused a well signed delivery of another team");
            }
            return Answer::WrongTeam;
        }
        let arrival = Arrival {
            source: Arc::clone(&source.name),
            origin: Origin::Webhook,
            received_at,
            webhook_id: claims.webhook_id,
            delivery_id: claims.delivery_id,
        };
        decoded.event.body = source.redaction.body(decoded.event.body);
        let id = decoded.event.id.clone();
        let answer = self.intake.accept(decoded.event, arrival).await;
        Answer::Intake(id, answer)
    }

    /// What is no text is not kept: it is what a length extension looks like. Nor is what cannot be read, where values are
    /// to be taken out of it.
    async fn quarantine(&self, source: &Source, verified: &Verified, malformed: &Malformed, delivery_id: Option<&str>) {
        let copy = match malformed {
            Malformed::NotUtf8 { .. } => None,
            _ => source.redaction.copy(Bytes::clone(verified.body())),
        };
        let kept = match copy {
            Some(copy) => self.intake.quarantine(&source.name, malformed.to_string(), copy).await.map(|()| true),
            None => Ok(false),
        };
        if let Some(suppressed) = source.signed.pass(Instant::now()) {
            let source = &source.name;
            match kept {
                Ok(kept) => {
                    tracing::warn!(%source, delivery_id, error = %malformed, kept, suppressed, "invalid payload: refused a well signed delivery")
                }
                Err(error) => {
                    tracing::warn!(%source, delivery_id, error = %malformed, kept = %error, suppressed, "invalid payload: refused a well signed delivery, and could not keep a copy");
                }
            }
        }
    }

    fn log_refusal(
        &self,
        source: &Source,
        by_path: &ByPath,
        presented: &Presented<'_>,
        body: &[u8],
        refusal: Refusal,
        delivery_id: Option<&str>,
    ) {
        let Some(suppressed) = source.unsigned.pass(Instant::now()) else { return };
        let others = by_path.values().filter(|other| other.name != source.name);
        let others = others.map(|other| (&*other.name, &other.verifier));
        let seen = source.verifier.diagnose(presented, body, others);
        let source = &source.name;
        if refusal == Refusal::Missing {
            tracing::warn!(%source, delivery_id, error = %refusal, %seen, suppressed, "missing signature: refused a delivery");
        } else {
            tracing::warn!(%source, delivery_id, error = %refusal, %seen, suppressed, "invalid signature: refused a delivery");
        }
    }
}

/// Whether the body is as it was signed.
fn is_identity(headers: &HeaderMap) -> bool {
    let mut encodings =
        headers.get_all(header::CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    encodings
        .all(|encoding| encoding.trim_ascii().is_empty() || encoding.trim_ascii().eq_ignore_ascii_case(b"identity"))
}
