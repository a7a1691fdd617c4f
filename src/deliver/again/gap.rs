//! A sink that halts at a hole in the log, of which nothing proves that it is damage, goes on once an operator accepts that.

use super::{Handle, Refused};
use crate::deliver::Delivery;
use crate::deliver::status::{Gap, Status};
use tokio::sync::{mpsc, oneshot, watch};

/// What an operator has accepted, on its way to the sink's loop.
pub(in crate::deliver) struct Accepted {
    /// The very one that stood in the status: of another one nobody has said anything.
    gap: Gap,
    done: oneshot::Sender<Result<(), Refused>>,
}

/// One at a time: whoever asks waits for the answer.
pub(super) fn channel() -> (mpsc::Sender<Accepted>, mpsc::Receiver<Accepted>) {
    mpsc::channel(1)
}

async fn ask(gap: Gap, accepting: &mpsc::Sender<Accepted>) -> Result<Gap, Refused> {
    let (done, answer) = oneshot::channel();
    let sent = accepting.send(Accepted { gap: gap.clone(), done }).await;
    sent.map_err(|_| Refused::Ending)?;
    answer.await.unwrap_or(Err(Refused::Ending))?;
    Ok(gap)
}

/// Takes the gap out of the status, if it is the one that was accepted.
fn settle(status: &watch::Sender<Status>, accepted: Accepted) -> bool {
    let Accepted { gap, done } = accepted;
    let is_it = status.send_if_modified(|status| status.gap.take_if(|at| *at == gap).is_some());
    // Whoever asked may not listen any more.
    let _ = done.send(if is_it { Ok(()) } else { Err(Refused::NoGap) });
    is_it
}

impl Handle {
    /// Has a sink go on that is halted at a gap in the log, and says at which. What is missing there is not sent: from now on
    /// it counts as damaged, which is on disk before the sink goes on.
    pub async fn accept_gap(&self) -> Result<Gap, Refused> {
        let gap = self.status.borrow().gap.clone().ok_or(Refused::NoGap)?;
        let missing = gap.missing().ok_or(Refused::Contradiction)?;
        self.road.log.give_up(missing).await.map_err(std::io::Error::other)?;
        ask(gap, &self.accepting).await
    }
}

impl Delivery {
    /// Goes on behind the gap at which it is halted.
    pub(in crate::deliver) fn accept_gap(&mut self, accepted: Accepted) {
        let gap = accepted.gap.clone();
        if settle(&self.status, accepted) {
            self.reading.accept(&gap);
            tracing::warn!(sink = self.parts.name, ?gap, "an operator accepts the gap in the log: the sink goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::status::Log;

    fn gap(after: u64) -> Gap {
        Gap { log: Log::Events, after, through: after + 3, events: 2, first: after }
    }

    fn halted_at(gap: Option<Gap>) -> watch::Sender<Status> {
        watch::Sender::new(Status { gap, ..Status::default() })
    }

    #[tokio::test]
    async fn the_gap_that_was_shown_is_accepted_once() {
        let (status, (accepting, mut accepted)) = (halted_at(Some(gap(7))), channel());
        for is_first in [true, false] {
            let the_loop = async { settle(&status, accepted.recv().await.unwrap()) };
            let (answer, is_it) = tokio::join!(ask(gap(7), &accepting), the_loop);
            match answer {
                Ok(accepted) => assert!(is_first && is_it && accepted == gap(7)),
                Err(refused) => assert!(!is_first && !is_it && matches!(refused, Refused::NoGap)),
            }
            assert_eq!(status.borrow().gap, None);
        }
    }

    #[tokio::test]
    async fn another_gap_than_was_shown_is_not_accepted() {
        let (status, (accepting, mut accepted)) = (halted_at(Some(gap(7))), channel());
        let the_loop = async {
            let first = accepted.recv().await.unwrap();
            status.send_modify(|status| status.gap = Some(gap(70)));
            settle(&status, first)
        };
        let (answer, is_it) = tokio::join!(ask(gap(7), &accepting), the_loop);
        assert!(!is_it && matches!(answer, Err(Refused::NoGap)));
        assert_eq!(status.borrow().gap, Some(gap(70)));
    }

    #[tokio::test]
    async fn a_loop_that_has_ended_accepts_nothing() {
        let (accepting, accepted) = channel();
        drop(accepted);
        let answer = ask(gap(7), &accepting).await;
        assert!(matches!(answer, Err(Refused::Ending)), "{answer:?}");
        let (accepting, mut accepted) = channel();
        let (answer, ()) = tokio::join!(ask(gap(7), &accepting), async { drop(accepted.recv().await) });
        assert!(matches!(answer, Err(Refused::Ending)), "{answer:?}");
    }
}
