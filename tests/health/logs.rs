//! The log of the real daemon: which lines, with which fields, how many, and what is never in it.

use crate::relay::sinks::Sinks;
use crate::reload::reload;
use crate::simulate::Running;
use crate::support::brokers;
use crate::support::daemon::{Daemon, Home, reqwest_client};
use crate::support::sign;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};

const SECRET: &str = "c4n4ry-secret-0123456789abcdef-0123456789";
const API_KEY: &str = crate::simulate::KEY;
const CANARY: &str = "c4n4ry-in-a-body";

fn event(id: &str) -> String {
    json!({
        "id": id, "type": "sandbox.lifecycle.created", "version": "v2", "timestamp": jiff::Timestamp::now(),
        "event_data": {"sandbox_metadata": {"note": CANARY, "number": CANARY}}, "sandbox_id": "sbx",
    })
    .to_string()
}

async fn deliver(daemon: &Daemon, headers: &[sign::Header], body: &str) -> u16 {
    let mut request = reqwest_client().post(daemon.webhook()).header("e2b-delivery-id", "delivery-7");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    request.body(body.to_owned()).send().await.unwrap().status().as_u16()
}

async fn level(home: &Home, daemon: &Daemon, level: &str) -> u16 {
    let token = std::fs::read_to_string(home.path().join("data/admin-token")).unwrap();
    let change = reqwest_client().post(format!("http://{}/api/log-level", daemon.admin)).bearer_auth(token.trim());
    change.json(&json!({"level": level})).send().await.unwrap().status().as_u16()
}

fn configuration() -> String {
    format!(
        "sources: {{acme: {{webhook: {{secrets: [{SECRET}]}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    )
}

#[tokio::test]
async fn what_is_refused_is_told_in_lines_that_can_be_looked_for_and_not_each_time() {
    let home = Home::new(&configuration());
    let daemon = home.start().await;
    let body = event("one");
    let signed = |body: &str| sign::e2b(SECRET, body.as_bytes());
    for _ in 0..3 {
        assert_eq!(deliver(&daemon, &[], &body).await, 401);
        assert_eq!(deliver(&daemon, &[signed("no event")], "no event").await, 400);
    }
    let line = |text: &str| {
        let lines = daemon.log();
        let found: Vec<Value> =
            lines.iter().filter(|line| line.contains(text)).map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found.len(), 1, "{text}: {lines:#?}");
        found[0].clone()
    };
    daemon.says(0, "missing signature").await;
    daemon.says(0, "invalid payload").await;
    for (text, error) in [("missing signature", "no signature"), ("invalid payload", "not JSON at byte 0")] {
        let line = line(text);
        let fields = ["source", "delivery_id", "error", "suppressed", "level"].map(|name| line[name].clone());
        assert_eq!(fields, [json!("acme"), json!("delivery-7"), json!(error), json!(0), json!("WARN")], "{line}");
    }

    // A receiver of its own, since these lines share one pace.
    let second = Home::new(&configuration()).start().await;
    assert_eq!(deliver(&second, &[sign::e2b("another secret of 32 bytes or more", body.as_bytes())], &body).await, 401);
    let said: Value = serde_json::from_str(&second.says(0, "invalid signature").await).unwrap();
    assert_eq!([&said["source"], &said["error"], &said["delivery_id"]], ["acme", "wrong signature", "delivery-7"]);
}

