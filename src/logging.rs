//! Diagnostics on standard error, as text or as JSON, one line per event. Nobody waits for whoever reads them.
//!
//! What a line quotes may come from strangers, so control characters and those that turn the direction of writing are
//! escaped: a log line can neither forge another line nor steer a terminal.

mod foreign;
mod level;
mod lines;
mod occasional;

pub use level::{level, set_level};
pub use occasional::Occasional;
pub use tracing::level_filters::LevelFilter;

use foreign::Paced;
use lines::Lines;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How long the end of the process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Those on their way, once [`init`] was called.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It was asked for before.
    #[error(transparent)]
    Second(#[from] TryInitError),
    /// There is no thread to write it.
    #[error("cannot start the log's thread: {0}")]
    Thread(#[from] io::Error),
}

/// Sends the events of this process, and what its panics say, to standard error; to be called once. [`set_level`] changes
/// how many.
///
/// # Errors
/// If it was called before, or no thread can be started.
pub fn init(level: LevelFilter, style: Style) -> Result<(), InitError> {
    let (targets, handle) = reload::Layer::new(level::targets(level));
    let lines = LINES.get_or_init(Lines::default);
    let layer = layer(style, move || Escaping { style, to: lines.clone() });
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init()?;
    level::can_change(handle);
    // An error, so that at no level but `off` something is missing without a word.
    lines.write_to(io::stderr(), |dropped| {
        tracing::error!(dropped, "lines of the log were dropped here: nobody has read standard error");
    })?;
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// By the log, too: what the standard library would write itself waits for whoever reads it.
fn panicked(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(&backtrace));
    let location = panic.location().map(tracing::field::display);
    tracing::error!(thread = thread.name(), location, error = panic.payload_as_str(), backtrace, "a thread panicked");
}

/// How many lines were dropped until now, since nobody has read standard error.
pub fn lines_dropped() -> u64 {
    LINES.get().map_or(0, Lines::dropped)
}

/// Writes text that is no event, behind those before it; it ends with a newline. If that fails there is nobody left to tell.
pub fn print(text: &str) {
    match LINES.get() {
        Some(lines) => lines.push(text.as_bytes()),
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Held by `main`: when dropped it waits, for a while, until the last lines are written.
#[derive(Debug)]
pub struct FlushOnDrop;

impl Drop for FlushOnDrop {
    fn drop(&mut self) {
        LINES.get().into_iter().for_each(|lines| lines.flush(LAST_LINES));
    }
}

fn layer<W>(style: Style, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A failing standard error is no reason to write to it about that, which would panic.
    let layer = fmt::layer().with_ansi(false).log_internal_errors(false).with_writer(writer);
    match style {
        Style::Text => layer.map_event_format(|format| Paced::new(format, style)).boxed(),
        Style::Json => layer.json().flatten_event(true).map_event_format(|format| Paced::new(format, style)).boxed(),
    }
}

/// Escapes what it is given line by line. The formatter hands over one whole event, with its newline, per call.
struct Escaping<W> {
    style: Style,
    to: W,
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(buffer);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut escaped = escape(line, self.style);
        escaped.push('\n');
        // Nobody can be told that standard error cannot be written to; the daemon's work does not depend on it.
        let _ = self.to.write_all(escaped.as_bytes());
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// `text` as it may be shown on a terminal: on one line, with everything escaped that is not plainly visible.
pub fn visible(text: &str) -> String {
    escape(text, Style::Text)
}

/// `text` with everything escaped that is not plainly visible. In JSON such characters only stand in strings.
fn escape(text: &str, style: Style) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if !is_deceptive(character) {
            escaped.push(character);
            continue;
        }
        let written = match style {
            Style::Text => write!(escaped, "{}", character.escape_unicode()),
            Style::Json => write!(escaped, "\\u{:04x}", u32::from(character)),
        };
        // Writing to a string does not fail.
        let _ = written;
    }
    escaped
}

/// Control characters, line and paragraph separators, direction marks, and characters without width.
/// All are in the basic plane, so four hex digits name each.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(buffer)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(style: Style, message: &str) -> String {
        let sink = Sink::default();
        let to = sink.clone();
        let layer = layer(style, move || Escaping { style, to: to.clone() });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(field = message, "{message}");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_stranger_can_neither_forge_a_line_nor_steer_the_terminal() {
        for style in [Style::Text, Style::Json] {
            let line = logged(style, "a\nWARN forged\r\u{1b}[2J\u{9b}2J\u{202e}b\u{2028}\u{7f}é");
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(line.trim_end_matches('\n').chars().all(|character| !is_deceptive(character)), "{line:?}");
            assert!(line.contains('é'), "{line:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_library_says_is_written_once_in_a_while_and_tells_of_the_rest() {
        for style in [Style::Text, Style::Json] {
            let sink = Sink::default();
            let to = sink.clone();
            let layer = layer(style, move || Escaping { style, to: to.clone() });
            let speaking = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
            for _ in 0..2 {
                for number in 0..100 {
                    tracing::warn!(target: "h2::proto", number, "one place");
                    tracing::info!(target: "h2::proto", "another place");
                    tracing::warn!("ours");
                    tracing::warn!(target: "e2b_relayed", "a namesake");
                }
                tokio::time::advance(Duration::from_secs(10)).await;
            }
            drop(speaking);
            let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
            let lines = |said: &str| text.lines().filter(|line| line.contains(said)).collect::<Vec<_>>();
            assert_eq!((lines("").len(), lines(" ours").len() + lines("\"ours").len()), (206, 200), "{style:?}");
            for said in ["one place", "another place", "a namesake"] {
                let [first, second] = lines(said).try_into().unwrap();
                let suppressed = |line: &str| match style {
                    Style::Text => line.rsplit_once(" suppressed=").unwrap().1.parse().unwrap(),
                    Style::Json => {
                        serde_json::from_str::<serde_json::Value>(line).unwrap()["suppressed"].as_u64().unwrap()
                    }
                };
                assert_eq!((suppressed(first), suppressed(second)), (0, 99), "{first}\n{second}");
            }
        }
    }

    #[test]
    fn json_stays_json() {
        let line = logged(Style::Json, "\u{202e}\u{9b}\n\"");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "\u{202e}\u{9b}\n\"");
    }

    #[test]
    fn a_writer_that_fails_is_no_trouble() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let layer = layer(Style::Text, || Escaping { style: Style::Text, to: Broken });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || tracing::error!("x"));
    }
}
