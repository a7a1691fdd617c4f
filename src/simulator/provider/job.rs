//! What becomes of one event: whom it is delivered to, when, and how often.

use super::{Account, Shared, within};
use crate::secret::Secret;
use crate::simulator::deliver::Terms;
use crate::simulator::faults::Fault;
use crate::simulator::hooks::{Hook, Logged};
use crate::simulator::ledger::{Entry, Fate, Place};
use crate::simulator::life::{Happening, uuid};
use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// A reordered event waits for the next one to be delivered, but not for longer.
const LONGEST_REORDER: Duration = Duration::from_secs(5);

/// One event's deliveries.
pub(super) struct Job {
    happening: Arc<Happening>,
    hooks: Vec<Arc<Hook>>,
    body: Bytes,
    place: Place,
    fate: Fate,
    times: u32,
    forged: bool,
    delay: Option<Duration>,
    /// How many events' deliveries must have ended before.
    after: Option<u64>,
    random: Rng,
}

impl Job {
    pub(super) fn draw(shared: &Shared, account: &mut Account, happening: Arc<Happening>, listed: bool) -> Self {
        let faults = &shared.options.faults;
        let mut strikes = |fault| faults.strikes(fault, &mut account.random);
        let dropped = strikes(Fault::DropDeliveries);
        let times = 1 + u32::from(strikes(Fault::RepeatDeliveries));
        let forged = strikes(Fault::ForgeDeliveries);
        let reordered = strikes(Fault::ReorderDeliveries);
        let delayed = strikes(Fault::DelayDeliveries);
        // Strings and numbers in structs always have a JSON form.
        let shape = shared.options.shape.unwrap_or_default();
        let body = shape.body(&happening).map_or_else(|_| Bytes::new(), Bytes::from);
        let hooks = account.hooks.wanting(&happening.kind);
        let fate = match (dropped, hooks.is_empty()) {
            (true, _) => Fate::Withheld,
            (false, true) => Fate::Unaddressed,
            (false, false) => Fate::Underway,
        };
        let entry = Entry {
            id: Some(happening.id.clone()),
            kind: happening.kind.clone(),
            sandbox_id: happening.sandbox_id.clone(),
            body: body.clone(),
            listed,
            fate: fate.clone(),
        };
        let place = shared.ledger.made(entry);
        Self {
            hooks,
            body,
            place,
            fate,
            times,
            forged,
            delay: delayed.then(|| within(shared.options.delay_by, account)),
            // All before it, and one after it.
            after: reordered.then(|| shared.ledger.summary().made),
            random: account.random.fork(),
            happening,
        }
    }

    pub(super) async fn run(mut self, shared: &Shared) {
        if self.fate != Fate::Underway {
            return shared.ledger.settle(self.place, self.fate);
        }
        if let Some(after) = self.after {
            let mut settled = shared.settled.subscribe();
            // Where nothing follows, it is the last one and cannot be out of order.
            let _ = tokio::time::timeout(LONGEST_REORDER, settled.wait_for(|settled| *settled >= after)).await;
        }
        tokio::time::sleep(self.delay.unwrap_or_default()).await;
        let hooks = std::mem::take(&mut self.hooks);
        let sent = hooks.iter().map(|hook| {
            let random = self.random.fork();
            self.send(shared, hook, random)
        });
        let fates = join_all(sent.collect::<Vec<_>>()).await;
        shared.ledger.settle(self.place, fates.into_iter().reduce(together).unwrap_or(self.fate));
    }

    fn send<'a>(
        &self,
        shared: &'a Shared,
        hook: &'a Arc<Hook>,
        mut random: Rng,
    ) -> impl Future<Output = Fate> + Send + use<'a> {
        let (forged, wanted) = (self.forged, self.times);
        let (happening, body) = (Arc::clone(&self.happening), self.body.clone());
        async move {
            let secret = if forged { Secret::new(format!("not {}", random.u64(..))) } else { hook.secret.clone() };
            let terms = Terms {
                secret,
                dialect: shared.options.dialect,
                webhook_id: hook.id.clone(),
                retries: if forged { 0 } else { shared.options.retries },
                pause: shared.options.retry_pause,
            };
            let (mut times, mut attempts) = (0, 0);
            loop {
                let mut ids = random.fork();
                let tell = |attempt| {
                    let logged = Logged {
                        id: uuid(&mut ids),
                        hook_id: hook.id.clone(),
                        url: hook.url.clone(),
                        happening: Arc::clone(&happening),
                        body: body.clone(),
                        attempt,
                    };
                    shared.account().hooks.log(logged);
                };
                let outcome = terms.deliver(&*hook.transport, &body, &mut random, tell).await;
                attempts += outcome.attempts;
                if forged {
                    return Fate::Forged(outcome.last.ok());
                }
                if outcome.is_success() {
                    times += 1;
                } else if times == 0 {
                    let problem = outcome.last.map_or_else(|problem| problem, |status| format!("answered {status}"));
                    return Fate::GivenUp { attempts, problem };
                }
                if times >= wanted || !outcome.is_success() {
                    return Fate::Delivered { times, attempts };
                }
            }
        }
    }
}

/// What two receivers' fates are as one: the worse.
fn together(a: Fate, b: Fate) -> Fate {
    match (a, b) {
        (Fate::Delivered { times: a, attempts: c }, Fate::Delivered { times: b, attempts: d }) => {
            Fate::Delivered { times: a.max(b), attempts: c + d }
        }
        (Fate::Delivered { .. }, worse) | (worse, _) => worse,
    }
}
