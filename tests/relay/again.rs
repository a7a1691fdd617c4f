//! A daemon that is told to end, and the next one that is started at once.

use crate::support::brokers::{Broker, Kind, unique};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home, PATIENCE};
use crate::support::load::{self, Plan, SECRET};
use crate::support::oracle::{self, Got, Ledger, Remains, Terms};
use crate::support::{seed, verify};
use std::path::{Path, PathBuf};

const EVENTS: usize = 200;

/// Files and folders below `store` that were set aside.
pub(super) fn set_aside(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().contains(".bad") {
                found.push(path.clone());
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

async fn send(daemon: &Daemon, purpose: &str, ledger: &mut Ledger) {
    let webhook = daemon.webhook();
    let plan = Plan { seed: seed::random(purpose).u64(..), events: EVENTS, ..Plan::default() };
    ledger.extend(load::send(plan, move || webhook.clone()).await.ledger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_started_while_the_last_one_drains_is_told_so_and_nothing_comes_twice() {
    let broker = Broker::start(Kind::Nats).await;
    let name = unique("again");
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks:\n  bus: {{type: nats, servers: ['{}'], subject: \
         '{name}.{{{{ sandbox_id }}}}', stream: {{name: {name}, subjects: ['{name}.>'], create: true}}}}\n  audit: {{type: \
         file, path: ./audit.ndjson}}\n",
        broker.address()
    ));
    let mut ledger = Ledger::default();
    let first = home.start().await;
    send(&first, "again: before", &mut ledger).await;
    for sink in ["bus", "audit"] {
        first.until_settled(sink, EVENTS as u64).await;
    }
    // What is under way there is waited for until the drain's time is up.
    broker.pause().await;
    send(&first, "again: while one sink is down", &mut ledger).await;
    first.until_settled("audit", 2 * EVENTS as u64).await;
    first.ask_to_end();
    // As a supervisor does.
    let mut refused = 0;
    let second = loop {
        match home.spawn_quiet().outcome().await {
            Ok(second) => break second,
            Err((status, said)) => {
                let said = said.join("\n");
                assert_eq!(status.code(), Some(74), "{said}");
                assert!(said.contains("is in use by another daemon"), "{said}");
                refused += 1;
            }
        }
    };
    let aside = set_aside(&home.path().join("data"));
    broker.resume().await;
    assert!(first.ended().await.success());
    // Beside the first one all of it would be sent again.
    second.until("the rest is sent", |metrics| metrics.settled("bus") >= EVENTS as u64).await;
    for sink in ["bus", "audit"] {
        super::sinks::until_caught_up(&second, sink).await;
    }
    assert!(second.terminate().await.success());
    println!("{refused} were told that the store is in use");
    assert_eq!(aside, [] as [PathBuf; 0], "set aside, although nothing was broken");
    assert!(refused > 0, "the first one did not drain");
    let stream: Vec<Got> = tokio::time::timeout(PATIENCE, consume::jetstream(&broker.address(), &name)).await.unwrap();
    let file: Vec<Got> = consume::file(&home.path().join("audit.ndjson"));
    for (sink, got) in [("bus", stream), ("audit", file)] {
        let verdict = oracle::judge(sink, &got, &Remains::default(), &ledger, Terms::default());
        verdict.assert_kept();
        assert_eq!((verdict.acknowledged, verdict.delivered), (2 * EVENTS, 2 * EVENTS));
    }
    verify::sound(&home).await;
}
