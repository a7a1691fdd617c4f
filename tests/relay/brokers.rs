//! Each broker killed, paused, and cut off in the middle of a confirmation, under load: nothing is lost, nobody else
//! notices, and twice comes at most what was unconfirmed; in JetStream nothing.

use super::sinks::{IN_FLIGHT, NAMES, Sinks, print_row};
use crate::support::brokers::{self, Broker, Kind};
use crate::support::daemon::{Home, Metrics, PATIENCE};
use crate::support::load::Ongoing;
use crate::support::proxy::{Holds, Proxy};
use crate::support::seed::soak;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Before, during and after a fault each.
const EVENTS: usize = 1_500;

/// A broker of this test's own behind a proxy, and the shared ones of the other kinds.
struct Bench {
    kind: Kind,
    /// Its index in [`NAMES`].
    sink: usize,
    broker: Broker,
    proxy: Proxy,
    /// Kafka's, NATS' and RabbitMQ's address for the relay.
    addresses: [String; 3],
}

impl Bench {
    async fn new(kind: Kind) -> Self {
        let mut addresses = [brokers::kafka(), brokers::nats(), brokers::amqp()];
        let sink = [Kind::Kafka, Kind::Nats, Kind::RabbitMq].iter().position(|of| *of == kind).unwrap();
        let (broker, proxy, address) = if kind == Kind::Kafka {
            // Clients connect to where the broker says that it is.
            let proxy = Proxy::start("", Holds::Everything).await;
            let broker = Broker::start_kafka_advertising(proxy.address().port()).await;
            proxy.aim_at(&broker.address());
            let address = proxy.address().to_string();
            (broker, proxy, address)
        } else {
            let broker = Broker::start(kind).await;
            let (proxy, address) = Proxy::before(&broker.address(), Holds::Everything).await;
            (broker, proxy, address)
        };
        addresses[sink] = address;
        Self { kind, sink, broker, proxy, addresses }
    }

    /// Bytes that only a confirmation has. `name` is the topic's.
    fn confirmation(&self, name: &str) -> Vec<u8> {
        match self.kind {
            // A produce response names the topic whose records it confirms.
            Kind::Kafka => name.as_bytes().to_vec(),
            // JetStream's answer to a publish holds the sequence in the stream.
            Kind::Nats => b"\"seq\":".to_vec(),
            // A method frame's class `basic` (60), method `ack` (80): AMQP 0.9.1, 1.8.3.13.
            Kind::RabbitMq | Kind::RabbitMq4 => vec![0, 60, 0, 80],
        }
    }
}

/// What is done to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Paused,
    CutOff,
}

/// How long a broker is away, and how often it is cut off.
fn outage() -> (Duration, usize) {
    if soak() { (Duration::from_secs(30), 10) } else { (Duration::from_secs(3), 3) }
}

