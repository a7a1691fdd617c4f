//! The worker: takes records out of the queue in order, connects when need be, and lets each record's send run beside the
//! others.

use super::connect::Connector;
use super::link::Link;
use crate::sink::SendError;
use crate::sink::handover::{Attempts, Command, Job};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(super) struct Worker {
    connector: Connector,
    commands: mpsc::Receiver<Command>,
    link: Option<Arc<Link>>,
    attempts: Attempts,
}

impl Worker {
    pub(super) fn new(connector: Connector, commands: mpsc::Receiver<Command>) -> Self {
        Self { connector, commands, link: None, attempts: Attempts::new(fastrand::Rng::new()) }
    }

    /// Ends with [`Command::Close`] or with the sink.
    pub(super) async fn run(mut self) {
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Send(job) => self.on_send(job).await,
                Command::Probe(answer) => self.on_probe(answer).await,
                Command::Close(done) => {
                    self.close().await;
                    // Nobody waiting for the end is no trouble.
                    let _ = done.send(());
                    return;
                }
            }
        }
        self.close().await;
    }

    async fn on_send(&mut self, job: Job) {
        let link = match self.link().await {
            Ok(link) => link,
            Err(error) => return job.finish(Err(error)),
        };
        let declared = match link.declare(0).await {
            Ok(declared) => declared,
            Err(error) => {
                self.attempts.failed(Instant::now(), error.clone());
                self.link = None;
                return job.finish(Err(error));
            }
        };
        // As many as `deliver` hands over, which is bounded; how many of them are published at once, the link bounds. Here
        // nobody waits for a broker that blocks, so that the sink can be closed all the same.
        tokio::spawn(async move {
            let outcome = link.publish(&job.outgoing, declared).await;
            job.finish(outcome);
        });
    }

    /// Declares nothing: asking is not to change what is there.
    async fn on_probe(&mut self, answer: oneshot::Sender<Result<String, SendError>>) {
        self.attempts.allow();
        let link = self.link().await;
        tokio::spawn(async move {
            let described = match link {
                Ok(link) => link.describe().await,
                Err(error) => Err(error),
            };
            // Whoever asked may have gone.
            let _ = answer.send(described);
        });
    }

    /// The connection, made anew if the last one is lost and another attempt is due.
    async fn link(&mut self) -> Result<Arc<Link>, SendError> {
        if let Some(link) = self.link.as_ref().filter(|link| link.is_up()) {
            return Ok(link.clone());
        }
        self.link = None;
        self.attempts.check(Instant::now())?;
        match self.connector.connect().await {
            Ok(link) => {
                self.attempts.succeeded();
                Ok(self.link.insert(Arc::new(link)).clone())
            }
            Err(error) => {
                self.attempts.failed(Instant::now(), error.clone());
                Err(error)
            }
        }
    }

    async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }
}
