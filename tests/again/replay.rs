use super::{ask, json, source};
use crate::simulate::Running;
use crate::support::brokers::{nats, unique};
use crate::support::daemon::{Home, PATIENCE};
use crate::support::{consume, verify};
use e2b_relay::simulator::provider::Options;
use serde_json::Value;
use std::collections::BTreeMap;

/// Messages of a stream: event id, `Nats-Msg-Id`, and the replay that it is part of.
async fn stored(stream: &str) -> Vec<(String, String, Option<String>)> {
    let context = consume::jetstream_context(&nats()).await;
    let mut stream = context.get_stream(stream).await.unwrap();
    let last = stream.info().await.unwrap().state.last_sequence;
    let mut found = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let header = |name: &str| message.headers.get(name).map(ToString::to_string);
        found.push((header("e2b-event-id").unwrap(), header("Nats-Msg-Id").unwrap(), header("e2b-relay-replay")));
    }
    found
}

fn settings(provider: &Running, stream: &str) -> String {
    format!(
        "{}sinks:\n  bus: {{type: nats, servers: ['{}'], subject: '{stream}.{{{{ sandbox_id }}}}', \
         stream: {{name: {stream}, subjects: ['{stream}.>'], create: true}}}}\n",
        source(provider),
        nats()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sink_has_passed_is_sent_once_more_over_a_kill_beside_what_is_new() {
    let provider = Running::start(Options::default()).await;
    provider.happen(4_000, 6_000).await;
    let stream = unique("REPLAY");
    let home = Home::new(&settings(&provider, &stream));
    let daemon = home.start().await;
    daemon.until("all are sent", |metrics| metrics.settled("bus") == 4_000).await;
    let before = stored(&stream).await;
    assert_eq!(before.len(), 4_000);

    let only = ["replay", "--sink", "bus", "--type", "sandbox.lifecycle.created", "--format", "json"];
    let rehearsed = json(ask(&home, &daemon, &[&only[..], &["--dry-run"]].concat()).await);
    let created = rehearsed["found"].as_u64().unwrap();
    assert!(created > 100 && rehearsed["sent"] == rehearsed["found"], "{rehearsed}");
    assert_eq!(stored(&stream).await.len(), 4_000, "nothing is sent by a rehearsal");
    let done = json(ask(&home, &daemon, &only).await);
    assert_eq!((&done["sent"], &done["ended"]["cancelled"]), (&rehearsed["found"], &Value::Bool(false)));
    let again = stored(&stream).await.split_off(4_000);
    assert_eq!(again.len() as u64, created);
    for (id, message_id, replay) in again {
        assert_eq!(
            (replay.as_deref(), message_id),
            (done["id"].as_str(), format!("{id}::{}", done["id"].as_str().unwrap()))
        );
    }

    // All of it, killed in the middle; it goes on by itself, under another name, and what is repeated is known to the stream.
    let whole = json(ask(&home, &daemon, &["replay", "--sink", "bus", "--detach", "--format", "json"]).await);
    let (code, _, err) = ask(&home, &daemon, &["replay", "--sink", "bus", "--detach"]).await;
    assert!(code == 64 && err.contains("under way"), "{err}");
    daemon
        .until("some are sent", |metrics| metrics.sum("sink_sent_total", "bus") >= 4_000.0 + created as f64 + 600.0)
        .await;
    daemon.kill().await;
    home.configure(&settings(&provider, &stream).replace("  bus: {", "  coach: {renamed_from: bus, "));
    let daemon = home.start().await;
    provider.happen(50, 10).await;
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            let shown = json(ask(&home, &daemon, &["sinks", "list", "--format", "json"]).await);
            let replay = shown["sinks"][0]["replay"].clone();
            assert_eq!(replay["id"], whole["id"]);
            if !replay["ended"].is_null() {
                return replay;
            }
        }
    });
    let ended = ended.await.expect("the replay does not go on");
    assert_eq!((&ended["found"], &ended["through"]), (&Value::from(4_000), &whole["through"]));
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for (id, ..) in stored(&stream).await.iter().filter(|(.., replay)| replay.as_deref() == whole["id"].as_str()) {
        *copies.entry(id.clone()).or_default() += 1;
    }
    assert_eq!(copies.len(), 4_000);
    assert!(copies.values().all(|count| *count == 1), "within its window the stream knows each again");
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_to_a_sink_that_is_down_waits_and_can_be_cancelled() {
    let provider = Running::start(Options::default()).await;
    provider.happen(20, 600).await;
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let settings =
        format!("{}sinks: {{audit: {{type: file, path: '{}/audit.ndjson'}}}}\n", source(&provider), away.display());
    let home = Home::new(&settings);
    let daemon = home.start().await;
    daemon.until("all are sent", |metrics| metrics.settled("audit") == 20).await;
    std::fs::remove_dir_all(&away).unwrap();
    json(ask(&home, &daemon, &["replay", "--sink", "audit", "--detach", "--format", "json"]).await);
    daemon.until("it is tried", |metrics| metrics.sum("sink_errors_total", "audit") > 2.0).await;
    let cancelled = json(ask(&home, &daemon, &["replay", "--sink", "audit", "--cancel", "--format", "json"]).await);
    assert_eq!((&cancelled["sent"], &cancelled["ended"]["cancelled"]), (&0.into(), &true.into()));
    let (code, _, err) = ask(&home, &daemon, &["replay", "--sink", "audit", "--cancel"]).await;
    assert!(code == 64 && err.contains("under way"), "{err}");
    for wrong in [
        &["--sink", "nobody"][..],
        &["--sink", "audit", "--type", "["],
        &["--sink", "audit", "--since", "1h", "--until", "2h"],
    ] {
        let (code, out, err) = ask(&home, &daemon, &[&["replay"], wrong].concat()).await;
        assert_eq!(code, 64, "{out}{err}");
    }
    std::fs::create_dir(&away).unwrap();
    // Between two times, and only what the other asked for is gone.
    let until = ["replay", "--sink", "audit", "--since", "1h", "--format", "json"];
    assert_eq!(json(ask(&home, &daemon, &until).await)["sent"], 20);
    let records: Vec<Value> = consume::file(&away.join("audit.ndjson"));
    assert_eq!(records.len(), 20, "each once");
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}

