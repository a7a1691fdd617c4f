//! Group writes for sinks that take lines: one thread takes whatever waits, writes it at once, and then reports all.

use super::gate::{Entry, Gate, Report};
use super::{Reason, Scope, SendError};
use crate::route::Outgoing;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Records that may wait for the writer. `deliver` bounds what is unconfirmed; this is the limit should it not.
const QUEUE_RECORDS: usize = 131_072;
/// Records in one write.
const GROUP_RECORDS: usize = 1_024;
/// After this many bytes a group takes no further record.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// After a group of so many records the next are on their way,
const BUSY: usize = 8;
/// and are given this long to come together, since each write may cost an `fdatasync`, which the store's own wait for.
const GATHER: Duration = Duration::from_millis(1);
/// How long `close` waits for the write under way.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What lines are appended to. Used by one thread only, so its calls may block.
pub(super) trait Target: Send + 'static {
    /// Appends each line and a line feed, in order, as durably as it promises.
    fn append(&mut self, lines: &[Bytes]) -> Result<(), Unfinished>;

    /// Looks again where its name leads.
    fn reopen(&mut self) {}

    /// What there is to say of its state, for people to read.
    fn probe(&mut self) -> Result<String, SendError>;
}

/// Not all lines were appended.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// So many of the first ones were.
    pub(super) appended: usize,
    /// Why the others were not.
    pub(super) error: SendError,
}

/// The thread's front.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Work>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
enum Work {
    Line(Bytes, Report),
    Reopen,
    Probe(oneshot::Sender<Result<String, SendError>>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread; it ends when the writer is dropped or closed.
    pub(super) fn start(target: impl Target) -> io::Result<Self> {
        let (queue, work) = mpsc::channel(QUEUE_RECORDS);
        let gate = Arc::new(Gate::default());
        let thread = Thread { target, work, gate: Arc::clone(&gate), lines: Vec::new(), reports: Vec::new(), bytes: 0 };
        std::thread::Builder::new().name("line-writer".to_owned()).spawn(move || thread.run())?;
        Ok(Self { queue, gate })
    }

    /// See [`super::Sink::send`].
    pub(super) fn send(&self, outgoing: &Outgoing) -> BoxFuture<'static, Result<(), SendError>> {
        let ticket = match self.gate.enter() {
            Entry::Open(ticket) | Entry::Idle(ticket) => ticket,
            Entry::Closed(ticket, why) => return ticket.refuse(why),
        };
        if outgoing.payload.contains(&b'\n') {
            return ticket.refuse(SendError::Reject {
                reason: Reason::Rejected,
                message: "the record holds a line feed and would be two lines".to_owned(),
            });
        }
        let (report, receiver) = oneshot::channel();
        match self.queue.try_send(Work::Line(outgoing.payload.clone(), report)) {
            Ok(()) => ticket.wait(receiver, ended),
            Err(mpsc::error::TrySendError::Full(_)) => ticket.refuse(SendError::Retry {
                scope: Scope::Sink,
                reason: Reason::Timeout,
                message: format!("{QUEUE_RECORDS} records wait for the writer"),
            }),
            Err(mpsc::error::TrySendError::Closed(_)) => ticket.refuse(ended()),
        }
    }

    /// See [`super::Sink::reopen`].
    pub(super) fn reopen(&self) {
        // With the queue full there is a write to come, and before each write the target looks where its name leads.
        let _ = self.queue.try_send(Work::Reopen);
    }

    /// See [`super::Sink::probe`].
    pub(super) async fn probe(&self) -> Result<String, SendError> {
        let (answer, receiver) = oneshot::channel();
        self.queue.send(Work::Probe(answer)).await.map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())?
    }

    /// Ends the thread after what was handed over before; a write that blocks is left alone after five seconds.
    pub(super) async fn close(&self) {
        let (done, receiver) = oneshot::channel();
        let close = async {
            if self.queue.send(Work::Close(done)).await.is_ok() {
                // An error means that the thread has ended, which is what was asked for.
                let _ = receiver.await;
            }
        };
        // What is unconfirmed stays unconfirmed, so there is nothing to report of a time-out.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
    }
}

fn ended() -> SendError {
    SendError::Retry { scope: Scope::Sink, reason: Reason::Other, message: "the writer has ended".to_owned() }
}

struct Thread<T> {
    target: T,
    work: mpsc::Receiver<Work>,
    gate: Arc<Gate>,
    lines: Vec<Bytes>,
    reports: Vec<Report>,
    bytes: usize,
}

impl<T: Target> Thread<T> {
    fn run(mut self) {
        while let Some(first) = self.work.blocking_recv() {
            let mut next = Some(first);
            while let Some(work) = next.take() {
                match work {
                    Work::Line(line, report) => {
                        self.bytes = self.bytes.saturating_add(line.len());
                        self.lines.push(line);
                        self.reports.push(report);
                    }
                    Work::Reopen => {
                        self.flush();
                        self.target.reopen();
                    }
                    Work::Probe(answer) => {
                        self.flush();
                        // Who asked may have lost patience.
                        let _ = answer.send(self.target.probe());
                    }
                    Work::Close(done) => {
                        self.flush();
                        // Before it is said to be closed, so that another may open the same at once.
                        drop(self.target);
                        let _ = done.send(());
                        return;
                    }
                }
                if self.lines.len() < GROUP_RECORDS && self.bytes < GROUP_BYTES {
                    next = self.work.try_recv().ok();
                }
            }
            let count = self.lines.len();
            self.flush();
            if count >= BUSY {
                #[expect(clippy::disallowed_methods, reason = "a thread of its own, and nothing to be awaited")]
                std::thread::sleep(GATHER);
            }
        }
    }

