//! How a line gets to standard error: by a bounded queue and a thread of its own. Whoever logs never waits for whoever
//! reads; what there is no room for is dropped, counted, and told once somebody reads again.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// How many lines wait at most.
const MAX_LINES: usize = 4096;
/// How many bytes wait at most; a single line may be longer.
const MAX_BYTES: usize = 1 << 20;
/// How soon a standard error that somebody has made non-blocking is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// Lines on their way. Cloning shares them.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Never held while something is written.
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Dropped since that was told last.
    untold: u64,
    /// From the first line for which there was no room until it is told how many these were: so they stand in one place.
    is_refusing: bool,
    /// The thread is at work on what it has taken.
    is_writing: bool,
    /// The last line could not be written, so that nobody can be told anything.
    is_broken: bool,
    writer: Option<ThreadId>,
}

/// What the thread does next.
enum Next {
    Write(Vec<u8>),
    /// So many were dropped.
    Tell(u64),
}

impl Lines {
    /// Has a thread write to `to`. Where lines were dropped it calls `tell` with their number once all before them are
    /// written; what that logs comes next.
    pub(super) fn write_to(
        &self,
        to: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<()> {
        let lines = self.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || lines.run(to, tell)).map(|_| ())
    }

    /// Puts a line, with its newline, behind the others, or drops it.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        let is_long = !state.waiting.is_empty() && state.bytes + line.len() > MAX_BYTES;
        let is_full = state.is_refusing || is_long || state.waiting.len() >= MAX_LINES;
        // What the thread itself says is how many were dropped.
        if is_full && state.writer != Some(thread::current().id()) {
            state.is_refusing = true;
            self.drop_one(&mut state);
            return;
        }
        state.bytes += line.len();
        state.waiting.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    /// How many lines were dropped until now.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Returns once everything is written, but after `patience` at the latest.
    pub(super) fn flush(&self, patience: Duration) {
        let is_left =
            |state: &mut State| state.is_writing || !state.waiting.is_empty() || (state.untold > 0 && !state.is_broken);
        drop(self.0.changed.wait_timeout_while(self.state(), patience, is_left));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_one(&self, state: &mut State) {
        state.untold += 1;
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn run(&self, mut to: impl Write, tell: impl Fn(u64)) {
        self.state().writer = Some(thread::current().id());
        loop {
            match self.next() {
                Next::Write(line) => {
                    let written = write(&mut to, &line);
                    let mut state = self.state();
                    state.is_broken = written.is_err();
                    if state.is_broken {
                        self.drop_one(&mut state);
                    }
                }
                Next::Tell(dropped) => {
                    tell(dropped);
                    self.state().is_refusing = false;
                }
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.state();
        loop {
            state.is_writing = true;
            if let Some(line) = state.waiting.pop_front() {
                state.bytes -= line.len();
                return Next::Write(line);
            }
            if state.untold > 0 && !state.is_broken {
                return Next::Tell(std::mem::take(&mut state.untold));
            }
            (state.is_writing, state.is_refusing) = (false, false);
            self.0.changed.notify_all();
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The formatter and [`super::Escaping`] hand over one whole line per call.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error may have been made non-blocking by whoever shares it.
fn write(to: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match to.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                #[expect(clippy::disallowed_methods, reason = "a thread of its own, and nothing that tells")]
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

    const LONG: Duration = Duration::from_secs(60);

    /// A pipe with room for nothing: each line waits until it is read.
    struct Pipe(SyncSender<String>);

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(line.to_vec()).unwrap();
            self.0.send(text).map(|()| line.len()).map_err(|_| ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lines, and whoever reads them.
    fn unread() -> (Lines, Receiver<String>) {
        let (writer, reader) = sync_channel(0);
        let lines = Lines::default();
        let own = lines.clone();
        lines.write_to(Pipe(writer), move |dropped| own.push(format!("{dropped} dropped\n").as_bytes())).unwrap();
        (lines, reader)
    }

    fn read(reader: &Receiver<String>) -> String {
        reader.recv_timeout(LONG).unwrap()
    }

    #[test]
    fn whoever_logs_does_not_wait_and_what_was_dropped_stands_where_it_was() {
        let (lines, reader) = unread();
        lines.push(b"first\n");
        assert_eq!(read(&reader), "first\n");
        let count = MAX_LINES + 1_000;
        (0..count).for_each(|number| lines.push(format!("{number}\n").as_bytes()));
        let dropped = lines.dropped();
        // One may have been taken out of the queue already.
        assert!((999..=1_000).contains(&dropped), "{dropped}");
        for number in 0..count - dropped as usize {
            assert_eq!(read(&reader), format!("{number}\n"));
        }
        assert_eq!(read(&reader), format!("{dropped} dropped\n"));
        lines.flush(LONG);
        lines.push(b"last\n");
        assert_eq!(read(&reader), "last\n");
        assert_eq!(lines.dropped(), dropped);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_too_yet_one_line_may_be_longer() {
        let (lines, reader) = unread();
        let long = "x".repeat(2 * MAX_BYTES);
        lines.push(b"first\n");
        // Until that is taken out.
        while !lines.state().waiting.is_empty() {
            thread::yield_now();
        }
        lines.push(long.as_bytes());
        lines.push(b"second\n");
        assert_eq!(lines.dropped(), 1);
        assert_eq!([read(&reader), read(&reader), read(&reader)], ["first\n", &long, "1 dropped\n"]);
    }

    #[test]
    fn a_flush_waits_for_the_last_line_and_not_for_ever() {
        let (lines, reader) = unread();
        lines.flush(LONG);
        lines.push(b"one\n");
        lines.flush(Duration::from_millis(1));
        let (done, flushed) = channel();
        let flushing = lines.clone();
        lines.push(b"two\n");
        thread::spawn(move || {
            flushing.flush(LONG);
            done.send(()).unwrap();
        });
        assert_eq!(read(&reader), "one\n");
        assert!(flushed.try_recv().is_err(), "one is left");
        assert_eq!(read(&reader), "two\n");
        flushed.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn a_reader_who_is_gone_keeps_nobody_waiting() {
        let (lines, reader) = unread();
        drop(reader);
        (0..100).for_each(|_| lines.push(b"to nobody\n"));
        lines.flush(LONG);
        assert_eq!(lines.dropped(), 100);
    }

    #[test]
    fn a_line_is_written_whole_whatever_is_taken_of_it() {
        struct Slow(Vec<u8>, u8);
        impl Write for Slow {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 % 3 {
                    0 => Err(ErrorKind::WouldBlock.into()),
                    1 => Err(ErrorKind::Interrupted.into()),
                    _ => self.0.write(&line[..1]),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut slow = Slow(Vec::new(), 0);
        write(&mut slow, b"a line\n").unwrap();
        assert_eq!(slow.0, b"a line\n");
    }
}
