//! Diagnostics on standard error, as text or as JSON, one line per event.
//!
//! What a line quotes may come from strangers, so control characters and those that turn the direction of writing are
//! escaped: a log line can neither forge another line nor steer a terminal.

mod level;
mod occasional;

pub use level::{level, set_level};
pub use occasional::Occasional;
pub use tracing::level_filters::LevelFilter;

use std::fmt::Write as _;
use std::io::{self, Write};
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

/// Sends the events of this process to standard error; to be called once. [`set_level`] changes how many.
///
/// # Errors
/// If it was called before.
pub fn init(level: LevelFilter, style: Style) -> Result<(), TryInitError> {
    let (targets, handle) = reload::Layer::new(level::targets(level));
    let layer = layer(style, move || Escaping { style, to: io::stderr() });
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init()?;
    level::can_change(handle);
    Ok(())
}

fn layer<W>(style: Style, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A failing standard error is no reason to write to it about that, which would panic.
    let layer = fmt::layer().with_ansi(false).log_internal_errors(false).with_writer(writer);
    match style {
        Style::Text => layer.boxed(),
        Style::Json => layer.json().flatten_event(true).boxed(),
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
