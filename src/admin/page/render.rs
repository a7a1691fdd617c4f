//! HTML of the model. The template escapes whatever it is given.

use super::model::{Bounds, Model};
use super::sandboxes::Around;
use crate::logging::visible;
use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Ends with `.html`, by which the engine knows how to escape.
const NAME: &str = "page.html";
const PAGE: &str = include_str!("assets/page.html");
/// Pico.css (see assets/pico.scss), and what is ours.
const STYLE: &str = concat!(include_str!("assets/pico.css"), include_str!("assets/page.css"));
/// Largest response, in bytes.
const LARGEST: usize = 100_000;
/// How much is shown of what comes from elsewhere: less where a page would become too large.
const BOUNDS: [Bounds; 5] = [
    Bounds { text: 64, rows: 40 },
    Bounds { text: 32, rows: 40 },
    Bounds { text: 12, rows: 40 },
    Bounds { text: 12, rows: 20 },
    Bounds { text: 6, rows: 10 },
];

/// Why it cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Journal(#[from] std::io::Error),
    #[error(transparent)]
    Template(#[from] minijinja::Error),
    #[error("it would be larger than {LARGEST} bytes")]
    TooLarge,
}

/// All that a page shows.
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    pub(super) model: Model,
    pub(super) around: Around,
    pub(super) signed_in: bool,
}

/// A number or a word in a card: its name in the model, and what is said before it.
pub(super) type Figure = (&'static str, &'static str);

/// Figures that belong together, with the line of the last hour, if there is one.
#[derive(Serialize)]
struct Card {
    title: &'static str,
    figures: &'static [Figure],
    line: &'static str,
}

const CARDS: [Card; 6] = [
    Card {
        title: "Deliveries",
        figures: &[
            ("rate", "a second"),
            ("outcome.accepted", "accepted"),
            ("outcome.duplicate", "duplicates"),
            ("refused", "refused"),
        ],
        line: "rates",
    },
    Card { title: "Time to the answer", figures: &[("p50", "half within"), ("p99", "99 % within")], line: "latencies" },
    Card {
        title: "Sinks",
        figures: &[
            ("sinks.up", "up"),
            ("waiting", "events wait"),
            ("oldest", "oldest unsent"),
            ("letters", "dead letters"),
        ],
        line: "",
    },
    Card {
        title: "Sandboxes",
        figures: &[("sandboxes.running", "running"), ("sandboxes.paused", "paused"), ("sandboxes.other", "other")],
        line: "",
    },
    Card {
        title: "Backfill",
        figures: &[("verified", "verified through"), ("recovered", "recovered"), ("gaps", "gaps")],
        line: "",
    },
    Card {
        title: "Store",
        figures: &[("store.size", "in use"), ("store.max", "at most"), ("store.events", "events kept")],
        line: "",
    },
];

/// Label values of `deliveries_total` behind the figure's `outcome.`, in words.
pub(super) const OUTCOMES: [Figure; 12] = [
    ("outcome.accepted", "accepted"),
    ("outcome.duplicate", "duplicate"),
    ("outcome.bad_signature", "bad signature"),
    ("outcome.wrong_team", "wrong team"),
    ("outcome.malformed", "malformed"),
    ("outcome.stale", "too old"),
    ("outcome.future", "too new"),
    ("outcome.too_large", "too large"),
    ("outcome.timeout", "too slow"),
    ("outcome.store_full", "store full"),
    ("outcome.overloaded", "overloaded"),
    ("outcome.draining", "draining"),
];

/// A table: its name in the model, its heading, its columns with their looks, and what is said while it is empty.
#[derive(Serialize)]
struct Table {
    name: &'static str,
    title: &'static str,
    columns: &'static [(&'static str, &'static str)],
    empty: &'static str,
}

const NUMBER: &str = "number";
const TABLES: [Table; 5] = [
    Table {
        name: "sinks",
        title: "Sinks",
        columns: &[
            ("Sink", ""),
            ("State", ""),
            ("Wait", NUMBER),
            ("Oldest", NUMBER),
            ("Oldest, last hour", ""),
            ("Sent", NUMBER),
            ("Dead letters", NUMBER),
            ("To", ""),
            ("Note", ""),
        ],
        empty: "There is no sink.",
    },
    Table {
        name: "letters",
        title: "Dead letters",
        columns: &[
            ("Sink", ""),
            ("Since", NUMBER),
            ("", ""),
            ("Reason", ""),
            ("Message", ""),
            ("Type", ""),
            ("Sandbox", ""),
            ("Event", ""),
        ],
        empty: "None: every sink took what it got.",
    },
    Table {
        name: "sources",
        title: "Sources",
        columns: &[
            ("Source", ""),
            ("Accepted", NUMBER),
            ("Duplicates", NUMBER),
            ("Refused", NUMBER),
            ("Last delivery", ""),
            ("Verified through", ""),
            ("Recovered", NUMBER),
            ("Gaps", NUMBER),
        ],
        empty: "There is no source.",
    },
    Table { name: "sandboxes", title: "Sandboxes", columns: &[], empty: "None." },
    Table {
        name: "events",
        title: "Last events",
        columns: &[
            ("Received", ""),
            ("Type", ""),
            ("Sandbox", ""),
            ("Template", ""),
            ("Source", ""),
            ("By", ""),
            ("Event", ""),
        ],
        empty: "None yet.",
    },
];

/// What every page has.
#[derive(Serialize)]
struct Whole<'s> {
    #[serde(flatten)]
    shown: Option<&'s Shown>,
    cards: &'static [Card],
    outcomes: &'static [Figure],
    layout: &'static [Table],
    /// Where the token stands.
    token_file: &'s str,
}

pub(super) struct Template {
    engine: Environment<'static>,
    policy: HeaderValue,
}

impl Template {
    pub(super) fn new() -> Self {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        engine.add_global("style", Value::from_safe_string(STYLE.to_owned()));
        let digest = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'sha256-{digest}'; connect-src 'self'; img-src data:; \
             form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        );
        // ASCII without control characters: it is a header's value.
        let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { engine, policy }
    }

    /// The value of `Content-Security-Policy`.
    pub(super) fn policy(&self) -> HeaderValue {
        self.policy.clone()
    }

    /// The page; asks for it with ever less in it until it is small enough.
    pub(super) fn within_bounds(&self, token_file: &Path, make: impl Fn(Bounds) -> Shown) -> Result<String, Error> {
        for bounds in BOUNDS {
            let html = self.render(Some(&make(bounds)), token_file)?;
            if html.len() <= LARGEST {
                return Ok(html);
            }
        }
        Err(Error::TooLarge)
    }

    /// The page that only asks for the token.
    pub(super) fn sign_in(&self, token_file: &Path) -> Result<String, Error> {
        self.render(None, token_file)
    }

    fn render(&self, shown: Option<&Shown>, token_file: &Path) -> Result<String, Error> {
        let token_file = &*visible(&token_file.display().to_string());
        let whole = Whole { shown, cards: &CARDS, outcomes: &OUTCOMES, layout: &TABLES, token_file };
        Ok(self.engine.template_from_named_str(NAME, PAGE)?.render(Value::from(Serde(&whole)))?)
    }
}
