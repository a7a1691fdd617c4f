//! One librdkafka producer with the thread that serves its reports.

use super::client::Batching;
use super::complaint::{Complaint, Trouble};
use super::elsewhere::{Elsewhere, Ended};
use super::failure::{Circumstances, explain, is_about_a_batch, is_topic_missing, judge};
use super::oauth::Runtime;
use super::redirect::Redirect;
use super::settings::Settings;
use crate::route::Outgoing;
use crate::sink::gate::{Gate, Report};
use crate::sink::{Reason, Scope, SendError};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long the serving thread waits for a report before it looks whether to end.
const POLL: Duration = Duration::from_millis(100);
/// What a record's frame adds to its key, value and headers in a batch, in bytes; the estimate errs towards less.
const FRAME: usize = 32;

/// A record that librdkafka has.
#[derive(Debug)]
pub(super) struct Handover {
    report: Report,
    circumstances: Circumstances,
    /// Given while it may still go to the fallback topic.
    redirectable: Option<Arc<Outgoing>>,
}

/// What librdkafka calls back.
#[derive(Debug)]
struct Context {
    tokens: Option<Runtime>,
    redirect: Option<Redirect>,
    gate: Arc<Gate>,
    trouble: Arc<Trouble>,
    fatal: AtomicBool,
    batch_refused: AtomicBool,
    confirmed: AtomicU64,
    #[cfg(test)]
    _witness: super::elsewhere::Witness,
}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "librdkafka: {message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Runtime::fetch(self.tokens.as_ref())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    /// Comes twice for each error, which does no harm.
    fn error(&self, error: KafkaError, text: &str) {
        let code = code_of(&error);
        if code == RDKafkaErrorCode::Fatal {
            self.fatal.store(true, Ordering::Release);
        }
        self.trouble.set(code, text);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Handover>;

    fn delivery(&self, result: &DeliveryResult<'_>, handover: Box<Handover>) {
        if let (Some(redirect), Some(outgoing)) = (&self.redirect, &handover.redirectable) {
            if matches!(result, Err((error, _)) if is_topic_missing(code_of(error))) {
                return redirect.push(handover);
            }
            redirect.leave(&outgoing.address);
        }
        let Handover { report, circumstances, .. } = *handover;
        let outcome = match result {
            Ok(_) => {
                self.confirmed.fetch_add(1, Ordering::Relaxed);
                self.trouble.clear();
                Ok(())
            }
            Err((error, _)) => Err(self.judge(error, circumstances)),
        };
        // Nobody waits when `deliver` has ended; the record then counts as unconfirmed.
        let _ = report.send(outcome);
    }
}

impl Context {
    /// Closes the gate before anyone is told, so that no record can overtake the one that failed.
    fn judge(&self, error: &KafkaError, circumstances: Circumstances) -> SendError {
        let code = code_of(error);
        let complaint = self.trouble.get();
        let explained = explain(code);
        let message = match &complaint {
            Some(Complaint { text, .. }) => format!("kafka: {explained}; last complaint of the client: {text}"),
            None => format!("kafka: {explained}"),
        };
        // What a purged record failed of is what ended the producer.
        let purged = matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight);
        let cause = match complaint {
            Some(Complaint { code: cause, .. }) if purged && !is_about_a_batch(cause) => cause,
            _ => code,
        };
        if is_about_a_batch(code) && !circumstances.alone {
            self.batch_refused.store(true, Ordering::Release);
        }
        let failure = judge(cause, circumstances, message);
        if matches!(failure, SendError::Retry { .. }) {
            self.gate.close(&failure);
        }
        failure
    }
}

/// A running producer. Once it is dropped, what is still in it fails, soon.
pub(super) struct Producer {
    base: Arc<Elsewhere<BaseProducer<Context>>>,
    ended: Ended,
    batching: Batching,
    batch_size: usize,
    templated: bool,
    stop: Stop,
}

