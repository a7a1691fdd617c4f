//! Sinks and what they take, from their settings.

use crate::deliver::About;
use crate::route::{self, Addressing, Router, RouterError, TemplateError};
use crate::settings::{SinkKind, SinkSettings};
use crate::sink::amqp::Amqp;
use crate::sink::file::File;
use crate::sink::kafka::Kafka;
use crate::sink::nats::Nats;
use crate::sink::registry::Registered;
use crate::sink::stdout::Stdout;
use crate::sink::{InvalidSetting, Sink};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What is wrong with a sink's settings.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// One key.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// Topic, key, subject or routing key.
    #[error("template: {0}")]
    Template(#[from] TemplateError),
    /// Types or filter.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// The thread that writes.
    #[error("cannot start its writer: {0}")]
    Writer(#[from] std::io::Error),
}

/// Makes a sink; nothing is connected yet. `shares_stream`: another sink feeds the same NATS stream.
pub fn build_sink(name: &str, settings: &SinkSettings, shares_stream: bool) -> Result<Arc<dyn Sink>, SinkError> {
    let sink: Arc<dyn Sink> = match &settings.kind {
        SinkKind::Kafka(settings) => Arc::new(Kafka::new(settings)?),
        SinkKind::Nats(settings) => Arc::new(Nats::new(settings.clone(), shares_stream.then(|| name.to_owned()))?),
        SinkKind::Amqp(settings) => Arc::new(Amqp::new(settings.clone())?),
        SinkKind::File(settings) => Arc::new(File::new(settings)?),
        SinkKind::Stdout(settings) => Arc::new(Stdout::new(settings)?),
    };
    let by_topic = matches!(settings.kind, SinkKind::Kafka(_));
    Ok(match &settings.common.schema_registry {
        Some(registry) => Arc::new(Registered::new(sink, registry, by_topic)?),
        None => sink,
    })
}

/// What a sink is, for operators.
pub(super) fn about(kind: &SinkKind) -> About {
    let (to, insecure_skip_verify) = match kind {
        SinkKind::Kafka(kafka) => (format!("topic {}", kafka.topic), kafka.insecure_skip_verify),
        SinkKind::Nats(nats) => (format!("subject {}", nats.subject), nats.insecure_skip_verify),
        SinkKind::Amqp(amqp) => {
            (format!("exchange {}, routing key {}", amqp.exchange, amqp.routing_key), amqp.insecure_skip_verify)
        }
        SinkKind::File(file) => (file.path.display().to_string(), false),
        SinkKind::Stdout(_) => ("standard output".to_owned(), false),
    };
    About { kind: kind.name(), to, insecure_skip_verify }
}

/// What a sink shows its peer of itself.
pub(super) fn certificate_file(kind: &SinkKind) -> Option<&Path> {
    match kind {
        SinkKind::Kafka(kafka) => kafka.tls.as_ref()?.cert_file.as_deref(),
        SinkKind::Nats(nats) => nats.cert_file.as_deref(),
        SinkKind::Amqp(amqp) => amqp.cert_file.as_deref(),
        SinkKind::File(_) | SinkKind::Stdout(_) => None,
    }
}

/// Compiles what a sink takes and where to.
pub fn build_router(sink: &SinkSettings) -> Result<Router, SinkError> {
    let addressing = match &sink.kind {
        SinkKind::Kafka(settings) => Addressing::kafka(&settings.topic, &settings.key)?,
        SinkKind::Nats(settings) => Addressing::nats(&settings.subject)?,
        SinkKind::Amqp(settings) => Addressing::amqp(&settings.routing_key)?,
        SinkKind::File(_) | SinkKind::Stdout(_) => Addressing::lines(),
    };
    Ok(route::Router::new(&sink.common.route, addressing)?)
}

/// Two JetStream sinks may feed one stream, which would take the second's copy of an id for a repetition. They do not
/// where both name their stream, which the server then holds them to, and the names differ.
pub fn shares_stream(name: &str, sinks: &BTreeMap<String, SinkSettings>) -> bool {
    let jetstream = |sink: &SinkSettings| match &sink.kind {
        SinkKind::Nats(nats) if nats.jetstream => Some(nats.stream.as_ref().map(|stream| stream.name.clone())),
        _ => None,
    };
    let Some(own) = sinks.get(name).and_then(jetstream) else { return false };
    let others = sinks.iter().filter(|(other, _)| *other != name).filter_map(|(_, sink)| jetstream(sink));
    others.into_iter().any(|other| own.is_none() || other.is_none() || own == other)
}