    /// Appends the group and reports each of its records. A report that nobody waits for is no loss: `deliver` has
    /// ended, and the record counts as unconfirmed.
    fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        // What was queued behind a failed record must not be written before it.
        let unfinished = match self.gate.closed() {
            Some(error) => Some(Unfinished { appended: 0, error }),
            None => self.target.append(&self.lines).err(),
        };
        self.lines.clear();
        self.bytes = 0;
        let appended = match &unfinished {
            None => self.reports.len(),
            Some(Unfinished { appended, error }) => {
                self.gate.close(error);
                *appended
            }
        };
        for (index, report) in self.reports.drain(..).enumerate() {
            let _ = report.send(match &unfinished {
                Some(Unfinished { error, .. }) if index >= appended => Err(error.clone()),
                _ => Ok(()),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc as std_mpsc;

    /// Says when it is asked to append, and appends when told how: the number of lines that fit, or all.
    struct Scripted {
        asked: std_mpsc::Sender<usize>,
        turns: std_mpsc::Receiver<Option<usize>>,
        written: Arc<Mutex<Vec<Bytes>>>,
    }

    impl Target for Scripted {
        fn append(&mut self, lines: &[Bytes]) -> Result<(), Unfinished> {
            self.asked.send(lines.len()).unwrap();
            let turn =
                self.turns.recv_timeout(Duration::from_secs(10)).expect("asked once more than the test foresees");
            let room = turn.unwrap_or(lines.len());
            self.written.lock().unwrap().extend(lines.iter().take(room).cloned());
            if room < lines.len() { Err(Unfinished { appended: room, error: full() }) } else { Ok(()) }
        }

        fn probe(&mut self) -> Result<String, SendError> {
            Ok("scripted".to_owned())
        }
    }

    /// The test's ends of a [`Scripted`].
    struct Script {
        asked: std_mpsc::Receiver<usize>,
        turn: std_mpsc::Sender<Option<usize>>,
        written: Arc<Mutex<Vec<Bytes>>>,
    }

    fn start() -> (Writer, Script) {
        let (asked, ask) = std_mpsc::channel();
        let (turn, turns) = std_mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::start(Scripted { asked, turns, written: Arc::clone(&written) }).unwrap();
        (writer, Script { asked: ask, turn, written })
    }

    fn full() -> SendError {
        SendError::Retry { scope: Scope::Sink, reason: Reason::Other, message: "disk full".to_owned() }
    }

    fn record(number: u64) -> Outgoing {
        Outgoing {
            sequence: number,
            id: number.to_string(),
            kind: "sandbox.lifecycle.created".to_owned(),
            sandbox_id: "s".to_owned(),
            address: String::new(),
            key: String::new(),
            payload: Bytes::from(number.to_string()),
            content_type: "application/json",
            unix_seconds: 0,
            headers: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_waits_is_written_at_once_and_nothing_overtakes_a_failed_record() {
        let (writer, script) = start();
        let first = writer.send(&record(1));
        assert_eq!(script.asked.recv(), Ok(1));
        // 2 and 3 wait behind the write of 1, and 4 behind theirs.
        let (second, third) = (writer.send(&record(2)), writer.send(&record(3)));
        script.turn.send(None).unwrap();
        assert_eq!(script.asked.recv(), Ok(2));
        let fourth = writer.send(&record(4));
        script.turn.send(Some(1)).unwrap();
        first.await.unwrap();
        second.await.unwrap();
        assert_eq!(third.await, Err(full()));
        assert_eq!(fourth.await, Err(full()));

        let again = [writer.send(&record(3)), writer.send(&record(4))];
        // One write or two, as the thread wakes.
        script.turn.send(None).unwrap();
        script.turn.send(None).unwrap();
        for outcome in futures_util::future::join_all(again).await {
            outcome.unwrap();
        }
        let written = script.written.lock().unwrap().clone();
        assert_eq!(written, ["1", "2", "3", "4"].map(Bytes::from));
    }

    #[tokio::test]
    async fn a_record_of_two_lines_is_rejected() {
        let (writer, _script) = start();
        let two = Outgoing { payload: Bytes::from_static(b"{\n}"), ..record(1) };
        assert!(matches!(writer.send(&two).await, Err(SendError::Reject { reason: Reason::Rejected, .. })));
        assert_eq!(writer.probe().await, Ok("scripted".to_owned()));
    }

    #[tokio::test]
    async fn a_closed_writer_has_written_what_it_was_given_and_takes_no_more() {
        let (writer, script) = start();
        let sent = writer.send(&record(1));
        script.turn.send(None).unwrap();
        writer.close().await;
        assert_eq!(script.written.lock().unwrap().len(), 1);
        sent.await.unwrap();
        assert_eq!(writer.send(&record(2)).await, Err(ended()));
    }
}
