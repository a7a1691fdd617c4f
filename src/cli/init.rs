//! `init`: a working configuration with a fresh secret, and what to do next.

use super::Format;
use super::outcome::{Exit, Failure, print, print_json, program};
use crate::secret::Secret;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where records shall go; several are parted by commas, or each has a --sink.
    #[arg(long = "sink", value_name = "KIND", required = true, value_delimiter = ',')]
    sinks: Vec<Kind>,
    /// The file to write.
    #[arg(long, default_value = "e2b-relay.yaml", value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Kind {
    Kafka,
    Nats,
    Amqp,
    File,
}

impl Kind {
    /// The sink's section, and what its peer needs before the first record.
    fn section(self) -> (&'static str, &'static str) {
        match self {
            Self::Kafka => (
                "  lake:\n    type: kafka\n    brokers: [\"127.0.0.1:9092\"]\n    topic: e2b.events\n",
                "Make the topic, with as many partitions as you will have consumers:\n     kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --create --topic e2b.events --partitions 6",
            ),
            Self::Nats => (
                "  bus:\n    type: nats\n    servers: [\"nats://127.0.0.1:4222\"]\n    subject: \"e2b.{{ type }}.{{ sandbox_id }}\"\n    jetstream: true\n    stream: {name: E2B, subjects: [\"e2b.>\"], create: true}\n",
                "Start NATS with JetStream; the stream E2B is made on connecting:\n     nats-server --jetstream",
            ),
            Self::Amqp => (
                "  queue:\n    type: amqp\n    url: \"amqp://guest:guest@127.0.0.1:5672/%2f\"\n    exchange: e2b\n    routing_key: \"{{ type }}\"\n    declare: {exchange_type: topic, queue: e2b-events}\n",
                "Put your RabbitMQ into `url`; exchange and queue are declared on connecting.",
            ),
            Self::File => (
                "  audit:\n    type: file\n    path: ./events.ndjson\n",
                "Records are appended to events.ndjson beside the configuration, one to a line.",
            ),
        }
    }
}

impl Kind {
    /// How one sees records there, with the peer's own tools.
    fn reader(self) -> &'static str {
        match self {
            Self::Kafka => {
                "kafka-console-consumer.sh --bootstrap-server 127.0.0.1:9092 --topic e2b.events --from-beginning"
            }
            Self::Nats => "nats sub 'e2b.>'",
            Self::Amqp => "amqp-consume --queue e2b-events cat",
            Self::File => "tail -f events.ndjson",
        }
    }
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    // Longer than the 32 characters that E2B's dashboard asks for.
    let secret = Secret::fresh().map_err(|error| Failure::new(Exit::Io, format_args!("a fresh secret: {error}")))?;
    let kinds: BTreeSet<Kind> = options.sinks.iter().copied().collect();
    let (sections, peers): (Vec<_>, Vec<_>) = kinds.iter().map(|kind| kind.section()).unzip();
    write(&options.output, &configuration(secret.expose(), &sections.concat()), options.force)?;
    match options.format {
        Format::Text => {
            let ways: Vec<_> = kinds.iter().map(|kind| kind.reader()).collect();
            print(next_steps(&options.output, &peers.join("\n     "), &ways.join("\n     ")))
        }
        Format::Json => print_json(&json!({"config": options.output.display().to_string()})),
    }
}

fn configuration(secret: &str, sink: &str) -> String {
    format!(
        "# The configuration of e2b-relay. It holds a secret: keep it to yourself.\n\
         # Every key: config/e2b-relay.yaml in the source; check it with: e2b-relay check\n\
         server:\n  listen: 0.0.0.0:8080\nstore:\n  path: ./data\nsources:\n  e2b:\n    webhook:\n      \
         # The same text is the webhook's signatureSecret at E2B.\n      secrets: [\"{secret}\"]\nsinks:\n{sink}"
    )
}

/// Writes a file that only its owner can read; a new one beside it takes the place of an old one in one step, so that
/// neither its mode nor a half-written text is ever seen.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Io, format_args!("{}: {error}", path.display()));
    let target = if force { path.with_extension(format!("{}.new", std::process::id())) } else { path.to_owned() };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target).map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            Failure::new(Exit::Io, format_args!("{} is there already; replace it with --force", path.display()))
        } else {
            failed(error)
        }
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    if force {
        std::fs::rename(&target, path).map_err(failed)?;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn next_steps(path: &Path, peers: &str, readers: &str) -> String {
    let (file, program) = (path.display(), program());
    format!(
        r#"Wrote {file} with a fresh secret.

Next:
  1. {peers}
  2. Check it:
     {program} check --connect --config {file}
  3. Start the relay:
     {program} run --config {file}
  4. Read what it sends, in a second shell:
     {readers}
     and send it an event of your own making, in a third:
     {program} trigger created --config {file}
  5. Make it reachable for E2B. On a laptop a tunnel does, for example:
     cloudflared tunnel --url http://127.0.0.1:8080
  6. Register the webhook at E2B, with your API key in E2B_API_KEY and the address that the tunnel printed. The relay does
     it by itself, and keeps it so, with two more lines below `e2b:` in {file} and a restart:
         api: {{}}
         register: {{url: "https://YOUR-ADDRESS/webhooks/e2b"}}
     By hand it is:
     secret=$(sed -n 's/^ *secrets: \["\(.*\)"\]$/\1/p' {file})
     curl https://api.e2b.app/events/webhooks -H "X-API-Key: $E2B_API_KEY" -H 'Content-Type: application/json' \
       -d '{{"name": "e2b-relay", "url": "https://YOUR-ADDRESS/webhooks/e2b", "enabled": true, "signatureSecret": "'"$secret"'",
            "events": ["sandbox.lifecycle.created", "sandbox.lifecycle.updated", "sandbox.lifecycle.paused",
                       "sandbox.lifecycle.resumed", "sandbox.lifecycle.checkpointed", "sandbox.lifecycle.killed"]}}'
"#
    )
}
