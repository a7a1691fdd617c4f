//! What is measured: each in a process of its own, fresh for each run.

use crate::SECRET;
use crate::brokers::{self, Broker};
use crate::client;
use crate::process::{Process, Tells};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How long what was accepted may take to be confirmed.
const SETTLE: Duration = Duration::from_secs(180);
/// How often the relay is asked how far it is.
const ASK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Bare,
    RelayFile,
    RelayKafka,
    RelayNats,
    RelayAmqp,
    ExpressNats,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare handler",
            Self::RelayFile => "relay → file",
            Self::RelayKafka => "relay → Kafka",
            Self::RelayNats => "relay → JetStream",
            Self::RelayAmqp => "relay → RabbitMQ",
            Self::ExpressNats => "Express → JetStream",
        }
    }

    fn broker(self) -> Option<&'static str> {
        match self {
            Self::Bare | Self::RelayFile => None,
            Self::RelayKafka => Some("kafka"),
            Self::RelayNats | Self::ExpressNats => Some("nats"),
            Self::RelayAmqp => Some("rabbitmq"),
        }
    }
}

/// Where things are.
#[derive(clap::Args, Clone)]
pub(crate) struct Places {
    /// The relay's binary.
    #[arg(long, default_value = "target/release/e2b-relay")]
    pub(crate) relay: PathBuf,
    /// Folder of broker instances as tests/brokers makes them: kafka, nats and rabbitmq.
    #[arg(long)]
    pub(crate) brokers: PathBuf,
    /// Folder of the Express handler, with its packages installed.
    #[arg(long, default_value = "benches/express")]
    pub(crate) express: PathBuf,
}

/// One that runs and takes deliveries.
pub(crate) struct Subject {
    pub(crate) process: Process,
    pub(crate) url: String,
    pub(crate) broker: Option<Broker>,
    /// The relay's: where its metrics are, and the folder that it works in.
    admin: Option<String>,
    pub(crate) home: Option<tempfile::TempDir>,
}

pub(crate) async fn start(kind: Kind, places: &Places) -> anyhow::Result<Subject> {
    let broker = kind.broker().map(|name| Broker::new(&places.brokers, name));
    let unique = format!("bench{:x}", fastrand::u64(..));
    match kind {
        Kind::Bare => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("bare");
            announced(command, broker).await
        }
        Kind::ExpressNats => {
            let server = broker.as_ref().context("its broker")?.url()?;
            let mut command = Command::new("node");
            command.arg(places.express.join("server.js"));
            command.env("NATS_URL", server).env("SECRET", SECRET).env("STREAM", unique);
            command.env("NODE_ENV", "production");
            announced(command, broker).await
        }
        Kind::RelayFile => relay(&places.relay, &json!({"type": "file", "path": "./out.ndjson"}), None).await,
        Kind::RelayKafka => {
            let server = broker.as_ref().context("its broker")?.url()?;
            brokers::create_topic(&server, &unique).await?;
            relay(&places.relay, &json!({"type": "kafka", "brokers": [server], "topic": unique}), broker).await
        }
        Kind::RelayNats => {
            let stream = json!({"name": unique, "subjects": [format!("{unique}.>")], "create": true});
            let server = broker.as_ref().context("its broker")?.url()?;
            let sink = json!({"type": "nats", "servers": [server], "stream": stream,
                "subject": format!("{unique}.{{{{ type }}}}.{{{{ sandbox_id }}}}")});
            relay(&places.relay, &sink, broker).await
        }
        Kind::RelayAmqp => {
            let server = broker.as_ref().context("its broker")?.url()?;
            let sink = json!({"type": "amqp", "url": server, "exchange": unique,
                "declare": {"exchange_type": "topic", "queue": unique}});
            relay(&places.relay, &sink, broker).await
        }
    }
}

/// One that prints `listening on ADDRESS`.
async fn announced(command: Command, broker: Option<Broker>) -> anyhow::Result<Subject> {
    let address = |line: &str| line.strip_prefix("listening on ").map(str::to_owned);
    let (process, address) = Process::start(command, Tells::Stdout, address).await?;
    Ok(Subject { process, url: format!("http://{address}/webhooks/e2b"), broker, admin: None, home: None })
}

/// The relay with one sink, everything else as it is by default.
pub(crate) async fn relay(binary: &Path, sink: &Value, broker: Option<Broker>) -> anyhow::Result<Subject> {
    relay_with(binary, &json!({}), &json!({}), &json!({"out": sink}), broker).await
}

/// The same with settings of its store, further ones of its source, and whichever sinks.
pub(crate) async fn relay_with(
    binary: &Path,
    store: &Value,
    source: &Value,
    sinks: &Value,
    broker: Option<Broker>,
) -> anyhow::Result<Subject> {
    let home = tempfile::tempdir()?;
    let mut acme = json!({"webhook": {"secrets": [SECRET]}});
    if let (Some(acme), Some(further)) = (acme.as_object_mut(), source.as_object()) {
        acme.extend(further.clone());
    }
    let configuration = json!({
        "server": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0"},
        "store": store,
        "sources": {"acme": acme},
        "sinks": sinks,
    });
    // JSON is YAML.
    std::fs::write(home.path().join("e2b-relay.yaml"), configuration.to_string())?;
    let mut command = Command::new(binary.canonicalize()?);
    command.args(["--log-format", "json", "run"]).current_dir(home.path());
    let (process, (public, admin)) = Process::start(command, Tells::Stderr, addresses).await?;
    let url = format!("http://{public}/webhooks/e2b");
    Ok(Subject { process, url, broker, admin: Some(admin), home: Some(home) })
}

fn addresses(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let field = |name: &str| line.get(name).or_else(|| line.get("fields")?.get(name))?.as_str().map(str::to_owned);
    Some((field("public")?, field("admin")?))
}

impl Subject {
    /// Where the relay's metrics are.
    pub(crate) fn admin(&self) -> anyhow::Result<&str> {
        self.admin.as_deref().context("it has a page of metrics")
    }

    /// Waits until `accepted` deliveries are confirmed by the sink; what others confirm before they answer is so already.
    pub(crate) async fn settled(&self, accepted: u64) -> anyhow::Result<()> {
        let Some(admin) = &self.admin else { return Ok(()) };
        let deadline = Instant::now() + SETTLE;
        loop {
            let metrics = client::get(admin, "/metrics").await?;
            let sent = sum(&metrics, "e2b_relay_sink_sent_total{");
            if sent >= accepted {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{sent} of {accepted} are confirmed after {} s", SETTLE.as_secs());
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// Events that are accepted and not yet confirmed, as the relay counts them.
    pub(crate) async fn lag(&self) -> anyhow::Result<u64> {
        Ok(sum(&client::get(self.admin()?, "/metrics").await?, "e2b_relay_sink_lag_events{"))
    }
}

fn sum(metrics: &str, prefix: &str) -> u64 {
    let values = metrics.lines().filter(|line| line.starts_with(prefix)).filter_map(|line| line.rsplit_once(' '));
    values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}
