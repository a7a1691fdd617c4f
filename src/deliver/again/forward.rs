//! Dead letters that are handed on, to a topic, subject or queue on the same broker that somebody else looks after.
//!
//! A letter is in the store before, and stops waiting there only once the peer has confirmed it. What the peer does not
//! take there either stays.

use super::Handle;
use super::letter::{Read, Unreadable};
use super::send::Refusal;
use crate::decode;
use crate::event::Stored;
use crate::logging::Occasional;
use crate::store::{DeadLetter, Resolution};
use std::collections::HashSet;
use std::io;
use tokio::time::{Instant, timeout_at};

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

/// Letters that wait and are passed over.
#[derive(Default)]
struct Passed {
    /// For good: the peer does not take them, or they are damaged.
    refused: HashSet<u64>,
    /// Until the disk is asked again.
    unread: HashSet<u64>,
}

impl Passed {
    fn knows(&self, sequence: u64) -> bool {
        self.refused.contains(&sequence) || self.unread.contains(&sequence)
    }

    fn over(&mut self, sequence: u64, why: &Unreadable) {
        match why {
            Unreadable::Damaged => self.refused.insert(sequence),
            Unreadable::Disk(_) => self.unread.insert(sequence),
        };
    }
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
        let mut passed = Passed::default();
        let mut backoff = self.road.backoff();
        let said = Occasional::default();
        loop {
            match self.hand_on_some(to, &mut passed, &said).await {
                Ok(0) if passed.unread.is_empty() => self.parked.notified().await,
                Ok(0) => {
                    // What comes meanwhile does not wait for them, and does not have them read again sooner.
                    let due = Instant::now() + backoff.next_delay();
                    while timeout_at(due, self.parked.notified()).await.is_ok() {
                        if let Err(error) = self.hand_on_some(to, &mut passed, &said).await {
                            self.tell_unresolved(&error, &said);
                        }
                    }
                    passed.unread.clear();
                }
                Ok(_) if passed.unread.is_empty() => backoff.reset(),
                Ok(_) => {}
                Err(error) => {
                    self.tell_unresolved(&error, &said);
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    fn tell_unresolved(&self, error: &io::Error, said: &Occasional) {
        if let Some(suppressed) = said.pass(Instant::now()) {
            tracing::error!(sink = self.road.name, %error, suppressed, "dead letters cannot be handed on");
        }
    }

    /// Returns how many it looked at: of each that waits after that, `passed` knows why.
    async fn hand_on_some(&self, to: &str, passed: &mut Passed, said: &Occasional) -> io::Result<usize> {
        let road = &self.road;
        let is_new = |(sequence, _): &(u64, DeadLetter)| !passed.knows(*sequence);
        let letters: Vec<_> = road.claim.dead_letters().into_iter().filter(is_new).collect();
        for (sequence, letter) in &letters {
            let sequence = *sequence;
            let stored = match road.read_letter(sequence).await {
                Read::Event(stored) => stored,
                Read::Gone => continue,
                Read::Unreadable(error) => {
                    road.tell_unreadable(sequence, &error, said);
                    passed.over(sequence, &error);
                    continue;
                }
            };
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
                    passed.refused.insert(sequence);
                }
            }
        }
        Ok(letters.len())
    }

    async fn hand_on(&self, to: &str, letter: &DeadLetter, stored: &Stored) -> Handed {
        let road = &self.road;
        let mut outgoing = match decode::stored(&stored.event) {
            Ok(record) => match road.router.readdressed(stored, &record, road.log.instance(), to) {
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
