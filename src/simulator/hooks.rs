//! Registered webhooks, and the log of what was sent to them.

use super::deliver::{Attempt, Transport};
use super::life::Happening;
use crate::client::{Client, ClientError, Limits};
use crate::secret::Secret;
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Webhooks of one account.
const MAX_HOOKS: usize = 100;

/// Attempts that the log keeps; above it the oldest leave, as they do at the provider after 7 days.
const MAX_ATTEMPTS: usize = 100_000;

/// One registration.
#[derive(Clone)]
pub(super) struct Hook {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created_at: Timestamp,
    pub(super) url: String,
    pub(super) enabled: bool,
    /// Types; empty for every type there is and will be.
    pub(super) events: Vec<String>,
    pub(super) secret: Secret,
    pub(super) transport: Arc<dyn Transport>,
}

impl Hook {
    /// The way to a receiver.
    pub(super) fn transport(url: &str) -> Result<Arc<dyn Transport>, ClientError> {
        Ok(Arc::new(Client::new(url, Limits::default())?))
    }

    fn wants(&self, kind: &str) -> bool {
        self.enabled && (self.events.is_empty() || self.events.iter().any(|event| event == kind))
    }
}

/// One attempt, as the log keeps it.
pub(super) struct Logged {
    pub(super) id: String,
    pub(super) hook_id: String,
    pub(super) url: String,
    pub(super) happening: Arc<Happening>,
    pub(super) body: Bytes,
    pub(super) attempt: Attempt,
}

impl Logged {
    pub(super) fn is_success(&self) -> bool {
        matches!(&self.attempt.result, Ok(answer) if (200..300).contains(&answer.status))
    }
}

/// The attempts for one event.
pub(super) struct Group {
    /// Where it stands in the list: nanoseconds of the first attempt, and the event.
    pub(super) place: (i128, String),
    /// Not empty, oldest first.
    pub(super) attempts: Vec<Arc<Logged>>,
}

/// Of one account.
#[derive(Default)]
pub(super) struct Hooks {
    hooks: Vec<Arc<Hook>>,
    log: VecDeque<Arc<Logged>>,
}

impl Hooks {
    pub(super) fn all(&self) -> &[Arc<Hook>] {
        &self.hooks
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<Hook>> {
        self.hooks.iter().find(|hook| hook.id == id)
    }

    pub(super) fn add(&mut self, hook: Hook) -> Result<Arc<Hook>, &'static str> {
        if self.hooks.len() >= MAX_HOOKS {
            return Err("too many webhooks");
        }
        let hook = Arc::new(hook);
        self.hooks.push(Arc::clone(&hook));
        Ok(hook)
    }

    /// In the place of the one with its id.
    pub(super) fn replace(&mut self, hook: Hook) -> Option<Arc<Hook>> {
        let place = self.hooks.iter_mut().find(|one| one.id == hook.id)?;
        *place = Arc::new(hook);
        Some(Arc::clone(place))
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let before = self.hooks.len();
        self.hooks.retain(|hook| hook.id != id);
        self.hooks.len() < before
    }

    pub(super) fn wanting(&self, kind: &str) -> Vec<Arc<Hook>> {
        self.hooks.iter().filter(|hook| hook.wants(kind)).cloned().collect()
    }

    pub(super) fn log(&mut self, logged: Logged) {
        self.log.push_back(Arc::new(logged));
        if self.log.len() > MAX_ATTEMPTS {
            self.log.pop_front();
        }
    }

    pub(super) fn attempts<'a>(&'a self, hook_id: &'a str) -> impl Iterator<Item = &'a Arc<Logged>> {
        self.log.iter().filter(move |logged| logged.hook_id == hook_id)
    }

    /// By event, ascending. A place in the list does not change when a further attempt is made, so that a cursor into
    /// it neither skips nor repeats.
    pub(super) fn groups(&self, hook_id: &str, is_wanted: impl Fn(&Logged) -> bool) -> Vec<Group> {
        let mut places: BTreeMap<&str, i128> = BTreeMap::new();
        let mut groups: BTreeMap<(i128, &str), Vec<Arc<Logged>>> = BTreeMap::new();
        for logged in self.attempts(hook_id) {
            let id = logged.happening.id.as_str();
            let first = *places.entry(id).or_insert_with(|| logged.attempt.started.as_nanosecond());
            if is_wanted(logged) {
                groups.entry((first, id)).or_default().push(Arc::clone(logged));
            }
        }
        let group = |((first, id), attempts): ((i128, &str), _)| Group { place: (first, id.to_owned()), attempts };
        groups.into_iter().map(group).collect()
    }
}
