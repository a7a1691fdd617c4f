//! The connection: made once, kept by async-nats from then on.

use super::classify;
use super::inspect::Inspector;
use super::settings::{Discard, Servers, Settings, Stream};
use crate::backoff::Backoff;
use crate::sink::InvalidSetting;
use crate::sink::handover::sink_wide;
use crate::sink::{Reason, SendError};
use async_nats::connection::State;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// How many connection events may wait for the worker; of more than that the oldest tell the story.
const EVENTS: usize = 64;

/// Two of them unanswered, and the connection counts as dead.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// For a question to JetStream itself, such as whether a stream exists.
const API_TIMEOUT: Duration = Duration::from_secs(5);

/// Delays between attempts to connect anew: none before the first, then at most 100 ms, 200 ms … 10 s.
const RECONNECT_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Makes the connection.
pub(super) struct Connector {
    pub(super) settings: Settings,
    pub(super) peer: Arc<str>,
    pub(super) servers: Servers,
    options: ConnectOptions,
}

impl Connector {
    pub(super) fn new(
        settings: Settings,
        servers: Servers,
        tls: Option<rustls::ClientConfig>,
    ) -> Result<Self, InvalidSetting> {
        let (base, cap) = RECONNECT_BACKOFF;
        let backoff = Mutex::new(Backoff::new(base, cap, fastrand::Rng::new()));
        let mut options = ConnectOptions::new()
            .name("e2b-relay")
            .connection_timeout(settings.connect_timeout)
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(API_TIMEOUT))
            // Room for what waits for its acknowledgement, so that handing over to the client never has to wait.
            .client_capacity(settings.max_unconfirmed.saturating_mul(2))
            .reconnect_delay_callback(move |attempt| {
                let mut backoff = backoff.lock().unwrap_or_else(PoisonError::into_inner);
                if attempt <= 1 {
                    backoff.reset();
                    return Duration::ZERO;
                }
                backoff.next_delay()
            });
        if let Some(tls) = tls {
            // Who names an authority or shows a certificate does not want to be talked out of TLS.
            let wanted = settings.ca_file.is_some() || settings.cert_file.is_some();
            options = options.tls_client_config(tls).require_tls(wanted);
        }
        if let Some((user, password)) = &servers.user {
            options = options.user_and_password(user.clone(), password.expose().to_owned());
        }
        let options = settings.logged_in(options)?;
        let peer = servers.peer.as_str().into();
        Ok(Self { settings, peer, servers, options })
    }

    pub(super) async fn connect(&self) -> Result<Link, SendError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let options = self.options.clone().event_callback(move |event| {
            // What finds no room is lost: the records it concerns then end by their time-out.
            let _ = sender.try_send(event);
            std::future::ready(())
        });
        // One time-out per server; the further one is for looking up their names.
        let servers = u32::try_from(self.servers.addresses.len()).unwrap_or(u32::MAX);
        let limit = self.settings.connect_timeout.saturating_mul(servers.saturating_add(1));
        let client = timeout(limit, options.connect(self.servers.addresses.as_slice()))
            .await
            .map_err(|_| sink_wide(Reason::Connect, format!("cannot connect to {}: timed out", self.peer)))?
            .map_err(|error| classify::connecting(&error, &self.peer))?;
        let inbox = client.new_inbox();
        let replies = client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| sink_wide(Reason::Connect, format!("cannot subscribe at {}: {error}", self.peer)))?;
        Ok(Link { client, inbox, replies, events, stream_is_there: false })
    }
}

/// The connection to the servers, which may be lost and come back at any time.
pub(super) struct Link {
    client: Client,
    inbox: String,
    replies: Subscriber,
    events: mpsc::Receiver<Event>,
    stream_is_there: bool,
}

/// What the connection tells by itself.
pub(super) enum Incoming {
    Event(Event),
    Reply(Message),
}

impl Link {
    /// Whatever comes next, a loss of the connection before the replies that came since. Safe to cancel.
    pub(super) async fn next(&mut self) -> Incoming {
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => Incoming::Event(event),
            Some(message) = self.replies.next() => Incoming::Reply(message),
            else => std::future::pending().await,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Counts the connections made so far: it stays the same as long as the connection does.
    pub(super) fn connection(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Publishes with a reply to our inbox, ending in `token`.
    pub(super) async fn publish(
        &self,
        subject: &str,
        token: u64,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
        peer: &str,
    ) -> Result<(), SendError> {
        let reply = format!("{}.{token}", self.inbox);
        let publishing = self.client.publish_with_reply_and_headers(subject.to_owned(), reply, headers, payload);
        timeout_at(deadline, publishing)
            .await
            .map_err(|_| sink_wide(Reason::Timeout, format!("{peer} takes nothing in")))?
            .map_err(|error| classify::publishing(&error, peer))
    }

    /// Publishes to our own inbox: the message comes back when the server has read all before it.
    pub(super) async fn publish_marker(&self, token: u64, deadline: Instant, peer: &str) -> Result<(), SendError> {
        let publishing = self.client.publish(format!("{}.{token}", self.inbox), Bytes::new());
        timeout_at(deadline, publishing)
            .await
            .map_err(|_| sink_wide(Reason::Timeout, format!("{peer} takes nothing in")))?
            .map_err(|error| classify::publishing(&error, peer))
    }

    /// To look for the stream again: it may have gone.
    pub(super) fn forget_stream(&mut self) {
        self.stream_is_there = false;
    }

    /// Creates the stream if that is asked for and it is missing.
    pub(super) async fn ensure_stream(&mut self, stream: Option<&Stream>, peer: &str) -> Result<(), SendError> {
        let Some(stream) = stream.filter(|stream| stream.create && !self.stream_is_there) else { return Ok(()) };
        let config = stream::Config {
            name: stream.name.clone(),
            subjects: stream.subjects.clone(),
            num_replicas: stream.replicas,
            duplicate_window: stream.duplicate_window,
            max_age: stream.max_age.unwrap_or_default(),
            max_bytes: stream.max_bytes.map_or(-1, |size| i64::try_from(size.as_u64()).unwrap_or(i64::MAX)),
            discard: match stream.discard {
                Discard::Old => stream::DiscardPolicy::Old,
                Discard::New => stream::DiscardPolicy::New,
            },
            storage: stream::StorageType::File,
            ..stream::Config::default()
        };
        jetstream::new(self.client.clone())
            .get_or_create_stream(config)
            .await
            .map_err(|error| classify::creating(&error, stream, peer))?;
        self.stream_is_there = true;
        Ok(())
    }

    /// Asks who is there.
    pub(super) fn inspector(&self) -> Inspector {
        Inspector::new(self.client.clone())
    }

    /// Ends the connection after what was published is written.
    pub(super) async fn close(self) {
        // Errors mean that there is nothing left to close; an unreachable server is not waited for.
        let _ = timeout(API_TIMEOUT, self.client.drain()).await;
    }
}
