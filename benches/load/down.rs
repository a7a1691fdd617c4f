//! Whether the answer to the provider is as quick with every sink down as with all of them up.

use crate::brokers::{self, Broker};
use crate::client;
use crate::process;
use crate::subject::{self, Places};
use serde_json::{Value, json};

const CONNECTIONS: usize = 64;
/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: Places,
    /// Deliveries per second.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    #[arg(long, default_value = "5s")]
    duration: humantime::Duration,
    /// Of both, in turn.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    println!(
        "Open loop at {} a second, {} each, four sinks: Kafka, JetStream, RabbitMQ, file.\n",
        options.rate, options.duration
    );
    println!(
        "| sinks | accepted/s | refused | p50 ms | p99 ms | p99.9 ms | own CPU s per 100,000 |\n|---|---|---|---|---|---|---|"
    );
    for _ in 0..options.repeats {
        for up in [true, false] {
            row(up, options).await?;
        }
    }
    Ok(())
}

async fn row(up: bool, options: &Options) -> anyhow::Result<()> {
    let sinks = sinks(up, options).await?;
    let subject = subject::relay_with(&options.places.relay, &json!({}), &json!({}), &sinks, None).await?;
    let events = (options.rate * options.duration.as_secs_f64()) as usize;
    let load = client::Options {
        connections: CONNECTIONS,
        rate: Some(options.rate),
        duration: options.duration,
        ..client::Options::few(&subject.url, events)
    };
    let load = client::Load::prepare(&load)?;
    let before = process::cpu(subject.process.pid)?;
    let figures = load.send().await?;
    let spent = (process::cpu(subject.process.pid)? - before) * 100_000.0 / figures.accepted.max(1) as f64;
    println!(
        "| {} | {:.0} | {} | {:.2} | {:.2} | {:.2} | {spent:.2} |",
        if up { "all up" } else { "all down" },
        figures.per_second(),
        figures.refused,
        figures.milliseconds(0.5),
        figures.milliseconds(0.99),
        figures.milliseconds(0.999),
    );
    Ok(())
}

async fn sinks(up: bool, options: &Options) -> anyhow::Result<Value> {
    let unique = format!("bench{:x}", fastrand::u64(..));
    let stream = json!({"name": unique, "subjects": [format!("{unique}.>")], "create": true});
    let [kafka, nats, amqp, file] = if up {
        let url = |name: &'static str| Broker::new(&options.places.brokers, name).url();
        let [kafka, nats, amqp] = [url("kafka")?, url("nats")?, url("rabbitmq")?];
        brokers::create_topic(&kafka, &unique).await?;
        [kafka, nats, amqp, "./out.ndjson".to_owned()]
    } else {
        [
            NOBODY.to_owned(),
            format!("nats://{NOBODY}"),
            format!("amqp://{NOBODY}"),
            "./no-such-folder/out.ndjson".to_owned(),
        ]
    };
    Ok(json!({
        "lake": {"type": "kafka", "brokers": [kafka], "topic": unique},
        "bus": {"type": "nats", "servers": [nats], "stream": stream,
            "subject": format!("{unique}.{{{{ type }}}}.{{{{ sandbox_id }}}}")},
        "queue": {"type": "amqp", "url": amqp, "exchange": unique,
            "declare": {"exchange_type": "topic", "queue": unique}},
        "audit": {"type": "file", "path": file},
    }))
}
