//! What whoever reads sees on: a terminal, with colours and progress bars, or something that only takes text.

use clap::ColorChoice;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::time::Instant;

/// How often a bar is drawn anew, so that one sees that something is going on.
const TICK: Duration = Duration::from_millis(120);
/// Between two lines about progress where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Of a bar's end, in columns.
const WIDTH: u64 = 30;

/// The two standard streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    /// Results may have colours.
    pub(super) colours: bool,
    /// Progress may be drawn.
    pub(super) bars: bool,
}

/// What a word means, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Good,
    Middling,
    Bad,
}

impl Screen {
    /// By default a terminal that is not said to have none has colours; `NO_COLOR` as in no-color.org's convention.
    pub(super) fn new(choice: ColorChoice) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb,
        };
        Self { colours, bars: std::io::stderr().is_terminal() && !is_dumb }
    }

    /// A text in the colour of what it means.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Middling => "33",
            Tone::Bad => "31",
        };
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Something that takes its time is begun. `what` is for people: `backfill`, say.
    pub(super) fn progress(self, what: &'static str) -> Progress {
        Progress { what, is_drawn: self.bars, bar: None, told_at: Instant::now() }
    }
}

/// How far something is: drawn on a terminal, told in the log now and then elsewhere.
pub(super) struct Progress {
    what: &'static str,
    is_drawn: bool,
    bar: Option<ProgressBar>,
    told_at: Instant,
}

impl Progress {
    /// So far; `part` is how much of how much is done, where that is known.
    pub(super) fn show(&mut self, part: Option<(u64, u64)>, words: impl Display) {
        if self.is_drawn {
            self.draw(part, words.to_string());
        } else if self.is_due() {
            let percent = part.map(|(done, whole)| done.min(whole) * 100 / whole.max(1));
            tracing::info!(percent, "{}: {words}", self.what);
        }
    }

    /// What is soon over needs no line.
    fn is_due(&mut self) -> bool {
        let is_due = self.told_at.elapsed() >= TELL_EVERY;
        if is_due {
            self.told_at = Instant::now();
        }
        is_due
    }

    fn draw(&mut self, part: Option<(u64, u64)>, words: String) {
        let template = match part {
            Some(_) => format!("{{spinner}} {{prefix}} {{bar:{WIDTH}}} {{percent}} % {{wide_msg}}"),
            None => "{spinner} {prefix} {wide_msg}".to_owned(),
        };
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.bar.get_or_insert_with(|| {
            // Nothing is drawn before it is what it shall be.
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_prefix(self.what);
            bar.set_style(style.clone());
            bar
        });
        let is_new = bar.is_hidden();
        bar.set_style(style);
        if let Some((done, whole)) = part {
            bar.set_length(whole);
            bar.set_position(done.min(whole));
        }
        bar.set_message(words);
        if is_new {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // The result is what stays.
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_terminal_it_is_told_now_and_then() {
        let mut progress = Screen { colours: false, bars: false }.progress("backfill");
        let mut due = async |after: u64| {
            tokio::time::sleep(Duration::from_secs(after)).await;
            progress.is_due()
        };
        assert_eq!(
            [due(1).await, due(3).await, due(1).await, due(1).await, due(6).await],
            [false, false, true, false, true]
        );
    }
}
