//! Browsers that have shown the token once, and show a cookie since.
//!
//! The cookie holds a random value of its own, never the token; it is gone with the daemon, with another token, and after
//! [`LIFE`].

use crate::secret::Secret;
use axum::http::{HeaderMap, header};
use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// So many at once; one more ends the oldest.
const MOST: usize = 64;
/// How long one lasts.
pub(super) const LIFE: Duration = Duration::from_secs(12 * 3600);

/// Those that are open, the oldest first.
#[derive(Default)]
pub(super) struct Sessions(Mutex<VecDeque<Session>>);

struct Session {
    value: Secret,
    until: Instant,
}

impl Sessions {
    /// Begins one; what its cookie is to hold.
    pub(super) fn begin(&self) -> io::Result<Secret> {
        let value = Secret::fresh()?;
        let mut open = self.open();
        while open.len() >= MOST {
            open.pop_front();
        }
        open.push_back(Session { value: value.clone(), until: Instant::now() + LIFE });
        Ok(value)
    }

    /// Whether one of these is open.
    pub(super) fn knows(&self, presented: &[&str]) -> bool {
        let open = self.open();
        // Every one is compared as a whole: the time tells nothing of how near a guess was.
        presented.iter().any(|value| open.iter().filter(|session| session.is(value)).count() > 0)
    }

    /// Ends these.
    pub(super) fn end(&self, presented: &[&str]) {
        self.open().retain(|session| !presented.iter().any(|value| session.is(value)));
    }

    /// Those whose time is not over.
    fn open(&self) -> MutexGuard<'_, VecDeque<Session>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        open.retain(|session| session.until > now);
        open
    }
}

impl Session {
    fn is(&self, value: &str) -> bool {
        self.value.expose().as_bytes().ct_eq(value.as_bytes()).into()
    }
}

/// The cookie's name. Browsers send a host's cookies to all of its ports: two daemons on one host must not share one.
pub(super) fn cookie_name(port: u16) -> String {
    format!("e2b_relay_{port}")
}

/// The values of all cookies of this name.
pub(super) fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    let headers = headers.get_all(header::COOKIE).iter().filter_map(|text| text.to_str().ok());
    let pairs = headers.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(found, _)| *found == name).map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sessions_are_few_and_end() {
        let sessions = Sessions::default();
        let first = sessions.begin().unwrap();
        assert!(sessions.knows(&["x", first.expose()]));
        assert!(!sessions.knows(&["", &first.expose()[1..]]) && !sessions.knows(&[]));
        let others: Vec<Secret> = (0..MOST).map(|_| sessions.begin().unwrap()).collect();
        assert!(!sessions.knows(&[first.expose()]), "one too many ends the oldest");
        assert!(others.iter().all(|other| sessions.knows(&[other.expose()])));
        sessions.end(&[others[3].expose()]);
        assert!(!sessions.knows(&[others[3].expose()]) && sessions.knows(&[others[4].expose()]));
        tokio::time::advance(LIFE).await;
        assert!(!sessions.knows(&[others[4].expose()]));
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; e2b_relay_1=x;e2b_relay_11=z".parse().unwrap());
        headers.append(header::COOKIE, "e2b_relay_1=y=; b".parse().unwrap());
        assert_eq!(cookies(&headers, &cookie_name(1)), ["x", "y="]);
    }
}
