//! SIGKILL and SIGTERM under load, again and again: nothing that was acknowledged is lost, and after each the store is
//! sound. The kills are aimed at what the store does, and the daemon's own log says what each of them cut short.

use super::sinks::{IN_FLIGHT, print_row, shared};
use crate::support::daemon::{Home, Metrics, Spawned};
use crate::support::load::{self, Ongoing, SECRET};
use crate::support::oracle::{Answer, Ledger};
use crate::support::phases::Aim;
use crate::support::{seed, verify};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A round's load: enough that segments of 1 MiB rotate.
const EVENTS_PER_ROUND: usize = 3_000;
/// What a soak is to hit, and how often.
const PHASES: [&str; 6] = ["rotation", "day drop", "dead-lettering", "index flush", "recovery", "commit"];
const HITS: usize = 5;
/// How long a phase is waited for that is aimed at (the drain before an index flush may take 10 s), or an end.
const PATIENCE: Duration = Duration::from_secs(15);

/// One of 50 is of a kind that the sinks' filter cannot judge, which makes it a dead letter of each.
fn kind(number: usize) -> Value {
    if number.is_multiple_of(50) { json!("neither true nor false") } else { json!(true) }
}

const FILTER: &str = ", filter: event_data.sandbox_metadata.kind";

/// Segments of 1 MiB, the least. Days older than the window are dropped within a second of the start.
fn store(dedupe_window: &str) -> String {
    format!("store: {{max_size: 64MiB, dedupe_window: {dedupe_window}}}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_that_was_acknowledged_and_leave_the_store_sound() {
    let rounds = if seed::soak() { 100 } else { 5 };
    let mut random = seed::random("when to kill");
    let sinks = shared().await;
    let home = Home::new("");
    let configure = |window| home.configure(&format!("{}{}", store(window), sinks.configuration_with(FILTER)));
    let load = Ongoing::begin("kills", kind);
    let mut old = Ledger::default();
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let mut kills = 0;
    loop {
        // Each in turn, and then at any time; in the end those that were missed too often.
        let is_missed = |phase: &&str| hits.get(*phase).is_none_or(|hits| *hits < HITS);
        let missed: Vec<&str> = PHASES.into_iter().filter(is_missed).collect();
        let turns = if kills < rounds { &PHASES[..] } else { &missed[..] };
        if kills >= rounds && (!seed::soak() || missed.is_empty()) {
            break;
        }
        assert!(kills < 4 * rounds, "phases that cannot be hit: {hits:?}");
        let aim = turns.get(kills % (turns.len() + 1)).copied();
        // The day drop has its days from the rounds before.
        configure(if aim == Some("day drop") { "1d" } else { "8d" });
        let cut = kill(&home, &load, aim, &mut random, &mut old).await;
        let proof = verify::sound(&home).await;
        for phase in &cut {
            *hits.entry(phase.clone()).or_default() += 1;
        }
        let (aim, accepted) = (aim.unwrap_or("any"), &proof["accepted"]);
        println!(
            "kill {kills}: aimed at {aim}, cut short {cut:?}; {accepted} accepted, {} segments",
            proof["segments"]
        );
        kills += 1;
    }
    println!("{kills} kills: phases that were cut short {hits:?}");
    configure("8d");
    let daemon = home.start().await;
    load.top_up(daemon.webhook(), EVENTS_PER_ROUND);
    let mut ledger = load.end().await;
    ledger.extend(old);
    sinks.until_caught_up(&daemon).await;
    assert!(daemon.terminate().await.success());
    let repeats = kills * IN_FLIGHT;
    let verdicts = sinks.judge(&home, &ledger, [repeats, 0, repeats, repeats]).await;
    assert!(verdicts.iter().all(|verdict| verdict.dead_lettered > 0 && verdict.pending == 0), "{verdicts:?}");
    print_row("SIGKILL", kills, &verdicts);
}

/// One daemon's life under load: killed where it is aimed at; what that cut short.
async fn kill(
    home: &Home,
    load: &Ongoing,
    aim: Option<&'static str>,
    random: &mut fastrand::Rng,
    old: &mut Ledger,
) -> BTreeSet<String> {
    // Recovery takes tens of milliseconds, a flush several; the rest is over sooner than a kill can come late.
    let later = match aim {
        Some("recovery") => Duration::from_micros(random.u64(..50_000)),
        Some("index flush") => Duration::from_micros(random.u64(..2_000)),
        _ => Duration::ZERO,
    };
    let at_start = |aim: &str| ["recovery", "day drop"].contains(&aim);
    let (at_start, aimed) = (aim.is_some_and(at_start), aim.map(|phase| Aim { phase, later }));
    let mut daemon: Spawned = home.spawn_traced(aimed.clone().filter(|_| at_start));
    let Some(webhook) = daemon.webhook().await else { return daemon.cut_short(PATIENCE).await };
    load.top_up(webhook.clone(), EVENTS_PER_ROUND);
    if at_start {
        return daemon.cut_short(PATIENCE).await;
    }
    let daemon = daemon.ready().await;
    send_old(&webhook, random, old).await;
    let at_least = random.f64() * EVENTS_PER_ROUND as f64 / 2.0;
    let accepted = |metrics: &Metrics| metrics.sum("events_total", "") >= at_least;
    daemon.until("a part of the round is accepted", accepted).await;
    if aim == Some("index flush") {
        // When it ends in good order it puts them all on disk.
        daemon.ask_to_end();
    }
    match aimed {
        Some(aim) => daemon.kill_in(aim, PATIENCE).await,
        None => daemon.kill().await,
    }
}

/// Some events of days gone by, which are known in indexes of their own.
async fn send_old(webhook: &str, random: &mut fastrand::Rng, old: &mut Ledger) {
    let client = crate::support::daemon::reqwest_client();
    for days in 3..=7 {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
        let id = format!("old-{:016x}", random.u64(..));
        let body = load::body_of(&id, "sbx-old", 1, true, &json!(true), at);
        let answer = match load::post(&client, webhook, SECRET, &body).await {
            Some((200, _)) => Answer::Acknowledged,
            Some((503, _)) | None => Answer::Unknown,
            Some((status, answer)) => panic!("answered {status}: {answer}"),
        };
        old.note("sbx-old", &id, answer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drains_under_load_end_with_0_and_nothing_is_lost_or_sent_twice() {
    let rounds = if seed::soak() { 20 } else { 3 };
    let mut random = seed::random("when to drain");
    let sinks = shared().await;
    let home = Home::new(&sinks.configuration());
    let load = Ongoing::begin("drains", |_| json!("usual"));
    for round in 0..=rounds {
        let daemon = home.start().await;
        load.top_up(daemon.webhook(), EVENTS_PER_ROUND / 2);
        if round == rounds {
            let ledger = load.end().await;
            sinks.until_caught_up(&daemon).await;
            assert!(daemon.terminate().await.success());
            let verdicts = sinks.judge(&home, &ledger, [0; 4]).await;
            return print_row("SIGTERM", rounds, &verdicts);
        }
        let at_least = random.f64() * EVENTS_PER_ROUND as f64 / 2.0;
        let accepted = |metrics: &Metrics| metrics.sum("events_total", "") >= at_least;
        daemon.until("a part of the round is accepted", accepted).await;
        assert!(daemon.terminate().await.success(), "it does not end in good order");
        verify::sound(&home).await;
    }
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
        .kill_on_drop(true)
        .output();
    let second = tokio::time::timeout(PATIENCE, second).await.expect("it runs beside the first").unwrap();
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
