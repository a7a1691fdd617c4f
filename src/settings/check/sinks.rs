//! Templates, filters and names, over all sinks.

use super::Findings;
use crate::route::{self, Addressing, Escape, Filter, Format, Router, RouterError, Template, TemplateError};
use crate::settings::problem::KeyPath;
use crate::settings::provenance::Provenance;
use crate::settings::walk::nearest;
use crate::settings::{Settings, SinkKind, SinkSettings};
use crate::sink::{InvalidSetting, amqp};
use std::collections::BTreeMap;

/// Top-level fields of the record that differ between the events of one sandbox.
const VARYING: [&str; 8] =
    ["id", "type", "version", "timestamp", "event_category", "event_label", "sandbox_execution_id", "sandbox_build_id"];

pub(super) fn check(settings: &Settings, provenance: &Provenance, findings: &mut Findings) {
    for (name, sink) in &settings.sinks {
        let mut one = One { key: KeyPath::of(["sinks", name]), provenance, findings };
        one.common(sink, settings);
        one.kind(sink);
    }
    renames(settings, findings);
}

/// The checks of one sink.
struct One<'a> {
    key: KeyPath,
    provenance: &'a Provenance,
    findings: &'a mut Findings,
}

impl One<'_> {
    fn common(&mut self, sink: &SinkSettings, settings: &Settings) {
        let route = &sink.common.route;
        for (place, source) in
            route.sources.iter().enumerate().filter(|(_, name)| !settings.sources.contains_key(*name))
        {
            let known: Vec<&str> = settings.sources.keys().map(String::as_str).collect();
            let remedy = match nearest(source, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            let key = self.key.key("sources").index(place);
            self.findings.error(&key, format!("there is no source `{}`", source.escape_debug()), remedy);
        }
        if let Some(Err(error)) = route.filter.as_deref().map(Filter::parse) {
            self.unusable(&self.key.key("filter"), &error.to_string(), "see https://cel.dev for the language");
        }
        match (&sink.common.schema_registry, route.format == Format::Avro) {
            (Some(registry), true) => self.accept(registry.check()),
            (None, false) => {}
            (Some(_), false) => {
                let remedy = "write `format: avro`, or leave it out";
                self.findings.warn(&self.key.key("schema_registry"), "has no effect without Avro", remedy);
            }
            (None, true) => {
                let remedy = "add `schema_registry: {url: http://127.0.0.1:8081}`";
                self.findings.error(&self.key.key("format"), "is avro, which needs a schema registry", remedy);
            }
        }
        if let Some(to) = &sink.common.dead_letter_to {
            self.dead_letter_to(to, &sink.kind);
        }
        if route.format == Format::Raw {
            self.unredacted(sink, settings);
        }
        for (place, glob) in route.types.iter().enumerate() {
            let alone = route::Settings { types: vec![glob.clone()], ..route::Settings::default() };
            if let Err(RouterError::Types(error)) = Router::new(&alone, Addressing::lines()) {
                let key = self.key.key("types").index(place);
                self.unusable(&key, &error, "write globs such as `sandbox.lifecycle.*`");
            }
        }
    }

    fn dead_letter_to(&mut self, to: &str, kind: &SinkKind) {
        let key = self.key.key("dead_letter_to");
        let is_plain =
            !to.is_empty() && !to.contains(|c: char| c.is_whitespace() || c.is_control() || "{}*>".contains(c));
        let own = match kind {
            SinkKind::Kafka(kafka) => &kafka.topic,
            SinkKind::Nats(nats) => &nats.subject,
            SinkKind::Amqp(amqp) => &amqp.routing_key,
            SinkKind::File(_) | SinkKind::Stdout(_) => {
                let message = "has no effect here: lines have one place";
                return self.findings.error(&key, message, "leave it out; dead letters wait in the store");
            }
        };
        if !is_plain {
            let remedy = "write one topic, subject or routing key, such as `e2b.dead`";
            self.findings.error(&key, "is no plain address", remedy);
        } else if own == to {
            self.findings.error(&key, "is where the sink's records go", "give dead letters a place of their own");
        }
    }

    /// A raw body is the one that was signed, whole.
    fn unredacted(&mut self, sink: &SinkSettings, settings: &Settings) {
        let key = self.key.key("format");
        let remedy = "write json, or take the paths out of `redact`";
        if !sink.common.redact.is_empty() {
            self.findings.error(&key, "is raw, and `redact` is to take values out", remedy);
        }
        let taken = &sink.common.route.sources;
        let is_redacted = |name: &String| settings.sources.get(name).is_some_and(|source| !source.redact.is_empty());
        let is_taken = |name: &&String| (taken.is_empty() || taken.contains(name)) && is_redacted(name);
        if let Some(source) = settings.sources.keys().find(is_taken) {
            self.findings.error(&key, format!("is raw, and source `{source}` has a `redact`"), remedy);
        }
    }

    fn kind(&mut self, sink: &SinkSettings) {
        match &sink.kind {
            SinkKind::Kafka(kafka) => {
                let topic = self.template("topic", &kafka.topic, Escape::KafkaTopic);
                if let Some(topic) = &topic {
                    self.warn_if_spread("topic", topic, "topics");
                }
                let key = self.template("key", &kafka.key, Escape::KafkaKey);
                if let Some(key) = &key {
                    self.warn_if_spread("key", key, "partitions");
                }
                self.accept(kafka.check());
            }
            SinkKind::Nats(nats) => {
                self.template("subject", &nats.subject, Escape::NatsSubject);
                self.accept(nats.validate());
            }
            SinkKind::Amqp(amqp) => {
                let routing_key = self.template("routing_key", &amqp.routing_key, Escape::AmqpRoutingKey);
                // The default suits consumers that bind by type, and a declared queue gets all of them.
                let default = amqp::Settings::default().routing_key;
                let is_chosen = amqp.declare.is_none() && amqp.routing_key != default;
                if let (Some(routing_key), true) = (&routing_key, is_chosen) {
                    self.warn_if_spread("routing_key", routing_key, "queues, if they are bound by it");
                }
                self.accept(amqp.validate());
            }
            SinkKind::File(file) => {
                self.accept(file.check());
                self.lines(&sink.common.route);
            }
            SinkKind::Stdout(_) => self.lines(&sink.common.route),
        }
    }

    fn lines(&mut self, route: &route::Settings) {
        if !route.format.fits_lines() {
            let (message, remedy) = match route.format.needs_headers() {
                true => ("needs headers, which lines do not have", "write cloudevents, which is one object"),
                false => ("is binary, and lines are text", "write json"),
            };
            self.findings.error(&self.key.key("format"), message, remedy);
        }
    }

    /// Compiles a template; a fault becomes a finding.
    fn template(&mut self, key: &str, text: &str, escape: Escape) -> Option<Template> {
        match Template::parse(text, escape) {
            Ok(template) => Some(template),
            Err(error) => {
                self.bad_template(key, &error);
                None
            }
        }
    }

    fn bad_template(&mut self, key: &str, error: &TemplateError) {
        self.unusable(&self.key.key(key), &error.to_string(), "write it like `prefix.{{ sandbox_id }}`");
    }

    /// A consumer sees a sandbox's order within one partition, topic or queue only.
    fn warn_if_spread(&mut self, key: &str, template: &Template, over: &str) {
        if let Some(field) = VARYING.iter().find(|field| template.reads(field)) {
            let message =
                format!("`{field}` differs between the events of one sandbox: they are spread over several {over}");
            let remedy = "consumers see a sandbox's order only within one; use `{{ sandbox_id }}` if it matters";
            self.findings.warn(&self.key.key(key), message, remedy);
        }
    }

    fn accept(&mut self, result: Result<(), InvalidSetting>) {
        self.findings.accept(&self.key, result);
    }

    /// A compiler's words quote the text, and a variable in it may hold a secret that was put into the wrong key.
    fn unusable(&mut self, key: &KeyPath, error: &str, remedy: &str) {
        let quoted = if self.provenance.is_from_variable(key) { "cannot be compiled" } else { error };
        self.findings.error(key, quoted, remedy);
    }
}

fn renames(settings: &Settings, findings: &mut Findings) {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, sink) in &settings.sinks {
        let Some(old) = sink.common.renamed_from.as_deref() else { continue };
        let key = KeyPath::of(["sinks", name, "renamed_from"]);
        // One that gets another's position itself makes room for this one: names may be swapped.
        let stays = settings.sinks.get(old).is_some_and(|there| old == name || there.common.renamed_from.is_none());
        if stays {
            let message = format!("sink `{old}` is still there");
            findings.error(&key, message, "take out the old one, or leave this out");
        } else if let Some(other) = known.insert(old, name) {
            let message = format!("sink `{other}` has taken over from `{old}` already");
            findings.error(&key, message, "only one can go on where it stopped");
        }
    }
}
