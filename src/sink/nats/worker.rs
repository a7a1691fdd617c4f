//! The worker: takes records out of the queue, publishes them in that order, and settles each by what comes back.

use super::classify::Stored;
use super::doubts::Doubts;
use super::link::{Connector, Incoming, Link};
use super::pending::Pending;
use super::{classify, message};
use crate::sink::handover::{Attempts, Command, Job, record_only, sink_wide};
use crate::sink::{Reason, SendError};
use async_nats::{ConnectErrorKind, Event, Message, ServerError};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(super) struct Worker {
    connector: Connector,
    dedupe_prefix: Option<String>,
    commands: mpsc::Receiver<Command>,
    link: Option<Link>,
    attempts: Attempts,
    /// Why the connection is down, as far as the client has told.
    trouble: Option<SendError>,
    pending: Pending,
    /// Without JetStream: the token of the marker that is on its way. All records up to it were published before it.
    marker: Option<u64>,
    /// The count of connections at which all that is pending was published.
    connection: u64,
    doubts: Arc<Doubts>,
}

impl Worker {
    pub(super) fn new(
        connector: Connector,
        dedupe_prefix: Option<String>,
        commands: mpsc::Receiver<Command>,
        doubts: Arc<Doubts>,
    ) -> Self {
        Self {
            connector,
            dedupe_prefix,
            commands,
            link: None,
            attempts: Attempts::new(fastrand::Rng::new()),
            trouble: None,
            pending: Pending::default(),
            marker: None,
            connection: 0,
            doubts,
        }
    }

    /// Ends with [`Command::Close`] or with the sink.
    pub(super) async fn run(mut self) {
        loop {
            let has_room = self.pending.len() < self.connector.settings.max_unconfirmed;
            let deadline = self.pending.first_deadline();
            tokio::select! {
                biased;
                incoming = incoming(&mut self.link) => match incoming {
                    Incoming::Event(event) => self.on_event(event),
                    Incoming::Reply(message) => self.on_reply(&message),
                },
                () = until(deadline) => self.on_deadline(),
                command = self.commands.recv(), if has_room => match command {
                    Some(Command::Send(job)) => self.on_send(job).await,
                    Some(Command::Probe(answer)) => self.on_probe(answer).await,
                    Some(Command::Close(done)) => {
                        self.close().await;
                        // Nobody waiting for the end is no trouble.
                        let _ = done.send(());
                        return;
                    }
                    None => return self.close().await,
                },
            }
            self.send_marker().await;
        }
    }

    async fn on_send(&mut self, job: Job) {
        if let Err(error) = self.ready().await {
            return job.finish(Err(error));
        }
        self.notice_reconnect();
        let outgoing = job.outgoing.clone();
        let stream = self.connector.settings.stream.as_ref().map(|stream| stream.name.as_str());
        let headers = match message::check_subject(&outgoing.address)
            .and_then(|()| message::headers(&outgoing, self.dedupe_prefix.as_deref(), stream))
        {
            Ok(headers) => headers,
            Err(error) => return job.finish(Err(error)),
        };
        let deadline = Instant::now() + self.connector.settings.ack_timeout;
        let token = self.pending.insert(job, deadline);
        let Some(link) = &self.link else { return };
        let payload = outgoing.payload.clone();
        let peer = &self.connector.peer;
        let published = link.publish(&outgoing.address, token, headers, payload, deadline, peer).await;
        if let Err(error) = published
            && let Some(job) = self.pending.remove(token)
        {
            job.finish(Err(error));
        }
    }

    /// Connects if that was not done yet, and creates the stream on wish.
    async fn ready(&mut self) -> Result<(), SendError> {
        self.connect().await?;
        let (settings, peer) = (&self.connector.settings, &self.connector.peer);
        let Some(link) = &mut self.link else { return Ok(()) };
        let ensured = link.ensure_stream(settings.stream.as_ref(), peer).await;
        if let Err(error) = &ensured {
            self.attempts.failed(Instant::now(), error.clone());
        }
        ensured
    }

    async fn connect(&mut self) -> Result<(), SendError> {
        self.attempts.check(Instant::now())?;
        let peer = &self.connector.peer;
        let Some(link) = &self.link else {
            return match self.connector.connect().await {
                Ok(link) => {
                    self.attempts.succeeded();
                    self.link = Some(link);
                    Ok(())
                }
                Err(error) => {
                    self.attempts.failed(Instant::now(), error.clone());
                    Err(error)
                }
            };
        };
        // The client connects anew by itself and at its own pace; there is no attempt of ours to space.
        if !link.is_up() {
            let lost = || sink_wide(Reason::Connect, format!("the connection to {peer} is lost"));
            return Err(self.trouble.clone().unwrap_or_else(lost));
        }
        Ok(())
    }

    /// Creates nothing: asking is not to change what is there.
    async fn on_probe(&mut self, answer: oneshot::Sender<Result<String, SendError>>) {
        self.attempts.allow();
        let connected = self.connect().await;
        let (Ok(()), Some(link)) = (&connected, &self.link) else {
            // Whoever asked may have gone.
            let _ = answer.send(connected.map(|()| String::new()));
            return;
        };
        let inspector = link.inspector();
        let (settings, servers) = (self.connector.settings.clone(), self.connector.servers.clone());
        tokio::spawn(async move {
            let _ = answer.send(inspector.describe(&settings, &servers).await);
        });
    }

