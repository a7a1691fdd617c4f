use super::{ask, json, source};
use crate::simulate::Running;
use crate::support::daemon::Home;
use crate::support::{consume, verify};
use e2b_relay::simulator::provider::Options;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn settings(provider: &Running, filter: &str, more: &str) -> String {
    format!(
        "store: {{path: ./data{more}}}\n{}sinks: {{audit: {{type: file, path: ./audit.ndjson, filter: '{filter}'}}}}\n",
        source(provider)
    )
}

fn ids(letters: &Value) -> Vec<String> {
    letters.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_shown_retried_and_dropped() {
    let provider = Running::start(Options::default()).await;
    provider.happen(40, 600).await;
    // For a created event it fails, since a template is no number.
    let broken = "type.endsWith(\"created\") ? sandbox_template_id * 2 == 4 : true";
    let home = Home::new(&settings(&provider, broken, ""));
    let daemon = home.start().await;
    daemon.until("all are settled", |metrics| metrics.settled("audit") == 40).await;
    let list = ["dead-letters", "list", "--format", "json", "--sink", "audit"];
    let letters = json(ask(&home, &daemon, &list).await);
    let dead = ids(&letters);
    let sent: Vec<Value> = consume::file(&home.path().join("audit.ndjson"));
    assert!(dead.len() > 5 && dead.len() + sent.len() == 40, "{} and {}", dead.len(), sent.len());
    for letter in letters.as_array().unwrap() {
        let fields = ["sink", "reason", "type", "source"].map(|field| letter[field].as_str().unwrap());
        assert_eq!(fields, ["audit", "filter", "sandbox.lifecycle.created", "acme"]);
        assert!(letter["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let (code, table, _) = ask(&home, &daemon, &["dead-letters", "list"]).await;
    assert!(code == 0 && table.lines().count() == dead.len() + 1 && table.contains(&dead[0]), "{table}");
    let shown = json(ask(&home, &daemon, &["dead-letters", "show", "--sink", "audit", &dead[0]]).await);
    assert_eq!((&shown["record"]["id"], &shown["record"]["relay"]["source"]), (&shown["id"], &Value::from("acme")));

    // Nothing is better yet.
    let (code, out, err) = ask(&home, &daemon, &["dead-letters", "retry", "--sink", "audit", &dead[0], &dead[1]]).await;
    assert_eq!(code, 69, "{out}{err}");
    assert!(out.starts_with("2 dead letters: 0 sent") && err.contains("2 wait still"), "{out}{err}");
    for wrong in [&["--sink", "audit", "nobody"][..], &["--sink", "nobody", "--all"], &["--sink", "audit"]] {
        let (code, out, err) = ask(&home, &daemon, &[&["dead-letters", "retry"], wrong].concat()).await;
        assert_eq!(code, 64, "{out}{err}");
    }
    let dropped =
        json(ask(&home, &daemon, &["dead-letters", "drop", "--sink", "audit", "--format", "json", &dead[0]]).await);
    assert_eq!(dropped["dropped"], 1);

    // The operator mends the filter.
    home.configure(&settings(&provider, "true", ""));
    kill_process(Pid::from_raw(daemon.pid() as i32).unwrap(), Signal::HUP).unwrap();
    daemon
        .until("the filter is mended", |metrics| metrics.sum("config_last_reload_success_timestamp_seconds", "") > 0.0)
        .await;
    let retried = loop {
        let (code, out, _) =
            ask(&home, &daemon, &["dead-letters", "retry", "--sink", "audit", "--all", "--format", "json"]).await;
        // Until the reload is through the old filter refuses.
        if code == 0 {
            break serde_json::from_str::<Value>(&out).unwrap();
        }
    };
    assert_eq!((&retried["sent"], &retried["rejected"]), (&Value::from(dead.len() - 1), &Value::from(0)));
    assert_eq!(json(ask(&home, &daemon, &list).await), Value::Array(Vec::new()));
    assert_eq!(daemon.metrics().await.sum("sink_dead_letters", "audit"), 0.0);
    let sinks = json(ask(&home, &daemon, &["sinks", "list", "--format", "json"]).await);
    let audit = &sinks["sinks"][0];
    assert_eq!((&audit["name"], &audit["type"], &audit["up"]), (&"audit".into(), &"file".into(), &true.into()));
    assert_eq!((&audit["dead_letters"], &audit["lag_events"]), (&0.into(), &0.into()));
    assert!(daemon.terminate().await.success());

    let written: Vec<Value> = consume::file(&home.path().join("audit.ndjson"));
    let again: Vec<&str> = written[sent.len()..].iter().map(|record| record["id"].as_str().unwrap()).collect();
    let (mut again, mut expected) = (again, dead[1..].iter().map(String::as_str).collect::<Vec<_>>());
    again.sort_unstable();
    expected.sort_unstable();
    assert_eq!(again, expected, "each once, but for the one that was dropped");
    let proof = verify::sound(&home).await;
    assert_eq!(proof["sinks"][0]["dropped_by_hand"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_dead_letters_are_full_the_sink_waits_and_says_so_until_there_is_room() {
    let provider = Running::start(Options::default()).await;
    provider.happen(60, 600).await;
    let home = Home::new(&settings(&provider, "sandbox_template_id * 2 == 4", ", max_dead_letters_size: 8KiB"));
    let daemon = home.start().await;
    let is_full = |metrics: &crate::support::daemon::Metrics| {
        metrics.sum("sink_errors_total", "audit") > metrics.sum("sink_dead_letters", "audit") + 5.0
    };
    daemon.until("there is no room", is_full).await;
    let before = daemon.metrics().await;
    let (waiting, settled) = (before.sum("sink_dead_letters", "audit"), before.settled("audit"));
    assert!(waiting > 3.0 && settled < 60, "{waiting} wait, {settled} settled");
    let sinks = json(ask(&home, &daemon, &["sinks", "list", "--format", "json"]).await);
    let error = sinks["sinks"][0]["last_error"]["message"].as_str().unwrap();
    assert!(error.contains("store.max_dead_letters_size"), "{error}");
    // Room is made again and again, and in the end all have been there.
    let mut dropped = 0;
    while dropped < 60 {
        let drop = ["dead-letters", "drop", "--sink", "audit", "--all", "--format", "json"];
        dropped += json(ask(&home, &daemon, &drop).await)["dropped"].as_u64().unwrap();
    }
    daemon.until("all are settled", |metrics| metrics.settled("audit") == 60).await;
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_was_taken_out_is_shown_and_forgotten_by_hand_once_its_dead_letters_are_gone() {
    let provider = Running::start(Options::default()).await;
    provider.happen(20, 600).await;
    let both = settings(&provider, "true", "")
        .replace("sinks: {", "sinks: {old: {type: file, path: ./old.ndjson, filter: 'sandbox_template_id * 2 == 4'}, ");
    let home = Home::new(&both);
    let daemon = home.start().await;
    daemon.until("all are settled", |metrics| metrics.settled("old") == 20).await;
    let (code, _, err) = ask(&home, &daemon, &["sinks", "forget", "old"]).await;
    assert!(code == 64 && err.contains("take it out first"), "{err}");
    assert!(daemon.terminate().await.success());
    home.configure(&settings(&provider, "true", ""));
    let daemon = home.start().await;
    let shown = json(ask(&home, &daemon, &["sinks", "list", "--format", "json"]).await);
    assert_eq!(shown["sinks"].as_array().unwrap().len(), 1);
    let old = &shown["removed"][0];
    assert_eq!((&old["name"], &old["position"], &old["dead_letters"]), (&"old".into(), &20.into(), &20.into()));
    let (code, _, err) = ask(&home, &daemon, &["sinks", "forget", "old"]).await;
    assert!(code == 64 && err.contains("20 dead letters"), "{err}");
    let dropped = ask(&home, &daemon, &["dead-letters", "drop", "--sink", "old", "--all", "--format", "json"]).await;
    assert_eq!(json(dropped)["dropped"], 20);
    assert_eq!(ask(&home, &daemon, &["sinks", "forget", "old"]).await.0, 0);
    let (code, _, err) = ask(&home, &daemon, &["sinks", "forget", "old"]).await;
    assert!(code == 64 && err.contains("nothing is known"), "{err}");
    let shown = json(ask(&home, &daemon, &["sinks", "list", "--format", "json"]).await);
    assert_eq!(shown["removed"], Value::Array(Vec::new()));
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}
