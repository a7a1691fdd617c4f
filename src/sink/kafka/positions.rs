//! The topic of positions: whether it is as it has to be, and what stands there under a name.

use super::elsewhere::Elsewhere;
use super::failure::{explain, reason};
use super::oauth::Runtime;
use super::producer::{Producer, code_of, log};
use super::retry;
use super::settings::Settings;
use super::transactions::blocking;
use crate::sink::{Reason, SendError};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Its name.
pub(super) const TOPIC: &str = "e2b-relay.positions";
/// How to have it.
const HOW: &str = "make it with `kafka-topics.sh --create --topic e2b-relay.positions --partitions 1 --config \
                   cleanup.policy=compact`, with as many replicas as the topics of your records";
/// How long a description may take.
const DESCRIPTION: Duration = Duration::from_secs(5);
/// How long reading may take: positions become readable when every transaction that began before has ended, those of
/// other relays too.
const READING: Duration = Duration::from_secs(75);
const POLL: Duration = Duration::from_millis(200);

/// Whether the topic is there, with one partition, and compacted.
pub(super) async fn check(settings: &Settings, producer: &Arc<Producer>) -> Result<(), SendError> {
    let asked = Arc::clone(producer);
    let answer = blocking(move || asked.metadata(Some(TOPIC), DESCRIPTION)).await?;
    let wrong = |reason, what: String| Err(retry(reason, format!("kafka topic {TOPIC}: {what}")));
    let metadata = match answer {
        Ok(metadata) => metadata,
        Err(code) => return wrong(reason(code), explain(code)),
    };
    let found = metadata.topics().iter().find(|found| found.name() == TOPIC);
    match found.map(|found| (found.error().map(RDKafkaErrorCode::from), found.partitions().len())) {
        Some((None, 1)) => check_policy(settings).await,
        Some((None, partitions)) => wrong(
            Reason::Unroutable,
            format!("has {partitions} partitions, and may have one only; remove it and {HOW}"),
        ),
        Some((Some(code), _)) if reason(code) == Reason::Auth => wrong(Reason::Auth, explain(code)),
        Some((Some(_), _)) | None => wrong(Reason::Unroutable, format!("does not exist; {HOW}")),
    }
}

/// A topic that forgets its oldest records would forget positions. Brokers tell it to whom they let know.
async fn check_policy(settings: &Settings) -> Result<(), SendError> {
    let other = |what: String| retry(Reason::Other, format!("kafka topic {TOPIC}: {what}"));
    let context = Context::new(settings).map_err(other)?;
    let admin = Elsewhere::<AdminClient<Context>>::start(&settings.consumer_config(), context);
    let (admin, _) = admin.map_err(|error| other(explain(code_of(&error))))?;
    let options = AdminOptions::new().request_timeout(Some(DESCRIPTION));
    let answer = admin.describe_configs(&[ResourceSpecifier::Topic(TOPIC)], &options).await;
    let described = answer.ok().and_then(|mut answers| answers.pop()?.ok());
    let policy = described.as_ref().and_then(|topic| topic.get("cleanup.policy")?.value.as_deref());
    match policy {
        Some(policy) if !policy.contains("compact") => {
            let message = format!("kafka topic {TOPIC}: its cleanup.policy is {policy}; remove it and {HOW}");
            Err(retry(Reason::Unroutable, message))
        }
        Some(_) => Ok(()),
        None => {
            tracing::info!("kafka: whether {TOPIC} is compacted cannot be seen without DESCRIBE_CONFIGS on it");
            Ok(())
        }
    }
}

struct Context {
    tokens: Option<Runtime>,
    #[cfg(test)]
    _witness: super::elsewhere::Witness,
}

impl Context {
    fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            tokens: Runtime::tokens(settings)?,
            #[cfg(test)]
            _witness: super::elsewhere::Witness,
        })
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Runtime::fetch(self.tokens.as_ref())
    }
}

impl ConsumerContext for Context {}

/// The last position that was committed under the first of these names that has one. Reads the topic from its beginning to
/// where the mark stands. Blocks.
pub(super) fn read(settings: &Settings, names: &[String], mark: &str) -> Result<Option<String>, SendError> {
    let failed = |reason, what: String| retry(reason, format!("kafka topic {TOPIC}: {what}"));
    let other = |what: String| failed(Reason::Other, what);
    let context = Context::new(settings).map_err(other)?;
    let consumer = Elsewhere::<BaseConsumer<Context>>::start(&settings.consumer_config(), context);
    let (consumer, _) = consumer.map_err(|error| other(explain(code_of(&error))))?;
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(TOPIC, 0, Offset::Beginning).map_err(|error| other(error.to_string()))?;
    consumer.assign(&all).map_err(|error| other(error.to_string()))?;
    let mut found: Vec<Option<String>> = vec![None; names.len()];
    let until = Instant::now() + READING;
    let mut last_error = None;
    while Instant::now() < until {
        let message = match consumer.poll(POLL) {
            None => continue,
            // The client tries again; what it says last is told in the end.
            Some(Err(error)) => {
                let code = code_of(&error);
                if reason(code) == Reason::Auth {
                    let how = "the brokers' rules must allow READ on it, and READ on the group e2b-relay";
                    return Err(failed(Reason::Auth, format!("{code}; {how}")));
                }
                last_error = Some(code);
                continue;
            }
            Some(Ok(message)) => message,
        };
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let (key, value) = (text(message.key()), text(message.payload()));
        if value.as_deref() == Some(mark) {
            return Ok(found.into_iter().flatten().next());
        }
        for (name, found) in names.iter().zip(&mut found) {
            if key.as_ref() == Some(name) {
                *found = value.clone();
            }
        }
    }
    let why = match last_error {
        Some(code) => explain(code),
        None => "a transaction of another relay may be open".to_owned(),
    };
    Err(failed(Reason::Timeout, format!("cannot be read to its end: {why}")))
}

#[cfg(test)]
mod tests {
    use super::super::elsewhere::Witness;
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_question_that_is_cancelled_blocks_no_thread_of_the_runtime() {
        let settings = Settings { brokers: vec!["127.0.0.1:1".to_owned()], ..Settings::default() };
        assert!(check_policy(&settings).now_or_never().is_none(), "nobody is there to answer");
        assert_eq!(Witness::ended_here(), 0, "it has blocked this thread");
    }
}
