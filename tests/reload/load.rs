//! Reloads under load: each renames one sink, changes another and rotates the secret.

use super::{deliver, reload};
use crate::relay::sinks::{NAMES, print_row, shared};
use crate::support::daemon::{Home, reqwest_client};
use crate::support::load::{Ongoing, SECRET, Secret};
use crate::support::oracle::{self, Terms};
use crate::support::{seed, verify};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two reloads.
const EVENTS_PER_ROUND: usize = 2_000;

/// What the sinks are called, and how they are set, after so many reloads: each time one has a new name, and the one after
/// it is changed.
fn configuration(sinks: &crate::relay::sinks::Sinks, round: usize, secrets: [&str; 2]) -> (String, [String; 4]) {
    let name_of = |index: usize, round: usize| {
        // It was renamed in rounds index + 1, index + 5, …
        match (round + 3).checked_sub(index).map(|since| since / 4) {
            Some(0) | None => NAMES[index].to_owned(),
            Some(times) => format!("{}_{times}", NAMES[index]),
        }
    };
    let names: [String; 4] = std::array::from_fn(|index| name_of(index, round));
    let keys: [String; 4] = std::array::from_fn(|index| {
        let before = (1..=round).rev().map(|round| name_of(index, round - 1)).find(|before| *before != names[index]);
        let renamed = before.map(|before| format!(", renamed_from: {before}")).unwrap_or_default();
        // Changed in rounds index, index + 4, …
        let changed = 900 + (round + 4 - index) / 4;
        format!(", max_in_flight: {changed}{renamed}")
    });
    let secrets = json!(secrets);
    let text = sinks.configuration_named(
        &format!("{{acme: {{webhook: {{secrets: {secrets}}}}}}}"),
        names.each_ref(),
        keys.each_ref().map(String::as_str),
    );
    (text, names)
}

/// Looks at the positions again and again: under whatever name, none of them ever goes back. Returns how often each was
/// seen to move.
async fn watch_positions(admin: String, mut over: tokio::sync::watch::Receiver<bool>) -> BTreeMap<String, usize> {
    let (client, mut last, mut moved) = (reqwest_client(), BTreeMap::new(), BTreeMap::new());
    while !*over.borrow() {
        let view = client.get(format!("http://{admin}/api/sinks")).send().await.unwrap();
        let view: Value = view.json().await.unwrap();
        for sink in view["sinks"].as_array().unwrap() {
            let (name, position) = (sink["name"].as_str().unwrap(), sink["position"].as_u64().unwrap());
            let first_name = name.split('_').next().unwrap().to_owned();
            let before = last.insert(first_name.clone(), position).unwrap_or(0);
            assert!(position >= before, "{name} went back from {before} to {position}");
            *moved.entry(first_name).or_default() += usize::from(position > before);
        }
        let _ = tokio::time::timeout(Duration::from_millis(20), over.wait_for(|over| *over)).await;
    }
    moved
}

fn secret(round: usize) -> String {
    format!("{SECRET}, rotated {round} times")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_refuse_nothing_lose_nothing_and_send_nothing_twice() {
    let rounds = if seed::soak() { 100 } else { 10 };
    let sinks = shared().await;
    let (text, mut names) = configuration(&sinks, 0, [&secret(0), &secret(1)]);
    let home = Home::new(&text);
    let daemon = home.start().await;
    let rotating = Secret::default();
    rotating.rotate(&secret(0)).await;
    let load = Ongoing::signed("reloads", |_| json!("usual"), rotating.clone());
    let (over, until) = tokio::sync::watch::channel(false);
    let watching = tokio::spawn(watch_positions(daemon.admin.clone(), until));
    let mut tried = 0.0;
    for round in 1..=rounds {
        load.top_up(daemon.webhook(), EVENTS_PER_ROUND);
        let so_far = daemon.metrics().await.sum("events_total", "");
        daemon.until("a part of the round is accepted", |m| m.sum("events_total", "") > so_far + 200.0).await;
        // What is under way was signed with the old one; when this returns nothing is.
        rotating.rotate(&secret(round)).await;
        let before = std::mem::take(&mut names);
        let (text, now) = configuration(&sinks, round, [&secret(round), &secret(round + 1)]);
        names = now;
        home.configure(&text);
        let (mut begun, gone) = reload(&daemon).await;
        begun.sort();
        let renamed = (round - 1) % 4;
        let mut expected = vec![names[renamed].clone(), names[round % 4].clone()];
        expected.sort();
        assert_eq!((begun, gone), (expected, vec![before[renamed].clone()]), "round {round}");
        let old = deliver(&daemon, "/webhooks/e2b", &secret(round - 1), "with the old secret").await;
        assert_eq!(old, 401, "the old secret is taken still, after reload {round}");
        tried += 1.0;
    }
    let ledger = load.end().await;
    for name in &names {
        let label = format!("sink=\"{name}\"");
        daemon.until(&format!("{name} catches up"), |m| m.sum("sink_lag_events", &label) == 0.0).await;
    }
    over.send_replace(true);
    let moved = watching.await.unwrap();
    assert!(NAMES.iter().all(|name| moved[*name] >= rounds / 2), "{moved:?}");
    let metrics = daemon.metrics().await;
    let of = |outcome: &str| metrics.sum("deliveries_total", &format!("outcome=\"{outcome}\""));
    assert_eq!(of("bad_signature"), tried, "only what was to be refused");
    let answered = of("accepted") + of("bad_signature");
    assert_eq!(metrics.sum("deliveries_total", ""), answered, "{}", metrics.of("e2b_relay_deliveries"));
    assert!(daemon.terminate().await.success());

    let proof = verify::sound(&home).await;
    let got = sinks.records(&home).await;
    let verdicts: [_; 4] = std::array::from_fn(|index| {
        let remains = verify::remains(&home, &proof, &names[index]);
        let verdict = oracle::judge(&names[index], &got[index], &remains, &ledger, Terms::default());
        verdict.assert_kept();
        assert_eq!(verdict.delivered, ledger.acknowledged(), "{verdict:?}");
        verdict
    });
    print_row("SIGHUP", rounds, &verdicts);
}