#[tokio::test]
async fn how_much_is_said_changes_while_it_runs() {
    let home = Home::new(&configuration());
    let daemon = home.start().await;
    const SAID: &str = "the configuration is being read again";
    let count = |text: &str| daemon.log().iter().filter(|line| line.contains(text)).count();
    reload(&daemon).await;
    assert_eq!(count(SAID), 1);

    assert_eq!(level(&home, &daemon, "error").await, 200);
    daemon.says(0, "the log's level is changed").await;
    let before = daemon.metrics().await.sum("config_last_reload_success_timestamp_seconds", "");
    daemon.hang_up();
    daemon
        .until("it is read again", |metrics| metrics.sum("config_last_reload_success_timestamp_seconds", "") > before)
        .await;
    assert_eq!(level(&home, &daemon, "trace").await, 200);
    reload(&daemon).await;
    assert_eq!(count(SAID), 2, "nothing was said at `error`");
    assert_eq!(count("the log's level is changed"), 2);

    for (wanted, status) in [("loud", 400), ("3", 400), ("INFO", 400), ("info", 200)] {
        assert_eq!(level(&home, &daemon, wanted).await, status, "{wanted}");
    }
    let shown = reqwest_client().get(format!("http://{}/api/log-level", daemon.admin)).send().await.unwrap();
    assert_eq!(shown.json::<Value>().await.unwrap(), json!({"level": "info"}));
    let nobody = reqwest_client().post(format!("http://{}/api/log-level", daemon.admin)).json(&json!({"level": "off"}));
    assert_eq!(nobody.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn no_secret_and_no_body_is_in_it_at_whatever_level() {
    let provider = Running::start(Options::default()).await;
    let sinks = Sinks::new(brokers::kafka(), brokers::nats(), brokers::amqp()).await;
    let sources = format!(
        "{{acme: {{webhook: {{secrets: [{SECRET}]}}, api: {{url: '{}', api_key: {API_KEY}}}}}}}",
        provider.base
    );
    // Each event is one that this one cannot take.
    let parked = "  parked: {type: file, path: ./parked.ndjson, filter: 'event_data.sandbox_metadata.number > 1'}\n";
    let home = Home::new(&format!("{}{parked}", sinks.configuration_of(&sources, "")));
    let daemon = home.start().await;
    assert_eq!(level(&home, &daemon, "trace").await, 200);
    let body = event("one");
    for (secret, body, status) in [
        (SECRET, body.clone(), 200),
        (SECRET, body.clone(), 200),
        (&SECRET[1..], body.clone(), 401),
        (SECRET, format!("{{\"{CANARY}\": {CANARY}}}"), 400),
        (SECRET, body.replace("\"one\"", &format!("\"{}\"", "x".repeat(300))), 400),
        (SECRET, body.replace("sbx", "s\\u0000"), 400),
    ] {
        assert_eq!(deliver(&daemon, &[sign::e2b(secret, body.as_bytes())], &body).await, status, "{body}");
    }
    sinks.until_caught_up(&daemon).await;
    daemon.until("a dead letter", |metrics| metrics.sum("sink_dead_letters", "parked") >= 1.0).await;
    reload(&daemon).await;
    daemon.ask_to_end();
    let log = daemon.log();
    daemon.says(0, "a record became a dead letter").await;
    let all = [log, daemon.log()].concat().join("\n");
    assert!(all.contains("\"event_id\":\"one\""), "{all}");
    let token = std::fs::read_to_string(home.path().join("data/admin-token")).unwrap();
    for hidden in [CANARY, SECRET, &SECRET[1..], API_KEY, token.trim()] {
        assert!(!all.contains(hidden), "{hidden} is in the log");
    }
}

/// One fact has one name in all lines.
#[test]
fn the_fields_have_the_same_names_everywhere() {
    let mut calls = 0;
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(&entry).unwrap();
            for call in text.split("tracing::").skip(1) {
                if !["error!(", "warn!(", "info!(", "debug!("].iter().any(|begin| call.starts_with(begin)) {
                    continue;
                }
                calls += 1;
                let call = call.split(");").next().unwrap();
                for other in [
                    "sandbox =",
                    ", %sandbox,",
                    "(%sandbox,",
                    "event =",
                    "sink_name",
                    "err =",
                    "{error",
                    "{cut}",
                    "{said}",
                    "{refused}",
                ] {
                    assert!(!call.contains(other), "{}: `{other}` in {call}", entry.display());
                }
            }
        }
    }
    assert!(calls > 50, "the lines were not found: {calls}");
}