    /// One marker at a time: what is published meanwhile waits for the next one, so a flush serves many records.
    async fn send_marker(&mut self) {
        if self.connector.settings.jetstream || self.marker.is_some_and(|token| self.pending.contains(token)) {
            return;
        }
        self.notice_reconnect();
        self.marker = None;
        let (Some(token), Some(link)) = (self.pending.newest(), &self.link) else { return };
        let deadline = Instant::now() + self.connector.settings.ack_timeout;
        match link.publish_marker(token, deadline, &self.connector.peer).await {
            Ok(()) => self.marker = Some(token),
            Err(error) => finish_all(&self.doubts, self.pending.remove_all(), &error),
        }
    }

    fn on_reply(&mut self, message: &Message) {
        let token = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
        let Some(token) = token else { return };
        if !self.connector.settings.jetstream {
            self.notice_reconnect();
            for job in self.pending.remove_through(token) {
                self.doubts.answered(job.outgoing.sequence, false);
                job.finish(Ok(()));
            }
            return;
        }
        // An acknowledgement after the time-out has no record any more: it is being sent again, and the stream knows its id.
        let Some(job) = self.pending.remove(token) else { return };
        let stream = self.connector.settings.stream.as_ref();
        let outcome = classify::acknowledgement(message, &job.outgoing.address, stream, &self.connector.peer);
        // What is sent once more has an id of its own, which a stream knows again only from the same replay or retry.
        let is_news = outcome == Ok(Stored::Before) && job.outgoing.again().is_none();
        self.doubts.answered(job.outgoing.sequence, is_news);
        if let (Err(SendError::Retry { reason: Reason::Unroutable, .. }), Some(link)) = (&outcome, &mut self.link) {
            link.forget_stream();
        }
        job.finish(outcome.map(|_| ()));
    }

    fn on_event(&mut self, event: Event) {
        let peer = &self.connector.peer;
        match event {
            Event::Connected => self.trouble = None,
            Event::Disconnected | Event::Closed => self.lose_pending(),
            Event::ServerError(ServerError::AuthorizationViolation) => {
                self.trouble = Some(sink_wide(Reason::Auth, format!("{peer}: authorization violation")));
            }
            Event::ServerError(ServerError::Other(text)) => self.on_server_error(&text),
            Event::ClientError(error) => {
                // The client tells an attempt's failure by the kind's text alone.
                let text = error.to_string();
                let denied = text.ends_with(&ConnectErrorKind::AuthorizationViolation.to_string());
                let reason = if denied { Reason::Auth } else { Reason::Connect };
                self.trouble = Some(sink_wide(reason, format!("cannot connect to {peer}: {text}")));
            }
            Event::ServerError(ServerError::SlowConsumer(_))
            | Event::SlowConsumer(_)
            | Event::LameDuckMode
            | Event::Draining => {}
        }
    }

    /// The client's events are not ordered with its messages: a marker that went out on a new connection may come back
    /// before the loss of the old one is told. It must not confirm what was published on the old one.
    fn notice_reconnect(&mut self) {
        let Some(connection) = self.link.as_ref().map(Link::connection) else { return };
        if connection != self.connection {
            self.lose_pending();
            self.connection = connection;
        }
    }

    fn lose_pending(&mut self) {
        let lost = format!("the connection to {} was lost before the confirmation", self.connector.peer);
        self.marker = None;
        finish_all(&self.doubts, self.pending.remove_all(), &sink_wide(Reason::Connect, lost));
    }

    /// `Permissions Violation for Publish to "subject"` ends the records to that subject, which nothing else would tell
    /// apart from an acknowledgement that is late. Without JetStream this is best effort: nothing orders the client's
    /// events with its messages, and the marker may come back first.
    fn on_server_error(&mut self, text: &str) {
        let error = sink_wide(Reason::Auth, format!("{}: {text}", self.connector.peer));
        let denied =
            text.strip_prefix("Permissions Violation for Publish to ").map(|subject| subject.trim_matches('"'));
        match denied {
            Some(subject) => finish_all(&self.doubts, self.pending.remove_subject(subject), &error),
            // `User Authentication Expired`, `Maximum Connections Exceeded` and the like end the connection.
            None => self.trouble = Some(error),
        }
    }

    fn on_deadline(&mut self) {
        let (peer, limit) = (&self.connector.peer, self.connector.settings.ack_timeout);
        let late = record_only(Reason::Timeout, format!("no acknowledgement from {peer} within {limit:?}"));
        finish_all(&self.doubts, self.pending.remove_expired(Instant::now()), &late);
    }

    async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.close().await;
        }
        let closed = sink_wide(Reason::Connect, format!("the connection to {} is closed", self.connector.peer));
        finish_all(&self.doubts, self.pending.remove_all(), &closed);
    }
}

/// Ends records of which nobody knows whether the server has them.
fn finish_all(doubts: &Doubts, jobs: Vec<Job>, error: &SendError) {
    for job in jobs {
        doubts.unanswered(job.outgoing.sequence);
        job.finish(Err(error.clone()));
    }
}

async fn incoming(link: &mut Option<Link>) -> Incoming {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
