//! Keeps the order of a pipelined sink when one of its sends fails.
//!
//! A failure is known here before `deliver` has seen it. Were the sink to take further records in between, they would
//! land before the one that has to be sent again. So the first failure that may heal closes the gate, and it opens
//! again only when every future handed out has been seen to its end, or was dropped.

use super::SendError;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// What the report of one hand-over is sent into.
pub type Report = oneshot::Sender<Result<(), SendError>>;

/// Through which a pipelined sink's records go. One for each of its clients.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: Option<SendError>,
    outstanding: usize,
}

/// What came of asking for a place.
#[derive(Debug)]
pub enum Entry {
    /// Hand the record over.
    Open(Ticket),
    /// Likewise; the gate was closed, or nothing is on its way, so the client may be replaced before.
    Idle(Ticket),
    /// Hand nothing over; report this with the ticket.
    Closed(Ticket, SendError),
}

/// One future that was handed out and not yet seen to its end.
#[derive(Debug)]
pub struct Ticket(Arc<Gate>);

impl Gate {
    /// Asks to hand one record over.
    pub fn enter(self: &Arc<Self>) -> Entry {
        let mut state = self.lock();
        let idle = state.outstanding == 0;
        state.outstanding += 1;
        let ticket = Ticket(Arc::clone(self));
        if idle {
            state.closed = None;
            return Entry::Idle(ticket);
        }
        match &state.closed {
            None => Entry::Open(ticket),
            Some(error) => Entry::Closed(ticket, error.clone()),
        }
    }

    /// Lets nothing more in until everything outstanding has been seen. The first cause is kept.
    pub fn close(&self, why: &SendError) {
        let mut state = self.lock();
        if state.closed.is_none() {
            state.closed = Some(why.clone());
        }
    }

    /// Why it is closed, if it is.
    pub(super) fn closed(&self) -> Option<SendError> {
        self.lock().closed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The future of a record that was handed over; `lost` makes its error if the client ended without a report.
    pub fn wait(
        self,
        report: oneshot::Receiver<Result<(), SendError>>,
        lost: fn() -> SendError,
    ) -> BoxFuture<'static, Result<(), SendError>> {
        Box::pin(async move {
            let outcome = report.await.unwrap_or_else(|_| Err(lost()));
            drop(self);
            outcome
        })
    }

    /// The future of a record that was not handed over.
    pub fn refuse(self, why: SendError) -> BoxFuture<'static, Result<(), SendError>> {
        if matches!(why, SendError::Retry { .. }) {
            self.0.close(&why);
        }
        Box::pin(async move {
            drop(self);
            Err(why)
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.lock().outstanding -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Reason, Scope};
    use super::*;
    use futures_util::FutureExt;

    fn retry(message: &str) -> SendError {
        SendError::Retry { scope: Scope::Sink, reason: Reason::Other, message: message.to_owned() }
    }

    #[test]
    fn nothing_passes_between_a_failure_and_its_being_seen() {
        let gate = Arc::new(Gate::default());
        let (report, receiver) = oneshot::channel();
        let Entry::Idle(first) = gate.enter() else { panic!("nothing is on its way") };
        let first = first.wait(receiver, || retry("lost"));
        let Entry::Open(second) = gate.enter() else { panic!("nothing has failed") };

        gate.close(&retry("broken"));
        report.send(Err(retry("broken"))).unwrap();
        let Entry::Closed(third, why) = gate.enter() else { panic!("the gate let a record overtake") };
        assert_eq!(why, retry("broken"));
        let third = third.refuse(why);
        drop(second);
        assert_eq!(first.now_or_never(), Some(Err(retry("broken"))));

        // The refused one has not been seen yet, and what follows it must not overtake it either.
        assert!(matches!(gate.enter(), Entry::Closed(..)));
        assert_eq!(third.now_or_never(), Some(Err(retry("broken"))));
        assert!(matches!(gate.enter(), Entry::Idle(_)));
        assert_eq!(gate.closed(), None);
    }

    #[test]
    fn a_refusal_that_may_heal_closes_and_one_that_never_will_does_not() {
        let gate = Arc::new(Gate::default());
        let Entry::Idle(ticket) = gate.enter() else { panic!("nothing is on its way") };
        let reject = SendError::Reject { reason: Reason::TooLarge, message: "too large".to_owned() };
        let rejected = ticket.refuse(reject);
        let Entry::Open(ticket) = gate.enter() else { panic!("a rejected record closed the gate") };
        let refused = ticket.refuse(retry("queue is full"));
        assert!(matches!(gate.enter(), Entry::Closed(..)));
        drop((rejected, refused));
    }

    #[test]
    fn a_client_that_ends_without_a_report_is_a_failure() {
        let gate = Arc::new(Gate::default());
        let Entry::Idle(ticket) = gate.enter() else { panic!("nothing is on its way") };
        let (report, receiver) = oneshot::channel();
        drop(report);
        assert_eq!(ticket.wait(receiver, || retry("lost")).now_or_never(), Some(Err(retry("lost"))));
    }
}
