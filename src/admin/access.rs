//! Whom the listener lets in: what can change while it runs.

use super::host::Hosts;
use super::session::Sessions;
use super::settings::Settings;
use super::token::Token;
use std::sync::{Arc, PoisonError, RwLock};

/// The names that it answers to, and the token that opens it. Cloning shares them.
#[derive(Clone)]
pub struct Access(Arc<RwLock<Arc<Keys>>>);

pub(super) struct Keys {
    pub(super) hosts: Hosts,
    pub(super) token: Token,
    /// Of those who have shown this token.
    pub(super) sessions: Arc<Sessions>,
}

impl Access {
    /// By the section `admin`, and the token that it or the store has.
    pub fn new(settings: &Settings, token: Token) -> Self {
        Self(Arc::new(RwLock::new(Keys::new(settings, token, Arc::default()))))
    }

    /// These from the next request on. Another token ends what was begun with the one before.
    pub fn replace(&self, settings: &Settings, token: Token) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let same = keys.token.is(token.secret().expose().as_bytes());
        let sessions = if same { Arc::clone(&keys.sessions) } else { Arc::default() };
        *keys = Keys::new(settings, token, sessions);
    }

    pub(super) fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keys {
    fn new(settings: &Settings, token: Token, sessions: Arc<Sessions>) -> Arc<Self> {
        Arc::new(Self { hosts: Hosts::new(&settings.hosts), token, sessions })
    }
}
