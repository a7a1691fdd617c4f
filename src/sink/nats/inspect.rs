//! Who the server is, who we are to it, and what the stream is like: for people to read, at the start and on `probe`.

use super::classify;
use super::settings::{Servers, Settings, Stream};
use crate::sink::SendError;
use async_nats::Client;
use async_nats::jetstream::{self, stream};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// For what is told only if the server tells it at once: a user with few rights is not answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a restart may take, from the last record that was sent to its repetition, beside the time for an
/// acknowledgement and the longest back-off (30 s).
const RESTART: Duration = Duration::from_secs(90);

/// Asks the server about itself, beside the worker.
pub(super) struct Inspector {
    client: Client,
}

impl Inspector {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// `nats-server 2.15.2, TLS, as relay, JetStream, stream E2B (subjects e2b.>, duplicate window 2m)`.
    pub(super) async fn describe(&self, settings: &Settings, servers: &Servers) -> Result<String, SendError> {
        let info = self.client.server_info();
        let requires = |address: &async_nats::ServerAddr| address.tls_required();
        let own = settings.ca_file.is_some() || settings.cert_file.is_some() || servers.addresses.iter().any(requires);
        let tls = if own || info.tls_required { "TLS" } else { "no TLS" };
        let whom = self.whom(settings, servers).await;
        let server = format!("nats-server {}, {tls}, {whom}", info.version);
        if !settings.jetstream {
            return Ok(server);
        }
        let (peer, jetstream) = (&servers.peer, jetstream::new(self.client.clone()));
        let Some(wanted) = &settings.stream else {
            return match jetstream.query_account().await {
                Ok(_) => Ok(format!("{server}, JetStream")),
                Err(error) => Err(classify::account(&error, peer)),
            };
        };
        match jetstream.get_stream(&wanted.name).await {
            Ok(mut found) => {
                let config = match found.info().await {
                    Ok(info) => &info.config,
                    Err(_) => &found.cached_info().config,
                };
                warn_if_forgetful(config.duplicate_window, settings, wanted);
                Ok(format!("{server}, JetStream, {}", in_words(config)))
            }
            Err(error) if wanted.create && classify::is_missing(&error) => {
                warn_if_forgetful(wanted.duplicate_window, settings, wanted);
                Ok(format!("{server}, JetStream, stream {} to be created", wanted.name))
            }
            Err(error) => Err(classify::stream(&error, wanted, peer)),
        }
    }

    /// Who we are to the server; never a secret.
    async fn whom(&self, settings: &Settings, servers: &Servers) -> String {
        if let Some((user, _)) = &servers.user {
            return format!("as {user}");
        }
        if settings.token.is_some() {
            return "by a token".to_owned();
        }
        // Here the server knows best: an nkey's, a JWT's and a certificate's user is not ours to tell.
        let asked = timeout(PATIENCE, self.client.request("$SYS.REQ.USER.INFO", bytes::Bytes::new())).await;
        let answer = asked.ok().and_then(Result::ok).and_then(|answer| serde_json::from_slice(&answer.payload).ok());
        let user = answer.as_ref().and_then(|answer: &Value| answer.pointer("/data/user")?.as_str());
        let how = [(settings.nkey.is_some(), " by an nkey"), (settings.credentials.is_some(), " by credentials")];
        let how = how.into_iter().find_map(|(is, how)| is.then_some(how)).unwrap_or_default();
        match user {
            Some(user) if !user.is_empty() => format!("as {user}{how}"),
            _ if how.is_empty() => "without a login".to_owned(),
            _ => how.trim_start().to_owned(),
        }
    }
}

fn in_words(config: &stream::Config) -> String {
    let mut words = vec![format!("subjects {}", config.subjects.join(" "))];
    if config.num_replicas > 1 {
        words.push(format!("{} replicas", config.num_replicas));
    }
    words.push(format!("duplicate window {:?}", config.duplicate_window));
    if config.max_age > Duration::ZERO {
        words.push(format!("keeps a record for {:?}", config.max_age));
    }
    if config.max_bytes > 0 {
        words.push(format!("at most {} bytes", config.max_bytes));
    }
    format!("stream {} ({})", config.name, words.join(", "))
}

/// What is repeated after the window has passed is stored a second time.
fn warn_if_forgetful(window: Duration, settings: &Settings, stream: &Stream) {
    let needed = settings.ack_timeout + RESTART;
    if window < needed {
        tracing::warn!(
            stream = stream.name,
            duplicate_window = ?window,
            ?needed,
            "the stream forgets ids sooner than a restart may repeat records: they would be stored twice; give it a longer \
             duplicate window, such as with `nats stream edit --dupe-window`"
        );
    }
}