async fn endure(bench: &Bench, fault: Fault) {
    let [kafka, nats, amqp] = bench.addresses.clone();
    let sinks = Sinks::new(kafka, nats, amqp).await;
    let home = Home::new(&sinks.configuration());
    let daemon = home.start().await;
    let load = Ongoing::begin(&format!("{:?} {fault:?}", bench.kind), |_| json!("usual"));
    load.go_on(daemon.webhook(), EVENTS);
    let accepted = |at_least: usize| move |metrics: &Metrics| metrics.sum("events_total", "") >= at_least as f64;
    daemon.until("a part is accepted", accepted(EVENTS / 3)).await;
    let (away, cuts) = outage();
    let began = Instant::now();
    match fault {
        Fault::Killed => bench.broker.kill().await,
        Fault::Paused => bench.broker.pause().await,
        Fault::CutOff => {
            for cut in 1..=cuts {
                // The connection is up and idle again; some of the next confirmations go through.
                daemon.until_settled(NAMES[bench.sink], (EVENTS + (cut - 1) * EVENTS / 3) as u64).await;
                bench.proxy.tear(&bench.confirmation(sinks.name()), 3);
                load.go_on(daemon.webhook(), EVENTS / 3);
                let torn = bench.proxy.torn(cut as u64);
                tokio::time::timeout(PATIENCE, torn).await.unwrap_or_else(|_| panic!("no confirmation to cut: {cut}"));
            }
        }
    }
    load.go_on(daemon.webhook(), EVENTS);
    if fault != Fault::CutOff {
        // All of it is answered 200, and is with the other three, while this one is away.
        daemon.until("deliveries are accepted as ever", accepted(2 * EVENTS)).await;
        for sink in NAMES.into_iter().filter(|sink| *sink != NAMES[bench.sink]) {
            daemon.until_settled(sink, 2 * EVENTS as u64).await;
        }
        assert!(daemon.metrics().await.settled(NAMES[bench.sink]) < 2 * EVENTS as u64, "it was not away");
        tokio::time::sleep_until(began + away).await;
        match fault {
            Fault::Killed => bench.broker.restart().await,
            _ => bench.broker.resume().await,
        }
    }
    load.go_on(daemon.webhook(), EVENTS);
    let ledger = load.end().await;
    sinks.until_settled(&daemon, ledger.acknowledged() as u64).await;
    assert!(daemon.terminate().await.success());
    let mut repeats = [0; 4];
    if bench.kind != Kind::Nats {
        repeats[bench.sink] = IN_FLIGHT * if fault == Fault::CutOff { cuts } else { 1 };
    }
    let verdicts = sinks.judge(&home, &ledger, repeats).await;
    let (kind, times) = (bench.kind, if fault == Fault::CutOff { cuts } else { 1 });
    let away = if fault == Fault::CutOff { String::new() } else { format!(" for {away:?}") };
    print_row(&format!("{kind:?} {fault:?}{away}"), times, &verdicts);
}

async fn endure_all(kind: Kind) {
    let bench = Bench::new(kind).await;
    for fault in [Fault::CutOff, Fault::Paused, Fault::Killed] {
        endure(&bench, fault).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_may_be_killed_paused_and_cut_off() {
    endure_all(Kind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_may_be_killed_paused_and_cut_off() {
    endure_all(Kind::Nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_may_be_killed_paused_and_cut_off() {
    endure_all(Kind::RabbitMq).await;
}

/// Of which few fit where many small ones do.
fn large(_: usize) -> Value {
    json!("n".repeat(20_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn max_size_with_a_broker_down_is_503_until_it_is_back_and_loses_nothing() {
    let bench = Bench::new(Kind::Nats).await;
    let [kafka, nats, amqp] = bench.addresses.clone();
    let sinks = Sinks::new(kafka, nats, amqp).await;
    // The least that may be set; events of 20 kB fill it soon.
    let home = Home::new(&format!("store: {{max_size: 64MiB}}\n{}", sinks.configuration()));
    let daemon = home.start().await;
    let load = Ongoing::begin("max_size", large);
    load.go_on(daemon.webhook(), EVENTS);
    let sum = |family: &'static str, label: &'static str| move |metrics: &Metrics| metrics.sum(family, label);
    let accepted = sum("events_total", "");
    daemon.until("a part is accepted", |metrics| accepted(metrics) >= EVENTS as f64 / 3.0).await;
    bench.broker.kill().await;
    // More than fits.
    load.go_on(daemon.webhook(), 3 * EVENTS);
    let refused = sum("deliveries_total", "outcome=\"store_full\"");
    daemon.until("deliveries are refused", |metrics| refused(metrics) >= 100.0).await;
    super::full::assert_refused(&daemon, &large(0)).await;
    let before = accepted(&daemon.metrics().await);
    for sink in NAMES.into_iter().filter(|sink| *sink != NAMES[bench.sink]) {
        daemon.until_settled(sink, before as u64).await;
    }
    assert!(before < 4.0 * EVENTS as f64, "all was accepted before the store was full");
    let size = daemon.metrics().await.sum("store_size_bytes", "");
    assert!(size <= 64.0 * 1024.0 * 1024.0, "{size} bytes are more than max_size");
    bench.broker.restart().await;
    let ledger = load.end().await;
    assert_eq!(ledger.acknowledged(), 4 * EVENTS);
    sinks.until_settled(&daemon, 4 * EVENTS as u64).await;
    assert!(daemon.terminate().await.success());
    let verdicts = sinks.judge(&home, &ledger, [0; 4]).await;
    println!("max_size was reached after {before} events");
    print_row("max_size reached, NATS killed", 1, &verdicts);
}