/// Tells the thread that serves reports to let go of the producer, when dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Producer {
    pub(super) fn start(
        settings: &Settings,
        config: &ClientConfig,
        batching: Batching,
        gate: Arc<Gate>,
        trouble: Arc<Trouble>,
    ) -> Result<Self, String> {
        let context = Context {
            tokens: Runtime::tokens(settings)?,
            redirect: settings.fallback_topic.clone().map(Redirect::new),
            gate,
            trouble,
            fatal: AtomicBool::new(false),
            batch_refused: AtomicBool::new(false),
            confirmed: AtomicU64::new(0),
            #[cfg(test)]
            _witness: super::elsewhere::Witness,
        };
        let (base, ended) = Elsewhere::start(config, context).map_err(|error| match error {
            // Its `Display` holds the value.
            KafkaError::ClientConfig(_, verdict, name, _) => format!("librdkafka.{name}: {}", verdict.to_lowercase()),
            other => other.to_string(),
        })?;
        let (base, stop) = (Arc::new(base), Stop(Arc::default()));
        let (served, stopped) = (Arc::clone(&base), Arc::clone(&stop.0));
        let thread =
            std::thread::Builder::new().name("kafka-reports".to_owned()).spawn(move || serve(&served, &stopped));
        thread.map_err(|error| format!("cannot start the thread for reports: {error}"))?;
        let (batch_size, templated) = (settings.batch_size(), settings.is_topic_templated());
        Ok(Self { base, ended, batching, batch_size, templated, stop })
    }

    /// Lets go of it, and waits until it has ended, unless somebody else still has it.
    pub(super) async fn end(producer: Arc<Self>) {
        let Some(Self { base, ended, stop, .. }) = Arc::into_inner(producer) else { return };
        drop((stop, base));
        // An error means that it has ended, too.
        let _ = ended.await;
    }

    /// Puts a record into librdkafka's queue. An error is of that; everything later comes by `report`.
    pub(super) fn send(&self, outgoing: &Arc<Outgoing>, report: Report) -> Result<(), SendError> {
        let alone = self.batching == Batching::Single || size(outgoing) > self.batch_size;
        let circumstances = Circumstances { templated: self.templated, alone };
        let redirect = self.context().redirect.as_ref();
        if let Some(redirect) = redirect {
            redirect.enter(&outgoing.address);
        }
        let redirectable = redirect.map(|_| Arc::clone(outgoing));
        let handover = Box::new(Handover { report, circumstances, redirectable });
        let Err((error, handover)) = hand_over(&self.base, outgoing, None, handover) else { return Ok(()) };
        // librdkafka judged this record, not a batch.
        let circumstances = Circumstances { alone: true, ..circumstances };
        let Some(redirect) = redirect else { return Err(self.context().judge(&error, circumstances)) };
        let is_last = redirect.leave(&outgoing.address);
        if !is_topic_missing(code_of(&error)) {
            return Err(self.context().judge(&error, circumstances));
        }
        if !is_last {
            // It comes again when everything before it has reported.
            let message = format!("kafka: records before it go to {}", redirect.topic);
            return Err(SendError::Retry { scope: Scope::Sink, reason: Reason::Unroutable, message });
        }
        send_elsewhere(&self.base, redirect, outgoing, *handover);
        Ok(())
    }

    /// The cluster's description, or that of one topic. Blocks.
    pub(super) fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata, RDKafkaErrorCode> {
        let metadata = self.base.client().fetch_metadata(topic, timeout);
        metadata.map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown))
    }

    /// For transactions.
    pub(super) fn base(&self) -> &BaseProducer<impl ProducerContext> {
        &self.base
    }

    /// Whether nothing more can come of it.
    pub(super) fn is_dead(&self) -> bool {
        self.context().fatal.load(Ordering::Acquire) || self.base.client().fatal_error().is_some()
    }

    /// How records are to be batched from now on, if not as they are: one by one after a batch was refused in which any
    /// record may have been at fault, and together again after so many were confirmed.
    pub(super) fn better_batching(&self, enough: u64) -> Option<Batching> {
        let context = self.context();
        match self.batching {
            Batching::Full if context.batch_refused.load(Ordering::Acquire) => Some(Batching::Single),
            Batching::Single if context.confirmed.load(Ordering::Relaxed) >= enough => Some(Batching::Full),
            Batching::Full | Batching::Single => None,
        }
    }

    fn context(&self) -> &Context {
        self.base.client().context()
    }
}

