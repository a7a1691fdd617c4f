//! Whom the listener lets in: what can change while it runs.

use super::host::Hosts;
use super::settings::Settings;
use super::token::Token;
use std::sync::{Arc, PoisonError, RwLock};

/// The names that it answers to, and the token that opens it. Cloning shares them.
#[derive(Clone)]
pub struct Access(Arc<RwLock<Arc<Keys>>>);

pub(super) struct Keys {
    pub(super) hosts: Hosts,
    pub(super) token: Token,
}

impl Access {
    /// By the section `admin`, and the token that it or the store has.
    pub fn new(settings: &Settings, token: Token) -> Self {
        Self(Arc::new(RwLock::new(Keys::new(settings, token))))
    }

    /// These from the next request on.
    pub fn replace(&self, settings: &Settings, token: Token) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Keys::new(settings, token);
    }

    pub(super) fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Keys {
    fn new(settings: &Settings, token: Token) -> Arc<Self> {
        Arc::new(Self { hosts: Hosts::new(&settings.hosts), token })
    }
}
