//! Dead letters that are handed on, to a topic, subject or queue on the same broker that somebody else looks after.
//!
//! A letter is in the store before, and stops waiting there only once the peer has confirmed it. What the peer does not
//! take there either stays.

use super::Handle;
use super::send::Refusal;
use crate::backoff::Backoff;
use crate::decode;
use crate::deliver::BACKOFF;
use crate::event::Stored;
use crate::store::{DeadLetter, Resolution};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;

const REASON_HEADER: &str = "e2b-relay-dead-letter";
const MESSAGE_HEADER: &str = "e2b-relay-error";
/// Longest value of a header, in characters: of what a peer said.
const MAX_MESSAGE: usize = 500;

/// What became of an attempt.
enum Handed {
    On,
    /// Not to be had there either.
    Refused(String),
}

impl Handle {
    /// Hands on what waits, and then whatever comes, until told to end; nothing without an address.
    pub(in crate::deliver) async fn forward(self, to: Option<String>) {
        let Some(to) = to else { return };
        let mut ending = self.ending.clone();
        tokio::select! {
            biased;
            () = ending.requested() => {}
            () = self.hand_on_all(&to) => {}
        }
    }

    async fn hand_on_all(&self, to: &str) {
        let mut refused = HashSet::new();
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1, fastrand::Rng::new());
        loop {
            match self.hand_on_some(to, &mut refused).await {
                Ok(0) => self.parked.notified().await,
                Ok(_) => backoff.reset(),
                Err(error) => {
                    tracing::error!(sink = self.road.name, %error, "dead letters cannot be handed on");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// Returns how many it looked at.
    async fn hand_on_some(&self, to: &str, refused: &mut HashSet<u64>) -> io::Result<usize> {
        let road = Arc::clone(&self.road);
        let is_new = |(sequence, _): &(u64, DeadLetter)| !refused.contains(sequence);
        let letters: Vec<_> = road.claim.dead_letters().into_iter().filter(is_new).collect();
        for (sequence, letter) in &letters {
            let (claim, sequence) = (road.claim.clone(), *sequence);
            let read = tokio::task::spawn_blocking(move || claim.dead_letter_event(sequence));
            let Some(stored) = read.await.map_err(io::Error::other)?? else { continue };
            match self.hand_on(to, letter, &stored).await {
                Handed::On => {
                    let resolved = self.resolve(vec![sequence], Resolution::Forwarded).await;
                    resolved.map_err(io::Error::other)?;
                    road.metrics.dead_letter_forwarded(&road.name);
                }
                Handed::Refused(why) => {
                    tracing::warn!(
                        sink = road.name,
                        sequence,
                        to,
                        error = why,
                        "a dead letter is not taken where it was to be handed on, and stays"
                    );
                    refused.insert(sequence);
                }
            }
        }
        Ok(letters.len())
    }

    async fn hand_on(&self, to: &str, letter: &DeadLetter, stored: &Stored) -> Handed {
        let road = &self.road;
        let mut outgoing = match decode::stored(&stored.event) {
            Ok(record) => match road.router.readdressed(stored, &record, road.store.instance(), to) {
                Ok(outgoing) => outgoing,
                Err(error) => return Handed::Refused(error),
            },
            Err(malformed) => return Handed::Refused(malformed.to_string()),
        };
        let visible = |character: &char| character.is_ascii_graphic() || *character == ' ';
        let message: String = letter.cause.message.chars().filter(visible).take(MAX_MESSAGE).collect();
        outgoing.headers.push((REASON_HEADER.to_owned(), letter.cause.reason.clone()));
        outgoing.headers.push((MESSAGE_HEADER.to_owned(), message));
        match road.insist(outgoing).await {
            Ok(()) => Handed::On,
            Err(Refusal::Dropped(message) | Refusal::Rejected(_, message)) => Handed::Refused(message),
        }
    }
}
