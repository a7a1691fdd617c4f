//! Every path of the admin listener that is for programs; `tests/admin/openapi.rs` holds it against what is served.

use super::Shapes;
use crate::admin::backfill::Asked;
use crate::admin::dead_letters::{Chosen, LetterPage, LetterWithRecord};
use crate::admin::log_level::Level;
use crate::admin::quarantine::{Dropped, Dropping, Page as QuarantinePage, Whole};
use crate::admin::replay::{Order, Replays};
use crate::admin::sinks::{Forgotten, OneSink, Resumed, Resuming, SinkList};
use crate::admin::{Line, SourceList, Summary, TapLine, events};
use crate::deliver::{Found, Replay, Retried};
use crate::sandboxes::View;
use crate::source::backfill::Tally;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain";

/// Whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anybody.
    Open,
    /// Whoever may read.
    Reading,
    /// Whoever has the token.
    Changing,
}

/// What one method does at one path.
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) summary: &'static str,
    /// In the URL's query: name, and what it is.
    pub(super) parameters: &'static [(&'static str, &'static str)],
    pub(super) body: Option<Value>,
    pub(super) answers: Vec<Answer>,
}

/// What is answered with one status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) words: &'static str,
    pub(super) media: &'static str,
    pub(super) shape: Value,
}

impl Operation {
    pub(super) fn method(&self) -> &'static str {
        if self.kind == Kind::Changing { "post" } else { "get" }
    }

    /// `get_api_dead_letters_sink_id` and the like: unique as path and method are.
    pub(super) fn id(&self) -> String {
        let words = self.path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        [self.method()].into_iter().chain(words).collect::<Vec<_>>().join("_")
    }

    fn taking(self, parameters: &'static [(&'static str, &'static str)]) -> Self {
        Self { parameters, ..self }
    }

    fn also(mut self, status: u16, words: &'static str, media: &'static str, shape: Value) -> Self {
        self.answers.push(Answer { status, words, media, shape });
        self
    }
}

fn reading(path: &'static str, summary: &'static str, shape: Value) -> Operation {
    let answers = vec![Answer { status: 200, words: "As asked for.", media: JSON, shape }];
    Operation { path, kind: Kind::Reading, summary, parameters: &[], body: None, answers }
}

fn changing(path: &'static str, summary: &'static str, body: Value, shape: Value) -> Operation {
    Operation { kind: Kind::Changing, body: Some(body), ..reading(path, summary, shape) }
}

/// The answer is told line by line; each line has this shape.
fn telling(mut operation: Operation) -> Operation {
    for answer in &mut operation.answers {
        (answer.words, answer.media) = ("Lines of JSON, each of this shape, as they come.", LINES);
    }
    operation
}

fn open(path: &'static str, summary: &'static str) -> Operation {
    let text = || json!({"type": "string"});
    let answers = vec![Answer { status: 200, words: "In words.", media: TEXT, shape: text() }];
    Operation { path, kind: Kind::Open, summary, parameters: &[], body: None, answers }
}

const SINCE: (&str, &str) = ("since", "Received then or later: how long ago, such as 7d, or RFC 3339 with a zone.");
const KIND: (&str, &str) =
    ("type", "A glob over the type; samples are looked at only where it matches sandbox.metrics.");
const SANDBOX: (&str, &str) = ("sandbox_id", "Only this sandbox's.");
const SOURCE: (&str, &str) = ("source", "Only this source's.");
const SINK: (&str, &str) = ("sink", "Only this sink's.");
const LIMIT: (&str, &str) = ("limit", "Most items of the page, 1 to 1000; 100 where it is left out.");
const CURSOR: (&str, &str) = ("cursor", "The `next_cursor` of the page before.");

pub(super) fn operations(shapes: &mut Shapes) -> Vec<Operation> {
    let text = || json!({"type": "string"});
    vec![
        open("/metrics", "Prometheus' text format."),
        open("/livez", "Whether the daemon works.").also(503, "It does not.", TEXT, text()),
        open("/readyz", "Whether deliveries are taken.").also(503, "They are not.", TEXT, text()),
        reading("/api/openapi.json", "This document.", json!({"type": "object"})),
        reading("/api/sources", "What each source is to do, and how it is doing.", shapes.answered::<SourceList>()),
        reading("/api/sandboxes", "Those that live; all of them without limit and cursor.", shapes.answered::<View>())
            .taking(&[SOURCE, LIMIT, CURSOR]),
        reading("/api/events", "What the journal has.", shapes.answered::<events::Shown>()).taking(&[
            SINCE,
            KIND,
            SANDBOX,
            SOURCE,
            ("order", "desc (as where it is left out) or asc, by arrival."),
            LIMIT,
            CURSOR,
        ]),
        reading("/api/events/summary", "How many events of which type and template.", shapes.answered::<Summary>())
            .taking(&[SINCE, SOURCE]),
        telling(reading("/api/tap", "Events as they are stored.", shapes.answered::<TapLine<super::Record>>()))
            .taking(&[KIND, SANDBOX, SOURCE]),
        reading("/api/sinks", "What each sink is, and how it is doing.", shapes.answered::<SinkList>()),
        changing(
            "/api/sinks/forget",
            "Forgets the position of a sink that was taken out.",
            shapes.read::<OneSink>(),
            shapes.answered::<Forgotten>(),
        ),
        changing(
            "/api/sinks/{name}/resume",
            "Has a sink go on that is halted at a gap in the log; 409 where it is not.",
            shapes.read::<Resuming>(),
            shapes.answered::<Resumed>(),
        ),
        reading("/api/dead-letters", "Records that a sink never took.", shapes.answered::<LetterPage>()).taking(&[
            SINK,
            ("reason", "Only those of this reason."),
            LIMIT,
            CURSOR,
        ]),
        reading(
            "/api/dead-letters/{sink}/{id}",
            "One of them, by its event's id or sequence, with its record.",
            shapes.answered::<LetterWithRecord>(),
        ),
        telling(changing(
            "/api/dead-letters/retry",
            "Sends some once more.",
            shapes.read::<Chosen>(),
            shapes.answered::<Line<Retried>>(),
        )),
        changing("/api/dead-letters/drop", "Gives some up.", shapes.read::<Chosen>(), shapes.answered::<Dropped>()),
        reading("/api/quarantine", "What was signed and no event.", shapes.answered::<QuarantinePage>())
            .taking(&[SOURCE, LIMIT, CURSOR]),
        reading("/api/quarantine/{id}", "One of them, with its body.", shapes.answered::<Whole>()),
        changing("/api/quarantine/drop", "Gives some up.", shapes.read::<Dropping>(), shapes.answered::<Dropped>()),
        reading("/api/replay", "Of each sink the replay that is under way, or the last.", shapes.answered::<Replays>())
            .taking(&[SINK]),
        changing(
            "/api/replay",
            "Sends a sink what it has passed once more; with dry_run it only counts.",
            shapes.read::<Order>(),
            shapes.answered::<Found>(),
        )
        .also(202, "It has begun, and goes on by itself.", JSON, shapes.answered::<Replay>()),
        changing("/api/replay/cancel", "Ends one.", shapes.read::<OneSink>(), shapes.answered::<Replay>()),
        reading("/api/log-level", "How much the log says.", shapes.answered::<Level>()),
        changing(
            "/api/log-level",
            "Changes that, until the process ends.",
            shapes.read::<Level>(),
            shapes.answered::<Level>(),
        ),
        telling(changing(
            "/api/backfill",
            "Fetches what the deliveries missed.",
            shapes.read::<Asked>(),
            shapes.answered::<Line<Tally>>(),
        )),
    ]
}
