//! One sink's decision over one record.

use super::{Escape, Filter, FilterError, Format, Framing, Outgoing, Settings, Template, TemplateError, Verdict, View};
use crate::event::{Record, Stored};
use bytes::Bytes;
use globset::{Glob, GlobSet};

/// Where a sink's records go.
#[derive(Debug)]
pub struct Addressing {
    address: Option<Template>,
    key: Option<Template>,
    framing: Framing,
}

impl Addressing {
    /// A topic, which may be a template after a literal prefix, and the key that picks the partition.
    pub fn kafka(topic: &str, key: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            address: Some(Template::parse(topic, Escape::KafkaTopic)?),
            key: Some(Template::parse(key, Escape::KafkaKey)?),
            framing: Framing::Kafka,
        })
    }

    /// A subject.
    pub fn nats(subject: &str) -> Result<Self, TemplateError> {
        let address = Some(Template::parse(subject, Escape::NatsSubject)?);
        Ok(Self { address, key: None, framing: Framing::Nats })
    }

    /// A routing key.
    pub fn amqp(routing_key: &str) -> Result<Self, TemplateError> {
        let address = Some(Template::parse(routing_key, Escape::AmqpRoutingKey)?);
        Ok(Self { address, key: None, framing: Framing::Amqp })
    }

    /// One stream of lines, without addresses.
    pub fn lines() -> Self {
        Self { address: None, key: None, framing: Framing::Line }
    }
}

/// A sink's routing settings cannot be used; names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// One of `types` is no glob.
    #[error("types: {0}")]
    Types(String),
    /// The filter does not compile.
    #[error("filter: {0}")]
    Filter(#[from] FilterError),
    /// The format needs headers, or is no text.
    #[error("format: lines are text, without headers: write json, or cloudevents, which is one object")]
    NotForLines,
}

/// What becomes of a record at one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is to be sent.
    Send(Outgoing),
    /// The sink does not want it.
    Skip(Skip),
    /// The sink wants it and cannot have it: a dead letter.
    Reject {
        /// Which part failed.
        fault: Fault,
        /// How, without quoting the record.
        message: String,
    },
}

/// Why a sink does not want a record; label `reason` of `sink_filtered_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// None of its `types`.
    Type,
    /// None of its `sources`.
    Source,
    /// Its filter says no.
    Filter,
    /// A key that its filter reads is absent or null.
    FilterAbsent,
}

impl Skip {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Source => "source",
            Self::Filter => "filter",
            Self::FilterAbsent => "filter_absent",
        }
    }
}

/// Which part failed on a record; label `reason` of `sink_dead_letters_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The filter.
    Filter,
    /// A template.
    Template,
    /// The format.
    Format,
}

impl Fault {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Template => "template",
            Self::Format => "other",
        }
    }
}

/// Globs over the event's type; none of them means every type.
#[derive(Debug, Clone, Default)]
pub struct Types(Option<GlobSet>);

impl Types {
    /// Compiles `patterns`, such as `sandbox.lifecycle.*`. The error is the parser's word for what is no glob.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        let globs = patterns.iter().map(|pattern| Glob::new(pattern.as_ref()));
        let set = globs.collect::<Result<Vec<_>, _>>().and_then(GlobSet::new);
        set.map(|set| Self(Some(set))).map_err(|error| error.to_string())
    }

    /// Whether they take a type.
    pub fn take(&self, kind: &str) -> bool {
        self.0.as_ref().is_none_or(|types| types.is_match(kind))
    }
}

/// One sink's types, sources, filter, format and templates, compiled.
#[derive(Debug)]
pub struct Router {
    types: Types,
    sources: Vec<String>,
    filter: Option<Filter>,
    format: Format,
    addressing: Addressing,
}

impl Router {
    /// Compiles a sink's settings.
    pub fn new(settings: &Settings, addressing: Addressing) -> Result<Self, RouterError> {
        if !settings.format.fits_lines() && addressing.framing == Framing::Line {
            return Err(RouterError::NotForLines);
        }
        Ok(Self {
            types: Types::parse(&settings.types).map_err(RouterError::Types)?,
            sources: settings.sources.clone(),
            filter: settings.filter.as_deref().map(Filter::parse).transpose()?,
            format: settings.format,
            addressing,
        })
    }

    /// Decides over one record; `instance` is the store's UUID. The cheap questions come first.
    pub fn route(&self, stored: &Stored, record: &Record<'_>, instance: &str) -> Decision {
        let event = &stored.event;
        if !self.types.take(&event.kind) {
            return Decision::Skip(Skip::Type);
        }
        if !self.sources.is_empty() && !self.sources.iter().any(|name| **name == *stored.arrival.source) {
            return Decision::Skip(Skip::Source);
        }
        let view = View::new(stored, record, instance);
        if let Some(filter) = &self.filter {
            match filter.matches(&view) {
                Ok(Verdict::Match) => {}
                Ok(Verdict::NoMatch) => return Decision::Skip(Skip::Filter),
                Ok(Verdict::Absent) => return Decision::Skip(Skip::FilterAbsent),
                Err(fault) => return Decision::Reject { fault: Fault::Filter, message: fault.to_string() },
            }
        }
        let payload = match self.format.encode(&view, self.addressing.framing) {
            Ok(payload) => payload,
            Err(message) => return Decision::Reject { fault: Fault::Format, message },
        };
        match self.outgoing(&view, payload) {
            Ok(outgoing) => Decision::Send(outgoing),
            Err(error) => Decision::Reject { fault: Fault::Template, message: error.to_string() },
        }
    }

    /// The record as this sink would send it, to another address and whatever the sink takes otherwise. An error tells of a
    /// fault in the relay.
    pub fn readdressed(
        &self,
        stored: &Stored,
        record: &Record<'_>,
        instance: &str,
        to: &str,
    ) -> Result<Outgoing, String> {
        let view = View::new(stored, record, instance);
        let payload = self.format.encode(&view, self.addressing.framing)?;
        Ok(self.packed(&view, payload, to.to_owned(), stored.event.sandbox_id.clone()))
    }

    fn outgoing(&self, view: &View<'_>, payload: Bytes) -> Result<Outgoing, TemplateError> {
        let render = |template: &Option<Template>| template.as_ref().map_or(Ok(String::new()), |t| t.render(view));
        Ok(self.packed(view, payload, render(&self.addressing.address)?, render(&self.addressing.key)?))
    }

    fn packed(&self, view: &View<'_>, payload: Bytes, address: String, key: String) -> Outgoing {
        let Stored { sequence, event, .. } = view.stored();
        Outgoing {
            sequence: *sequence,
            id: event.id.clone(),
            kind: event.kind.clone(),
            sandbox_id: event.sandbox_id.clone(),
            address,
            key,
            payload,
            content_type: self.format.content_type(),
            unix_seconds: event.timestamp.instant().as_second(),
            headers: self.format.headers(view, self.addressing.framing),
        }
    }
}

#[cfg(test)]
mod tests;
