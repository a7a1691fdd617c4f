//! SIGKILL under load, again and again: nothing that was acknowledged is lost, and after each the store is sound.

use super::sinks::{IN_FLIGHT, print_row, shared};
use crate::support::daemon::{Home, Metrics};
use crate::support::load::{self, Plan};
use crate::support::{seed, verify};
use std::sync::{Arc, Mutex};

/// Of one round; a worker stops at the plan's end, so that the load outlasts every round.
const EVENTS_PER_ROUND: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_that_was_acknowledged_and_leave_the_store_sound() {
    let rounds = if seed::soak() { 100 } else { 5 };
    let mut random = seed::random("kills");
    let sinks = shared().await;
    let home = Home::new(&sinks.configuration());
    let mut daemon = home.start().await;
    let webhook = Arc::new(Mutex::new(daemon.webhook()));
    let target = {
        let webhook = Arc::clone(&webhook);
        move || webhook.lock().unwrap().clone()
    };
    // The last round's events are left for the daemon that ends in good order.
    let events = (rounds + 1) * EVENTS_PER_ROUND;
    let load = tokio::spawn(load::send(Plan { events, workers: 32, insist: true, ..Plan::default() }, target));
    for round in 0..rounds {
        let at_least = random.f64() * EVENTS_PER_ROUND as f64;
        let accepted = |metrics: &Metrics| metrics.sum("events_total", "") >= at_least;
        daemon.until("a part of the round is accepted", accepted).await;
        daemon.kill().await;
        let proof = verify::sound(&home).await;
        println!("kill {round}: {} accepted, {} segments: sound", proof["accepted"], proof["segments"]);
        daemon = home.start().await;
        *webhook.lock().unwrap() = daemon.webhook();
    }
    let ledger = load.await.unwrap().ledger;
    assert_eq!(ledger.acknowledged(), events);
    sinks.until_caught_up(&daemon).await;
    assert!(daemon.terminate().await.success());
    let repeats = rounds * IN_FLIGHT;
    let verdicts = sinks.judge(&home, &ledger, [repeats, 0, repeats, repeats]).await;
    print_row("SIGKILL", rounds, &verdicts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_on_the_folder_and_a_verify_beside_it_end_with_74_and_the_reason() {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
        load::SECRET
    ));
    let daemon = home.start().await;
    let second = tokio::process::Command::new(env!("CARGO_BIN_EXE_e2b-relay"))
        .args(["run", "--config"])
        .arg(home.configuration())
        .output()
        .await
        .unwrap();
    let (code, _, verify_said) = verify::run(&home).await;
    for (code, said) in
        [(second.status.code(), String::from_utf8_lossy(&second.stderr).into_owned()), (code, verify_said)]
    {
        assert_eq!(code, Some(74), "{said}");
        assert!(said.contains("is in use by another daemon"), "{said}");
    }
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}