/// Serves reports until told to stop.
fn serve(base: &BaseProducer<Context>, stop: &AtomicBool) {
    let mut purged = false;
    let context = base.client().context();
    while !stop.load(Ordering::Acquire) {
        base.poll(POLL);
        while let Some((redirect, handover)) = context.redirect.as_ref().and_then(|it| Some((it, it.pop()?))) {
            if let Some(outgoing) = handover.redirectable.clone() {
                send_elsewhere(base, redirect, &outgoing, *handover);
                redirect.leave(&outgoing.address);
            }
        }
        // After a fatal error librdkafka fails what waits, but not what is in flight: should that come back into its
        // queue, it would stay there, neither sent nor failed.
        if !purged && context.fatal.load(Ordering::Acquire) {
            base.purge(PurgeConfig::default().queue().inflight());
            purged = true;
        }
    }
}

/// Sends a record whose topic is missing to the fallback topic. Should that be missing too, the sink halts.
fn send_elsewhere(base: &BaseProducer<Context>, redirect: &Redirect, outgoing: &Outgoing, handover: Handover) {
    let circumstances = Circumstances { templated: false, ..handover.circumstances };
    let handover = Box::new(Handover { circumstances, redirectable: None, ..handover });
    if let Err((error, handover)) = hand_over(base, outgoing, Some(&redirect.topic), handover) {
        let circumstances = Circumstances { alone: true, ..circumstances };
        let _ = handover.report.send(Err(base.client().context().judge(&error, circumstances)));
    }
}

type Refused = (KafkaError, Box<Handover>);

/// Puts a record into librdkafka's queue, for its own topic or for another.
fn hand_over(
    base: &BaseProducer<Context>,
    outgoing: &Outgoing,
    elsewhere: Option<&str>,
    handover: Box<Handover>,
) -> Result<(), Refused> {
    let mut headers = OwnedHeaders::new_with_capacity(4 + outgoing.headers.len());
    for (key, value) in own_headers(outgoing).into_iter().chain(further_headers(outgoing)) {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    if elsewhere.is_some() {
        headers = headers.insert(Header { key: "e2b-relay-topic", value: Some(outgoing.address.as_str()) });
    }
    // The record's own time is left to librdkafka, which takes now: brokers refuse times far from theirs (as the
    // provider's may be), and count their retention from it.
    let record = BaseRecord::with_opaque_to(elsewhere.unwrap_or(&outgoing.address), handover)
        .key(&outgoing.key)
        .payload(outgoing.payload.as_ref())
        .headers(headers);
    base.send(record).map_err(|(error, record)| (error, record.delivery_opaque))
}

fn own_headers(outgoing: &Outgoing) -> [(&str, &str); 3] {
    [("e2b-event-id", &outgoing.id), ("e2b-event-type", &outgoing.kind), ("content-type", outgoing.content_type)]
}

fn further_headers(outgoing: &Outgoing) -> impl Iterator<Item = (&str, &str)> {
    outgoing.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// What a record takes in a batch, in bytes.
fn size(outgoing: &Outgoing) -> usize {
    let headers = own_headers(outgoing).into_iter().chain(further_headers(outgoing));
    let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
    outgoing.payload.len() + outgoing.key.len() + headers + FRAME
}

pub(super) fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}
