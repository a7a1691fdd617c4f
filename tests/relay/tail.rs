//! A sink that reads the disk, then memory, then the disk again, over a large group: nothing is skipped.

use crate::support::brokers::{Broker, Kind, unique};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home, Metrics, PATIENCE, reqwest_client};
use crate::support::load::{self, Plan, SECRET};
use crate::support::oracle::{self, Answer, Got, Ledger, Remains, Terms};
use crate::support::strace::Strace;
use crate::support::{seed, verify};
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use std::collections::BTreeSet;
use std::time::Duration;

/// Most events that the store commits at once.
const GROUP: usize = 1_024;
/// How many of the newest events the store keeps in memory.
const MEMORY: usize = 4_096;
/// Each its own group, before the large one.
const SMALL: usize = 300;
/// What the stream takes before it is full, which halts the sink in a place that is decided.
const FIRST: usize = 800;
/// What the sink holds while nothing is taken.
const WINDOW: usize = 100;
/// Accepted while the broker is away for the second time: what is in memory then begins far behind the sink.
const MORE: usize = 5_200;

/// A stream that takes so many messages and no more; none is all that come.
async fn stream(broker: &Broker, name: &str, most: Option<usize>) {
    let config = Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        max_messages: most.map_or(-1, |most| most as i64),
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    let context = consume::jetstream_context(&broker.address()).await;
    match most {
        Some(_) => drop(context.create_stream(config).await.unwrap()),
        None => drop(context.update_stream(config).await.unwrap()),
    }
}

/// One delivery of a sandbox of its own; its id, and the answer's status.
async fn deliver(client: &reqwest::Client, daemon: &Daemon, id: String) -> (String, u16) {
    let body = load::body(&id, &id, 1, true);
    let (status, _) = load::post(client, &daemon.webhook(), SECRET, &body).await.expect("an answer");
    (id, status)
}

/// So many events from so many at once, each until it is accepted.
async fn send(daemon: &Daemon, purpose: &str, workers: usize, events: usize, ledger: &mut Ledger) {
    let webhook = daemon.webhook();
    let plan = Plan { seed: seed::random(purpose).u64(..), workers, events, insist: true, ..Plan::default() };
    ledger.extend(load::send(plan, move || webhook.clone()).await.ledger);
}

/// Returns once the store has written this into its journal.
async fn until_written(home: &Home, text: &str) {
    let journal = home.path().join("data/journal");
    let is_written = || {
        let files = std::fs::read_dir(&journal).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    while !is_written() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// [`GROUP`] deliveries that the store commits as one group: its writer is held in the sync of another one until all of them
/// wait.
async fn one_group(daemon: &Daemon, home: &Home, ledger: &mut Ledger) {
    // The daemon has room for the one that is held and for as many as a group takes; the others are refused at once, by which
    // it is known that the group is complete.
    const OTHERS: usize = 50;
    let held = "inject=fdatasync:delay_enter=600000000";
    let writer = Strace::of_thread(daemon, "committer", &["trace=fdatasync", held], &home.path().join("held")).await;
    let client = reqwest_client();
    let refused = |metrics: &Metrics| metrics.sum("deliveries_total", "outcome=\"overloaded\"");
    let before = refused(&daemon.metrics().await);
    let rest = async {
        // Written, and not synced: whatever comes now is of the next group.
        tokio::time::timeout(PATIENCE, until_written(home, "before-the-group")).await.expect("one is held");
        let all = (0..GROUP + OTHERS).map(|number| deliver(&client, daemon, format!("group-{number}")));
        let release = async {
            daemon.until("a whole group waits", |metrics| refused(metrics) - before == OTHERS as f64).await;
            writer.let_go().await;
        };
        tokio::join!(futures_util::future::join_all(all), release).0
    };
    let (first, mut answers) = tokio::join!(deliver(&client, daemon, "before-the-group".to_owned()), rest);
    answers.push(first);
    let mut accepted = 0;
    for (id, status) in answers {
        let answer = if status == 200 { Answer::Acknowledged } else { Answer::Rejected };
        accepted += usize::from(status == 200);
        ledger.note(&id, &id, answer);
    }
    assert_eq!(accepted, GROUP + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_twice_about_a_large_group_gets_everything() {
    let broker = Broker::start(Kind::Nats).await;
    let name = unique("tail");
    stream(&broker, &name, Some(FIRST)).await;
    broker.kill().await;
    // The sink holds the first 100, and reads 512 at once: up to 612 from the disk, with the whole group read ahead, then up to
    // 1,124 from memory. There it stays, for with 800 settled it has not yet handed over what it has read.
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks:\n  bus: {{type: nats, servers: ['{}'], subject: \
         '{name}.{{{{ sandbox_id }}}}', stream: {{name: {name}}}, max_in_flight: {WINDOW}}}\n",
        broker.address()
    ));
    let limits = [("E2B_RELAY__SERVER__MAX_IN_FLIGHT", "1025"), ("E2B_RELAY__SERVER__COMMIT_TIMEOUT", "300s")];
    let daemon = home.start_with(&limits.map(|(name, value)| (name, value.into()))).await;
    let mut ledger = Ledger::default();
    send(&daemon, "tail: small groups", 1, SMALL, &mut ledger).await;
    one_group(&daemon, &home, &mut ledger).await;
    // What is in memory begins a hundred events inside the group.
    let rest = MEMORY + 100 - (GROUP + 1);
    send(&daemon, "tail: until memory begins in the group", 32, rest, &mut ledger).await;
    broker.restart().await;
    let full = |metrics: &Metrics| {
        metrics.settled("bus") == FIRST as u64
            && metrics.sum("sink_up", "sink=\"bus\"") == 0.0
            && metrics.sum("sink_errors_total", "reason=\"rejected\",sink=\"bus\"") > 0.0
    };
    daemon.until("the stream is full", full).await;
    broker.kill().await;
    send(&daemon, "tail: while it is away", 32, MORE, &mut ledger).await;
    broker.restart().await;
    stream(&broker, &name, None).await;
    // Behind on nothing by its own account: whether that is so is not asked of it.
    let idle = |metrics: &Metrics| {
        metrics.sum("sink_lag_events", "sink=\"bus\"") == 0.0 && metrics.settled("bus") > (FIRST + MORE) as u64
    };
    daemon.until("the sink has nothing left to send", idle).await;
    let got: Vec<Got> = tokio::time::timeout(PATIENCE, consume::jetstream(&broker.address(), &name)).await.unwrap();
    assert!(daemon.terminate().await.success());
    let verdict = oracle::judge("bus", &got, &Remains::default(), &ledger, Terms::default());
    let came: BTreeSet<u64> = got.iter().map(|got| got.relay.sequence).collect();
    let all = (1..=(SMALL + GROUP + 1 + rest + MORE) as u64).filter(|sequence| !came.contains(sequence));
    let missing: Vec<u64> = all.collect();
    println!("{} are missing, from {:?} to {:?}", missing.len(), missing.first(), missing.last());
    verdict.assert_kept();
    assert_eq!(verdict.acknowledged, SMALL + GROUP + 1 + rest + MORE);
    verify::sound(&home).await;
}
