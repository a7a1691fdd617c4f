//! One delivery as the provider makes it: up to four attempts, ten seconds apart, each with a delivery id of its own.
//!
//! Whatever is no 2xx is tried again, 4xx too; so the provider's documentation has it.

use super::life::uuid;
use super::sign::{self, Dialect};
use crate::client::{Client, ClientError};
use crate::secret::Secret;
use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// What carries an attempt to the receiver.
pub(super) trait Transport: Send + Sync {
    /// The answer, or why there was none.
    fn post(&self, headers: Headers, body: Bytes) -> BoxFuture<'_, Result<Answer, NoAnswer>>;
}

/// What the receiver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Its beginning, as the provider's delivery log keeps it.
    pub(super) body: String,
}

/// Why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoAnswer {
    /// A class of the provider's delivery log.
    pub(super) class: &'static str,
    pub(super) problem: String,
}

/// Bytes of an answer that are kept.
const KEPT_OF_ANSWER: usize = 1024;

/// Names in lower case.
pub(super) type Headers = Vec<(&'static str, String)>;

impl Transport for Client {
    fn post(&self, headers: Headers, body: Bytes) -> BoxFuture<'_, Result<Answer, NoAnswer>> {
        Box::pin(async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let reply = Client::post(self, &self.base_path(), &headers, body).await?;
            let kept = reply.body.get(..KEPT_OF_ANSWER).unwrap_or(&reply.body);
            Ok(Answer { status: reply.status, body: String::from_utf8_lossy(kept).into_owned() })
        })
    }
}

impl From<ClientError> for NoAnswer {
    fn from(error: ClientError) -> Self {
        let class = match &error {
            ClientError::Timeout { .. } => "timeout",
            ClientError::Connect { problem, .. } if problem.contains("lookup") => "dns_error",
            ClientError::Connect { .. } | ClientError::Broken { .. } | ClientError::TooLarge { .. } => {
                "transport_error"
            }
            ClientError::Url(_) | ClientError::Setup(_) => "request_error",
        };
        Self { class, problem: error.to_string() }
    }
}

/// How deliveries are signed and retried.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) secret: Secret,
    pub(super) dialect: Dialect,
    /// UUID of the registration.
    pub(super) webhook_id: String,
    /// Attempts after the first.
    pub(super) retries: u32,
    /// Between two attempts.
    pub(super) pause: Duration,
}

/// What a delivery came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) attempts: u32,
    /// The last attempt's status, or why it had none.
    pub(super) last: Result<u16, String>,
}

/// One try, for whoever keeps a log of them.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) headers: Headers,
    pub(super) started: Timestamp,
    pub(super) took: Duration,
    pub(super) result: Result<Answer, NoAnswer>,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        matches!(self.last, Ok(200..=299))
    }
}

impl Terms {
    /// The headers of one attempt.
    pub(super) fn headers(&self, body: &[u8], random: &mut Rng) -> Headers {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        // A self-hosted installation sends its signature and nothing else.
        if self.dialect != Dialect::Hmac {
            headers.push(("e2b-webhook-id", self.webhook_id.clone()));
            headers.push(("e2b-delivery-id", uuid(random)));
        }
        headers.extend(sign::headers(self.dialect, &self.secret, body));
        headers
    }

    /// Sends until it is answered 2xx or the retries are used up, and tells of every attempt.
    pub(super) async fn deliver(
        &self,
        transport: &dyn Transport,
        body: &Bytes,
        random: &mut Rng,
        mut tell: impl FnMut(Attempt),
    ) -> Outcome {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (started, clock) = (Timestamp::now(), Instant::now());
            let headers = self.headers(body, random);
            let result = transport.post(headers.clone(), body.clone()).await;
            let last = result.as_ref().map(|answer| answer.status).map_err(|error| error.problem.clone());
            tell(Attempt { headers, started, took: clock.elapsed(), result });
            let outcome = Outcome { attempts, last };
            if outcome.is_success() || attempts > self.retries {
                return outcome;
            }
            tokio::time::sleep(self.pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    /// Answers from a list, and keeps what it was sent.
    struct Receiver {
        answers: Mutex<Vec<Result<u16, String>>>,
        got: Mutex<Vec<(Instant, Headers, Bytes)>>,
    }

    impl Receiver {
        fn answering(answers: &[Result<u16, String>]) -> Self {
            Self { answers: Mutex::new(answers.iter().rev().cloned().collect()), got: Mutex::default() }
        }
    }

    impl Transport for Receiver {
        fn post(&self, headers: Headers, body: Bytes) -> BoxFuture<'_, Result<Answer, NoAnswer>> {
            self.got.lock().unwrap().push((Instant::now(), headers, body));
            let answer = self.answers.lock().unwrap().pop().expect("one attempt too many");
            let answer = answer.map(|status| Answer { status, body: String::new() });
            Box::pin(std::future::ready(answer.map_err(|problem| NoAnswer { class: "timeout", problem })))
        }
    }

    async fn deliver(receiver: &Receiver) -> Outcome {
        let terms = Terms {
            secret: Secret::new("0123456789abcdef0123456789abcdef"),
            dialect: Dialect::E2b,
            webhook_id: "hook".to_owned(),
            retries: 3,
            pause: Duration::from_secs(10),
        };
        terms.deliver(receiver, &Bytes::from_static(b"{}"), &mut Rng::with_seed(1), |_| {}).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_is_not_repeated() {
        let receiver = Receiver::answering(&[Ok(200)]);
        assert_eq!(deliver(&receiver).await, Outcome { attempts: 1, last: Ok(200) });
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_ten_seconds_apart_with_a_new_delivery_id() {
        let receiver = Receiver::answering(&[Ok(503), Ok(400), Err("timeout".to_owned()), Ok(204)]);
        assert_eq!(deliver(&receiver).await, Outcome { attempts: 4, last: Ok(204) });
        let got = receiver.got.lock().unwrap();
        let header = |headers: &Headers, name| headers.iter().find(|(n, _)| *n == name).expect(name).1.clone();
        let ids: BTreeSet<String> = got.iter().map(|(_, headers, _)| header(headers, "e2b-delivery-id")).collect();
        assert_eq!(ids.len(), 4);
        let of_one: BTreeSet<String> = got
            .iter()
            .map(|(_, headers, body)| {
                header(headers, "e2b-signature") + &header(headers, "e2b-webhook-id") + &format!("{body:?}")
            })
            .collect();
        assert_eq!(of_one.len(), 1, "body, signature and webhook id stay the same");
        for pair in got.windows(2) {
            assert_eq!(pair[1].0 - pair[0].0, Duration::from_secs(10));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_third_retry_it_is_given_up() {
        let receiver = Receiver::answering(&[Ok(500), Ok(500), Ok(302), Ok(500)]);
        let outcome = deliver(&receiver).await;
        assert_eq!(outcome, Outcome { attempts: 4, last: Ok(500) });
        assert!(!outcome.is_success());
    }
}
