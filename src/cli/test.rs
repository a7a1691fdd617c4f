//! `test`: what the sinks would make of one event, with nothing sent or stored.

use super::Format;
use super::outcome::{Exit, Failure, print, print_json};
use super::sources::Sources;
use crate::app;
use crate::decode::{self, Decoded, Redaction};
use crate::event::{Arrival, Event, Origin, Stored};
use crate::route::Decision;
use crate::secret::Secret;
use crate::settings::{Settings, SinkKind, SinkSettings};
use crate::simulator::{Dialect, signature_headers};
use crate::verify::{Accept, Presented, Verified, Verifier};
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};

/// In the place of the store's own UUID.
const INSTANCE: &str = "00000000-0000-0000-0000-000000000000";

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    sources: Sources,
    /// A file with the body of one delivery.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// Whose delivery it is; needed if there are several sources.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// How the delivery would be signed, e2b, e2b-hmac or hmac; a self-hosted one (hmac) may lack an id.
    #[arg(long, default_value = "e2b", value_name = "DIALECT")]
    dialect: Dialect,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    sinks: Vec<Routed>,
}

/// What one sink makes of the event.
#[derive(Debug, Serialize)]
struct Routed {
    sink: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    /// It would be sent.
    Send {
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        content_type: &'static str,
        headers: Vec<(String, String)>,
        payload: String,
    },
    /// The sink does not want it.
    Skip { reason: &'static str },
    /// The sink wants it and cannot have it.
    DeadLetter { reason: &'static str, message: String },
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    let settings = options.sources.read_and_warn()?.settings;
    let source = source(options, &settings)?;
    let body = read(&options.event, settings.server.max_body.as_u64())?;
    let verified = sign(options.dialect, body)?;
    let refused = |status: u16, why: String| {
        Failure::new(Exit::Usage, format_args!("{}: would be answered {status}: {why}", options.event.display()))
    };
    let Decoded { event, team_id } = decode::delivery(&verified).map_err(|error| refused(400, error.to_string()))?;
    let team = settings.sources.get(&source).and_then(|source| source.team_id.as_deref());
    if team.is_some() && team != team_id.as_deref() {
        return Err(refused(401, format!("it is not of the team of source `{source}`")));
    }
    let arrival = Arrival {
        source: source.as_str().into(),
        origin: Origin::Webhook,
        received_at: jiff::Timestamp::now(),
        webhook_id: None,
        delivery_id: None,
    };
    let redact = |event: Event, redaction: &Redaction| Event { body: redaction.body(event.body), ..event };
    let event = redact(event, &settings.sources.get(&source).map(|source| source.redact.clone()).unwrap_or_default());
    let mut sinks = Vec::new();
    for (name, sink) in &settings.sinks {
        let event = redact(event.clone(), &sink.common.redact);
        let stored = Stored { sequence: 1, arrival: arrival.clone(), event };
        let record = decode::stored(&stored.event).map_err(|error| refused(400, error.to_string()))?;
        let router = app::build_router(sink).map_err(|error| Failure::new(Exit::Config, error))?;
        let outcome = outcome(sink, router.route(&stored, &record, INSTANCE))?;
        sinks.push(Routed { sink: name.clone(), kind: sink.kind.name(), outcome });
    }
    let report = Report { id: event.id, kind: event.kind, source, sinks };
    match options.format {
        Format::Json => print_json(&report),
        Format::Text => print(report),
    }
}

fn source(options: &Options, settings: &Settings) -> Result<String, Failure> {
    let names: Vec<&String> = settings.sources.keys().collect();
    match (&options.source, names.as_slice()) {
        (Some(name), _) if settings.sources.contains_key(name) => Ok(name.clone()),
        (None, [only]) => Ok((*only).clone()),
        _ => {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            Err(Failure::new(Exit::Usage, format_args!("name the source with --source: {}", names.join(", "))))
        }
    }
}

fn read(path: &Path, limit: u64) -> Result<Bytes, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Io, format_args!("{}: {error}", path.display()));
    let mut body = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut body))
        .map_err(failed)?;
    if body.len() as u64 > limit {
        let message = format_args!("{}: would be answered 413: larger than server.max_body", path.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(Bytes::from(body))
}

/// Signs the body with a secret of this call's own and verifies that: only what is verified can be decoded.
fn sign(dialect: Dialect, body: Bytes) -> Result<Verified, Failure> {
    let secret = Secret::new("for this call only, and never on a wire");
    let headers = signature_headers(dialect, &secret, &body);
    let mut presented = Presented::default();
    for (name, value) in &headers {
        match *name {
            "e2b-signature" => presented.e2b_signature.push(value.as_bytes()),
            "e2b-signature-version" => presented.e2b_signature_version.push(value.as_bytes()),
            _ => presented.x_e2b_signature.push(value.as_bytes()),
        }
    }
    let accept = match dialect {
        Dialect::E2b => Accept::E2b,
        Dialect::E2bHmac => Accept::E2bHmac,
        Dialect::Hmac => Accept::Hmac,
    };
    Verifier::new(&[secret], accept).verify(&presented, body).map_err(Failure::internal)
}

fn outcome(sink: &SinkSettings, decision: Decision) -> Result<Outcome, Failure> {
    Ok(match decision {
        Decision::Skip(skip) => Outcome::Skip { reason: skip.as_str() },
        Decision::Reject { fault, message } => Outcome::DeadLetter { reason: fault.as_str(), message },
        Decision::Send(outgoing) => Outcome::Send {
            to: match &sink.kind {
                SinkKind::File(file) => Some(file.path.display().to_string()),
                SinkKind::Stdout(_) => None,
                SinkKind::Kafka(_) | SinkKind::Nats(_) | SinkKind::Amqp(_) => Some(outgoing.address),
            },
            key: Some(outgoing.key).filter(|key| !key.is_empty()),
            content_type: outgoing.content_type,
            headers: outgoing.headers,
            // A body was found to be UTF-8, and a record is made of it.
            payload: String::from_utf8(outgoing.payload.into()).map_err(Failure::internal)?,
        },
    })
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {} from source {}", self.kind, self.id, self.source)?;
        for Routed { sink, kind, outcome } in &self.sinks {
            write!(f, "\n{sink} ({kind}): ")?;
            match outcome {
                Outcome::Skip { reason } => writeln!(f, "not taken: {reason}")?,
                Outcome::DeadLetter { reason, message } => writeln!(f, "dead letter: {reason}: {message}")?,
                Outcome::Send { to, key, content_type, headers, payload } => {
                    write!(f, "{}", to.as_deref().unwrap_or("standard output"))?;
                    if let Some(key) = key {
                        write!(f, ", key {key}")?;
                    }
                    writeln!(f, ", {content_type}, {} bytes", payload.len())?;
                    for (name, value) in headers {
                        writeln!(f, "{name}: {value}")?;
                    }
                    writeln!(f, "{payload}")?;
                }
            }
        }
        Ok(())
    }
}
