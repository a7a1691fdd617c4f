//! The process's own standard output: one line per record.

use super::lines::{Target, Unfinished, Writer};
use super::{Order, Reason, Scope, SendError, Sink};
use crate::route::Outgoing;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

/// Records on standard output, one per line. A line counts as delivered when the reader's pipe (or the file) has it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}

/// Writes lines to standard output.
#[derive(Debug)]
pub struct Stdout {
    writer: Writer,
}

impl Stdout {
    /// Writes to a duplicate of the descriptor, beside std's buffer: what that buffer still held after an error would
    /// be written a second time. An error is that of the duplicate or of the thread.
    pub fn new(_: &Settings) -> io::Result<Self> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self { writer: Writer::start(Lines::new(std::fs::File::from(descriptor)))? })
    }
}

impl Sink for Stdout {
    fn order(&self) -> Order {
        Order::Pipelined
    }

    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>> {
        Box::pin(self.writer.probe())
    }

    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        self.writer.send(&outgoing)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.writer.close())
    }
}

struct Lines<W> {
    output: W,
    buffer: Vec<u8>,
    /// The last write ended in the middle of a line.
    torn: bool,
}

impl<W: Write> Lines<W> {
    fn new(output: W) -> Self {
        Self { output, buffer: Vec::new(), torn: false }
    }
}

impl<W: Write + Send + 'static> Target for Lines<W> {
    fn append(&mut self, lines: &[Bytes]) -> Result<(), Unfinished> {
        self.buffer.clear();
        // What was written cannot be taken back: the torn line is ended, and its record follows as a whole.
        if self.torn {
            self.buffer.push(b'\n');
        }
        let preamble = self.buffer.len();
        for line in lines {
            self.buffer.extend_from_slice(line);
            self.buffer.push(b'\n');
        }
        let mut written = 0;
        let result = write_counting(&mut self.output, &self.buffer, &mut written);
        let done = self.buffer.get(..written).unwrap_or_default();
        if let Some(last) = done.last() {
            self.torn = *last != b'\n';
        }
        result.map_err(|error| Unfinished {
            appended: done.iter().skip(preamble).filter(|byte| **byte == b'\n').count(),
            error: SendError::Retry {
                scope: Scope::Sink,
                reason: Reason::Connect,
                message: format!("cannot write to standard output: {error}"),
            },
        })
    }

    fn probe(&mut self) -> Result<String, SendError> {
        Ok("standard output".to_owned())
    }
}

/// Like `write_all`, but `written` tells how far it came.
fn write_counting(output: &mut impl Write, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
        match output.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_reader_that_went_away_is_an_error_that_may_heal() {
        let (reader, writer) = io::pipe().unwrap();
        let mut lines = Lines::new(writer);
        lines.append(&[Bytes::from_static(b"1"), Bytes::from_static(b"2")]).unwrap();
        let mut read = [0; 4];
        (&reader).read_exact(&mut read).unwrap();
        assert_eq!(&read, b"1\n2\n");
        drop(reader);
        let unfinished = lines.append(&[Bytes::from_static(b"3")]).unwrap_err();
        assert_eq!(unfinished.appended, 0);
        assert!(
            matches!(unfinished.error, SendError::Retry { scope: Scope::Sink, reason: Reason::Connect, .. }),
            "{unfinished:?}"
        );
    }

    /// Takes so many bytes, then fails once.
    struct Narrow {
        room: usize,
        taken: Arc<std::sync::Mutex<Vec<u8>>>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                self.room = usize::MAX;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.taken.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_and_whole_lines_count() {
        let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut lines = Lines::new(Narrow { room: 6, taken: Arc::clone(&taken) });
        let records = ["one", "two", "six"].map(Bytes::from);
        let unfinished = lines.append(&records).unwrap_err();
        assert_eq!(unfinished.appended, 1);
        lines.append(&records[1..]).unwrap();
        assert_eq!(String::from_utf8_lossy(&taken.lock().unwrap()), "one\ntw\ntwo\nsix\n");
    }
}