/// What `replay` was asked for with `only`, as the file got it: the sequences, in order.
fn replayed(path: &std::path::Path, from: usize) -> Vec<u64> {
    let records: Vec<Value> = consume::file(path);
    let mut sequences: Vec<u64> =
        records[from..].iter().map(|record| record["relay"]["sequence"].as_u64().unwrap()).collect();
    sequences.sort_unstable();
    sequences
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_between_two_sequences_sends_those_and_no_others() {
    let provider = Running::start(Options::default()).await;
    provider.happen(40, 600).await;
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let file = away.join("audit.ndjson");
    let settings = format!("{}sinks: {{audit: {{type: file, path: '{}'}}}}\n", source(&provider), file.display());
    let home = Home::new(&settings);
    let daemon = home.start().await;
    daemon.until("all are sent", |metrics| metrics.settled("audit") == 40).await;
    let all = replayed(&file, 0);
    let records: Vec<Value> = consume::file(&file);
    let (after, through) = (all[4], all[19]);
    let wanted = &all[5..=19];
    let [after_text, through_text] = [after, through].map(|sequence| sequence.to_string());
    let between = ["--after", &after_text, "--through", &through_text, "--format", "json"];
    let replay =
        |more: &[&str]| [&["replay", "--sink", "audit"], more].concat().iter().map(|a| a.to_string()).collect();
    let ask = async |more: &[&str]| {
        let arguments: Vec<String> = replay(more);
        ask(&home, &daemon, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };

    let rehearsed = json(ask(&[&between[..], &["--dry-run"]].concat()).await);
    assert_eq!((&rehearsed["found"], &rehearsed["sent"]), (&15.into(), &15.into()));
    assert_eq!(replayed(&file, 0).len(), 40, "nothing is sent by a rehearsal");
    let done = json(ask(&between).await);
    assert_eq!(
        (&done["after"], &done["through"], &done["position"]),
        (&after.into(), &through.into(), &through.into())
    );
    assert_eq!(replayed(&file, 40), wanted, "after the one, and the other too");

    // Together with what else may be asked for.
    let created = |record: &&Value| record["type"] == "sandbox.lifecycle.created";
    let both = records.iter().filter(created).map(|record| record["relay"]["sequence"].as_u64().unwrap());
    let both: Vec<u64> = both.filter(|sequence| wanted.contains(sequence)).collect();
    assert!(!both.is_empty() && both.len() < wanted.len(), "{both:?}");
    json(ask(&[&between[..], &["--type", "sandbox.lifecycle.created", "--since", "1h"]].concat()).await);
    assert_eq!(replayed(&file, 55), both);

    // One end alone; what the sink has not passed is not looked at.
    let rest = json(ask(&["--after", &after_text, "--through", "1000000", "--dry-run", "--format", "json"]).await);
    assert_eq!(rest["found"], 35);
    let begin = json(ask(&["--through", &after_text, "--dry-run", "--format", "json"]).await);
    assert_eq!(begin["found"], 5);
    let beyond = json(ask(&["--after", &all[37].to_string(), "--through", "1000000", "--format", "json"]).await);
    assert_eq!((&beyond["sent"], &beyond["through"]), (&2.into(), &all[39].into()));
    for (after, through) in [("7", "7"), ("8", "7"), ("0", "0")] {
        let (code, _, err) = ask(&["--after", after, "--through", through]).await;
        assert!(code == 64 && err.contains(&format!("after {after} is not before through {through}")), "{code} {err}");
    }
    let (code, ..) = ask(&["--cancel", "--after", "1"]).await;
    assert_eq!(code, 64, "whoever ends one chooses nothing");

    // Killed before anything could be sent, it goes on with what it was asked for.
    std::fs::remove_dir_all(&away).unwrap();
    let begun = json(ask(&[&between[..], &["--detach"]].concat()).await);
    daemon.until("it is tried", |metrics| metrics.sum("sink_errors_total", "audit") > 0.0).await;
    daemon.kill().await;
    std::fs::create_dir(&away).unwrap();
    let daemon = home.start().await;
    daemon.until("it is sent", |metrics| metrics.sum("sink_sent_total", "audit") >= 15.0).await;
    let shown = json(super::ask(&home, &daemon, &["sinks", "list", "--format", "json"]).await);
    let replay = &shown["sinks"][0]["replay"];
    assert_eq!((&replay["id"], &replay["after"], &replay["through"]), (&begun["id"], &after.into(), &through.into()));
    assert_eq!(replayed(&file, 0), wanted);
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}
