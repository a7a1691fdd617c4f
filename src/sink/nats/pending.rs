//! The records whose acknowledgement is awaited, by the token at the end of their reply subject.

use crate::sink::handover::Job;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Tokens rise, and so do deadlines, since every record gets the same time.
#[derive(Default)]
pub(super) struct Pending {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

struct Waiting {
    job: Job,
    deadline: Instant,
}

impl Pending {
    pub(super) fn insert(&mut self, job: Job, deadline: Instant) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, Waiting { job, deadline });
        self.next
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<Job> {
        self.waiting.remove(&token).map(|waiting| waiting.job)
    }

    /// All up to and including `token`, oldest first.
    pub(super) fn remove_through(&mut self, token: u64) -> Vec<Job> {
        let later = self.waiting.split_off(&token.saturating_add(1));
        std::mem::replace(&mut self.waiting, later).into_values().map(|waiting| waiting.job).collect()
    }

    /// All that `now` is too late for.
    pub(super) fn remove_expired(&mut self, now: Instant) -> Vec<Job> {
        let on_time = self.waiting.iter().find(|(_, waiting)| now < waiting.deadline).map(|(token, _)| *token);
        self.remove_through(on_time.unwrap_or(u64::MAX).saturating_sub(1))
    }

    /// All to one subject.
    pub(super) fn remove_subject(&mut self, subject: &str) -> Vec<Job> {
        self.waiting
            .extract_if(.., |_, waiting| waiting.job.outgoing.address == subject)
            .map(|(_, it)| it.job)
            .collect()
    }

    pub(super) fn remove_all(&mut self) -> Vec<Job> {
        self.remove_through(u64::MAX)
    }

    pub(super) fn contains(&self, token: u64) -> bool {
        self.waiting.contains_key(&token)
    }

    pub(super) fn newest(&self) -> Option<u64> {
        self.waiting.last_key_value().map(|(token, _)| *token)
    }

    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting.deadline)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
