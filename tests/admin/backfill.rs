//! `backfill`: a sweep by hand, at a daemon that makes none by itself.

use super::{Ran, asking, home, run};
use crate::simulate::Running;
use crate::support::consume;
use crate::support::daemon::{Daemon, Home, Metrics};
use crate::support::forward::Forwarder;
use crate::support::oracle::{self, Answer, Ledger, Remains, Terms};
use crate::support::verify;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::process::Stdio;

const DAY: usize = 86_400;

async fn backfill(home: &Home, daemon: &Daemon, arguments: &[&str]) -> Ran {
    run(asking(home, daemon, &[&["backfill", "--format", "json"], arguments].concat())).await
}

fn counts(tally: &Value) -> [u64; 4] {
    ["found", "new", "known", "too_old"].map(|name| tally[name].as_u64().unwrap())
}

/// Ends the daemon, and holds store and file to what the provider told; how many there are.
async fn judge(home: &Home, daemon: Daemon, provider: &Running, terms: Terms) -> usize {
    daemon.until("the file has all", |metrics| metrics.sum("sink_lag_events", "audit") == 0.0).await;
    assert!(daemon.terminate().await.success());
    verify::sound(home).await;
    let mut ledger = Ledger::default();
    for entry in provider.ledger.entries() {
        ledger.note(&entry.sandbox_id, &entry.id.unwrap(), Answer::Acknowledged);
    }
    let got = consume::file(&home.path().join("audit.ndjson"));
    let verdict = oracle::judge("audit", &got, &Remains::default(), &ledger, terms);
    verdict.assert_kept();
    verdict.delivered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_comes_by_one_command_and_nothing_comes_by_the_next() {
    let provider = Running::start(Options::default()).await;
    provider.happen(730, 3600).await;
    let home = home(&provider);
    let daemon = home.start().await;
    assert_eq!(daemon.metrics().await.sum("backfill_polls_total", ""), 0.0, "it is disabled");

    let first = backfill(&home, &daemon, &[]).await.json();
    assert_eq!(counts(&first), [730, 730, 0, 0], "{first}");
    assert_eq!((first["pages"].as_u64(), first["calls"].as_u64()), (Some(8), Some(8)), "{first}");
    let second = backfill(&home, &daemon, &[]).await.json();
    // From the cursor, less the overlap of ten minutes.
    assert!(second["new"] == 0 && (100..200).contains(&second["known"].as_u64().unwrap()), "{second}");
    let third = backfill(&home, &daemon, &["--since", "7d", "--source", "acme"]).await.json();
    assert_eq!(counts(&third), [730, 0, 730, 0], "{third}");

    provider.happen(3, 0).await;
    let text = run(asking(&home, &daemon, &["backfill", "--since", "7d"])).await;
    assert!(text.out.starts_with("733 events found: 3 new, 730 known already, 0 too old"), "{text:?}");
    assert_eq!(daemon.metrics().await.sum("backfill_recovered_total", "acme"), 733.0);
    assert_eq!(judge(&home, daemon, &provider, Terms::default()).await, 733);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sandbox_s_list_is_taken_alone_and_hides_nothing_from_the_next_sweep() {
    let provider = Running::start(Options::default()).await;
    provider.happen(400, 3600).await;
    let sandbox = provider.ledger.entries()[0].sandbox_id.clone();
    let own = provider.ledger.entries().iter().filter(|entry| entry.sandbox_id == sandbox).count() as u64;
    let home = home(&provider);
    let daemon = home.start().await;
    let one = backfill(&home, &daemon, &["--sandbox", &sandbox]).await.json();
    assert_eq!(counts(&one), [own, own, 0, 0], "{one}");
    assert_eq!(counts(&backfill(&home, &daemon, &["--sandbox", "nobody"]).await.json()), [0, 0, 0, 0]);
    // The latest half hour; the cursor must not take it for everything.
    let half = backfill(&home, &daemon, &["--since", "30m"]).await.json();
    assert!((150..=210).contains(&half["found"].as_u64().unwrap()), "{half}");
    let all = backfill(&home, &daemon, &[]).await.json();
    assert_eq!(all["found"], 400, "{all}");
    // The newest were asked for first.
    assert_eq!(judge(&home, daemon, &provider, Terms { unordered: true, ..Terms::default() }).await, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_dedupe_window_it_is_refused_unless_duplicates_are_allowed() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(300, 3 * DAY, 20 * DAY).await;
    provider.happen(100, 3600).await;
    let home = home(&provider);
    let daemon = home.start().await;
    let refused = backfill(&home, &daemon, &["--since", "30d"]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(64), ""), "{refused:?}");
    let times = refused.err.matches("T").count();
    assert!(
        refused.err.contains("--allow-duplicates") && refused.err.contains("dedupe_window") && times >= 2,
        "{refused:?}"
    );
    let useless = backfill(&home, &daemon, &["--allow-duplicates"]).await;
    assert!(useless.code == Some(64) && useless.err.contains("`since`"), "{useless:?}");

    let young = backfill(&home, &daemon, &["--since", "8d"]).await.json();
    assert_eq!(counts(&young), [100, 100, 0, 0], "{young}");
    let old = backfill(&home, &daemon, &["--since", "30d", "--allow-duplicates"]).await.json();
    assert_eq!(counts(&old), [400, 300, 100, 0], "{old}");
    // Over a restart, too: the journal still has them.
    assert!(daemon.terminate().await.success());
    let daemon = home.start().await;
    let again = backfill(&home, &daemon, &["--since", "30d", "--allow-duplicates"]).await.json();
    assert_eq!(counts(&again), [400, 0, 400, 0], "{again}");
    // Once asked for, it holds for that command alone.
    provider.happen_ago(5, 60, 10 * DAY).await;
    let strict = backfill(&home, &daemon, &[]).await.json();
    assert_eq!(strict["new"], 0, "{strict}");
    let rest = backfill(&home, &daemon, &["--since", "12d", "--allow-duplicates"]).await.json();
    assert_eq!(rest["new"], 5, "{rest}");
    daemon.until("the file has all", |metrics| metrics.sum("sink_lag_events", "audit") == 0.0).await;
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
    let got: Vec<oracle::Got> = consume::file(&home.path().join("audit.ndjson"));
    let mut ids: Vec<String> = got.into_iter().map(|got| got.id).collect();
    let mut told = provider.told();
    ids.sort();
    told.sort();
    assert_eq!(ids, told, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_and_asked_again_nothing_is_missing() {
    let provider = Running::start(Options::default()).await;
    provider.happen(2_000, 3000).await;
    let home = home(&provider);
    let mut cut = 0;
    for part in [1.0, 500.0, 1_200.0] {
        let daemon = home.start().await;
        let asked =
            asking(&home, &daemon, &["backfill"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let known = |metrics: &Metrics| {
            metrics.sum("events_total", "backfill") >= part
                || metrics.sum("backfill_verified_through_timestamp_seconds", "") > 0.0
        };
        daemon.until("a part is accepted", known).await;
        daemon.kill().await;
        let ended = asked.wait_with_output().await.unwrap();
        cut += usize::from(ended.status.code() == Some(69));
    }
    println!("{cut} of 3 kills while the sweep was under way");
    assert!(cut > 0);
    let daemon = home.start().await;
    let last = backfill(&home, &daemon, &["--since", "3h"]).await.json();
    assert_eq!(last["found"], 2_000, "{last}");
    assert_eq!(judge(&home, daemon, &provider, Terms { repeats: 3 * 1_000, ..Terms::default() }).await, 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_ends_says_so_and_a_command_that_goes_away_ends_its_sweep() {
    let provider = Running::start(Options::default()).await;
    provider.happen(1_000, 3000).await;
    let gate = Forwarder::start(&provider.base).await;
    let home = Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{}', api_key: {}}}, backfill: {{enabled: false, lookback: 3h}}}}}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
        gate.url,
        crate::simulate::KEY
    ));
    let daemon = home.start().await;
    gate.allow(3);
    let mut gone = asking(&home, &daemon, &["backfill"]).spawn().unwrap();
    gate.until_held().await;
    gone.kill().await.unwrap();
    // The next one begins at the first page though the provider has not answered yet: the abandoned one has ended.
    let asked = asking(&home, &daemon, &["backfill"]).stderr(Stdio::piped()).spawn().unwrap();
    gate.until_asked(5).await;
    assert!(gate.asked()[4].contains("offset=0&"), "{:?}", gate.asked());
    daemon.ask_to_end();
    let ended = asked.wait_with_output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(69) && said.contains("the daemon ends"), "{said}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_fails_is_told_by_its_cause_and_several_sources_by_their_names() {
    let provider = Running::start(Options::default()).await;
    let home = Home::new(&format!(
        "sources:\n  acme: {{api: {{url: '{0}', api_key: e2b_wrong}}, backfill: {{enabled: false}}}}\n  \
         beta: {{api: {{url: '{0}', api_key: {1}}}, backfill: {{enabled: false}}}}\n  \
         gamma: {{webhook: {{path: /g, secrets: [0123456789abcdef0123456789abcdef]}}}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
        provider.base,
        crate::simulate::KEY
    ));
    let daemon = home.start().await;
    for (arguments, code, words) in [
        (&[][..], 64, &["acme", "beta"][..]),
        (&["--source", "gamma"], 64, &["acme", "beta"]),
        (&["--source", "nobody"], 64, &["acme", "beta"]),
        (&["--source", "acme"], 69, &["refuses the key of `sources.acme.api.api_key`"]),
        (&["--source", "beta"], 0, &[]),
        (&["--source", "beta", "--sandbox", ""], 64, &["sandbox_id"]),
    ] {
        let ran = backfill(&home, &daemon, arguments).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(words.iter().all(|word| ran.err.contains(word)), "{arguments:?}: {ran:?}");
    }
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_is_lines_of_json_for_whoever_has_no_command() {
    let provider = Running::start(Options::default()).await;
    provider.happen(10, 60).await;
    let home = home(&provider);
    let daemon = home.start().await;
    let token = std::fs::read_to_string(super::token_file(&home)).unwrap();
    let reply = crate::support::daemon::reqwest_client()
        .post(format!("http://{}/api/backfill", daemon.admin))
        .bearer_auth(token.trim_end())
        .json(&json!({"source": "acme", "since": "2h"}))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.headers()["content-type"], "application/x-ndjson");
    let text = reply.text().await.unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["result"]["new"], 10, "{text}");
    assert!(daemon.terminate().await.success());
}
