//! `sources`: what each is to do and how it is doing, as the metrics say it.

use super::{asking, deliver, event, run};
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Home, PATIENCE};
use crate::support::load::SECRET;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_says_what_it_is_to_do_and_how_it_is_doing_and_follows_what_changes() {
    let provider = Running::start(Options::default()).await;
    provider.happen(40, 600).await;
    let settings = |path: &str| {
        format!(
            "sources:\n  acme:\n    webhook: {{path: {path}, secrets: ['{SECRET}']}}\n    \
             api: {{url: '{}', api_key: {KEY}}}\n    backfill: {{interval: 200ms}}\n    \
             register: {{url: 'https://relay.example.com{path}'}}\n    redact: [event_data.sandbox_metadata.email]\n    \
             metrics: {{max_series: 3}}\n  \
             beta:\n    webhook: {{path: /beta, secrets: ['{SECRET}2', '{SECRET}3'], signature: hmac}}\n\
             sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
            provider.base
        )
    };
    let home = Home::new(&settings("/webhooks/e2b"));
    let daemon = home.start().await;
    let ask = async || {
        let mut shown = run(asking(&home, &daemon, &["sources", "--format", "json"])).await.json();
        let [acme, beta] = [0, 1].map(|index| shown["sources"][index].take());
        (acme, beta)
    };
    let until = async |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (acme, _) = ask().await;
            if is_so(&acme) {
                return acme;
            }
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}: {acme}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(deliver(&daemon, &event("e1", "sbx", &json!({}))).await, 200);
    let acme = until("it has looked, and registered", &|acme| {
        acme["backfill"]["last_poll"]["outcome"] == "ok"
            && acme["backfill"]["verified_through"].is_string()
            && acme["register"]["in_line"] == true
    });
    let acme = acme.await;
    let metrics = daemon.metrics().await;
    let recovered = metrics.sum("backfill_recovered_total", "acme");
    assert!(recovered == 40.0 && acme["backfill"]["recovered"] == recovered as u64, "{recovered}: {acme}");
    let seconds = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let same = |text: &Value, family: &str| (seconds(text) - metrics.sum(family, "acme") as i64).abs() <= 1;
    assert!(same(&acme["webhook"]["last_delivery_at"], "last_delivery_timestamp_seconds"), "{acme}");
    assert!(same(&acme["backfill"]["verified_through"], "backfill_verified_through_timestamp_seconds"), "{acme}");
    let registered: Value = provider.reply("/events/webhooks").await.json().await.unwrap();
    assert_eq!(acme["register"]["webhook_id"], registered[0]["id"], "{registered}");
    assert_eq!(acme["redact"], json!(["event_data.sandbox_metadata.email"]));
    assert_eq!(acme["metrics"], json!({"interval_seconds": 5.0, "records": true, "max_series": 3}));
    assert_eq!(acme["reconcile"], json!({"interval_seconds": 300.0, "emit": false}));
    let (_, beta) = ask().await;
    let only = json!({"path": "/beta", "signature": "hmac", "secrets": 2, "last_delivery_at": null});
    assert_eq!(beta["webhook"], only);
    for absent in ["api", "backfill", "register", "metrics", "reconcile", "team_id"] {
        assert_eq!(beta[absent], Value::Null, "{absent}");
    }
    assert!(!metrics.of("e2b_relay_last_delivery").contains("beta"), "a look makes no series");

    // What goes wrong is there in words, in the table too.
    provider.always(Fault::ServerErrors);
    let acme = until("the API fails", &|acme| acme["backfill"]["last_poll"]["outcome"] == "unavailable").await;
    assert!(acme["backfill"]["last_poll"]["problem"].as_str().is_some_and(|words| !words.is_empty()), "{acme}");
    let table = run(asking(&home, &daemon, &["sources"])).await;
    assert!(table.out.starts_with("SOURCE ") && table.out.contains("unavailable"), "{table:?}");
    let everything = run(asking(&home, &daemon, &["sources", "--format", "json"])).await.out;
    assert!(!everything.contains(SECRET) && !everything.contains(KEY), "no secret is shown");

    provider.faults.set(Fault::ServerErrors, 0.0).unwrap();
    home.configure(&settings("/other"));
    daemon.hang_up();
    let acme = until("the settings are read again", &|acme| acme["webhook"]["path"] == "/other").await;
    assert!(acme["backfill"]["verified_through"].is_string(), "what is known stays known: {acme}");
    assert!(daemon.terminate().await.success());
}
