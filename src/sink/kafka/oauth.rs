//! Tokens for SASL OAUTHBEARER (RFC 7628) by the client-credentials grant of OAuth 2.0 (RFC 6749, section 4.4).
//!
//! librdkafka asks for one when it begins, and again when four fifths of its lifetime are over; after a failure it asks
//! every ten seconds. librdkafka's own way to a token endpoint needs libcurl, which is not built in.

use super::settings::{MISSING, Mechanism, Sasl, Settings};
use crate::client::{Client, ClientError, Limits, encode, normal_url};
use crate::secret::{MASK, Secret};
use crate::sink::InvalidSetting;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::Handle;

/// While a token is fetched no reports are served, so it is not waited for long.
const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(5),
    connect_timeout: Duration::from_secs(3),
    max_reply: 64 << 10,
    max_idle: 1,
};
/// A token's lifetime where the endpoint does not say it, which RFC 6749 recommends but does not demand.
const LIFETIME_S: u64 = 300;
/// Longest lifetime that is believed.
const MAX_LIFETIME_S: u64 = 30 * 24 * 60 * 60;
/// How much of the endpoint's own words is repeated, in characters.
const MAX_MESSAGE: usize = 200;

/// Fetches tokens.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    client: Client,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
}

/// Tokens, and the runtime that fetches them: librdkafka asks from threads of its own.
#[derive(Debug)]
pub(super) struct Runtime(Tokens, Handle);

impl Runtime {
    /// `None` where the settings ask for no tokens.
    pub(super) fn tokens(settings: &Settings) -> Result<Option<Self>, String> {
        match &settings.sasl {
            Some(sasl) if sasl.mechanism == Mechanism::OAuthBearer => {
                let tokens = Tokens::new(sasl).map_err(|error| error.to_string())?;
                Ok(Some(Self(tokens, Handle::try_current().map_err(|error| error.to_string())?)))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// What librdkafka's call-back is to answer.
    pub(super) fn fetch(tokens: Option<&Self>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        match tokens {
            Some(Self(tokens, runtime)) => Ok(tokens.fetch(runtime)?),
            None => Err("set sasl.token_url, sasl.client_id and sasl.client_secret".into()),
        }
    }
}

/// No token. Messages never hold the secret.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("{0}; see sasl.token_url")]
    Unreachable(#[from] ClientError),
    #[error("{peer} answered {status}: {said}; see sasl.client_id, sasl.client_secret and sasl.scope")]
    Refused { peer: String, status: u16, said: String },
    #[error("{peer} answered 200 without a usable `access_token`; see sasl.token_url")]
    NoToken { peer: String },
    #[error("the relay ends")]
    Ended,
}

/// RFC 6749, section 5.1. The token is taken as a secret, so that no message can hold it.
#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    expires_in: Option<u64>,
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Denied {
    error: String,
    error_description: Option<String>,
}

impl Tokens {
    /// The settings' mechanism is OAUTHBEARER.
    pub(super) fn new(sasl: &Sasl) -> Result<Self, InvalidSetting> {
        let missing = |key: &str| InvalidSetting::new(format!("sasl.{key}"), MISSING);
        let url = sasl.token_url.as_deref().ok_or_else(|| missing("token_url"))?;
        let invalid = |error: ClientError| InvalidSetting::new("sasl.token_url", error.to_string());
        let url = normal_url(url).map_err(invalid)?;
        Ok(Self {
            client: Client::new(&url, LIMITS).map_err(invalid)?,
            client_id: sasl.client_id.clone().ok_or_else(|| missing("client_id"))?,
            client_secret: sasl.client_secret.clone().ok_or_else(|| missing("client_secret"))?,
            scope: sasl.scope.clone(),
        })
    }

    /// A new token. Blocks, at most as long as a request may take.
    fn fetch(&self, runtime: &Handle) -> Result<OAuthToken, TokenError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let tokens = self.clone();
        // Not `block_on`, which panics where a runtime's own thread drops a producer.
        runtime.spawn(async move {
            // An error: nobody waits any more.
            let _ = answer.try_send(tokens.ask().await);
        });
        let longest = LIMITS.timeout + Duration::from_secs(1);
        answered.recv_timeout(longest).map_err(|_| TokenError::Ended)?
    }

    async fn ask(&self) -> Result<OAuthToken, TokenError> {
        // Section 2.3.1: each is encoded as in a form, and both together as Basic credentials.
        let pair = format!("{}:{}", encode(&self.client_id), encode(self.client_secret.expose()));
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        ];
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            form.push_str(&format!("&scope={}", encode(scope)));
        }
        let asked_at = jiff::Timestamp::now();
        let reply = self.client.post(&self.client.base_path(), &headers, Bytes::from(form)).await?;
        let peer = self.client.peer();
        if reply.status != 200 {
            return Err(TokenError::Refused { peer, status: reply.status, said: self.reason(&reply.body) });
        }
        match serde_json::from_slice::<Granted>(&reply.body) {
            Ok(granted) if is_token(granted.access_token.expose()) => {
                let lifetime = granted.expires_in.unwrap_or(LIFETIME_S).clamp(1, MAX_LIFETIME_S);
                Ok(OAuthToken {
                    token: granted.access_token.expose().to_owned(),
                    // Only for librdkafka's own messages: the broker takes the name from the token.
                    principal_name: self.client_id.clone(),
                    lifetime_ms: asked_at.as_millisecond() + (lifetime * 1000) as i64,
                })
            }
            Ok(_) | Err(_) => Err(TokenError::NoToken { peer }),
        }
    }

    /// What the endpoint gives as its reason, should it repeat the secret without that.
    fn reason(&self, body: &[u8]) -> String {
        let Ok(Denied { error, error_description }) = serde_json::from_slice(body) else {
            return "without a reason that RFC 6749 knows".to_owned();
        };
        let said = match error_description {
            Some(description) => format!("{error} ({description})"),
            None => error,
        };
        let said = said.replace(self.client_secret.expose(), MASK);
        said.chars().filter(|character| !character.is_control()).take(MAX_MESSAGE).collect()
    }
}

/// RFC 6750's `b64token`: anything else cannot be sent, or would be taken for something else.
fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sasl() -> Sasl {
        Sasl {
            token_url: Some("http://127.0.0.1:9/token".to_owned()),
            client_id: Some("relay".to_owned()),
            client_secret: Some(Secret::new("canary")),
            ..Sasl::new(Mechanism::OAuthBearer)
        }
    }

    #[test]
    fn a_reason_is_short_without_control_characters_and_without_the_secret() {
        let tokens = Tokens::new(&sasl()).unwrap();
        let long = "x".repeat(1000);
        let body = serde_json::json!({"error": "invalid_client", "error_description": format!("not canary\r\n{long}")});
        let reason = tokens.reason(body.to_string().as_bytes());
        assert!(reason.starts_with("invalid_client (not ***x"), "{reason}");
        assert_eq!(reason.len(), MAX_MESSAGE);
        assert!(tokens.reason(b"<html>").contains("RFC 6749"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (sasl, key) in [
            (Sasl { token_url: None, ..sasl() }, "sasl.token_url"),
            (Sasl { token_url: Some("ftp://a/".to_owned()), ..sasl() }, "sasl.token_url"),
            (Sasl { client_id: None, ..sasl() }, "sasl.client_id"),
            (Sasl { client_secret: None, ..sasl() }, "sasl.client_secret"),
        ] {
            assert_eq!(Tokens::new(&sasl).unwrap_err().key, key);
        }
        assert!(is_token("eyJhbGciOiJub25lIn0.e30.") && !is_token("") && !is_token("a\u{1}b"));
    }
}
