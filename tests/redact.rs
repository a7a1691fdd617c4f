//! What is to be taken out is nowhere: not in the store, a file that a sink wrote, an answer, or the log.

use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home, Metrics, reqwest_client};
use crate::support::sign;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::path::Path;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// In deliveries of the test's own.
const CANARY: &str = "canary@example.com";
/// The simulated sandboxes' users.
const USERS: [&str; 4] = ["ada", "grace", "zoë", "linus"];

async fn deliver(daemon: &Daemon, body: &str) -> u16 {
    let (name, value) = sign::e2b(SECRET, body.as_bytes());
    let sent = reqwest_client().post(daemon.webhook()).header(name, value).body(body.to_owned()).send();
    sent.await.unwrap().status().as_u16()
}

fn event(id: &str, metadata: &Value) -> String {
    json!({
        "id": id, "type": "sandbox.lifecycle.created", "version": "v2", "timestamp": jiff::Timestamp::now(),
        "event_data": {"sandbox_metadata": metadata}, "sandbox_id": "sbx", "sandbox_team_id": "team",
    })
    .to_string()
}

/// Every file below a folder, as it is.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![(path.display().to_string(), std::fs::read(path).unwrap())],
    };
    entries.flat_map(read).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn lines(home: &Home, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(home.path().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_source_is_to_redact_is_nowhere_by_whichever_way_it_came() {
    let provider = Running::start(Options::default()).await;
    provider.happen(200, 3000).await;
    let home = Home::new(&format!(
        "sources:\n  acme:\n    webhook: {{secrets: [{SECRET}]}}\n    \
         api: {{url: '{}', api_key: {KEY}}}\n    backfill: {{lookback: 20m}}\n    reconcile: {{emit: true, interval: 1s}}\n    \
         redact: [event_data.sandbox_metadata.email, event_data.sandbox_metadata.user]\n\
         sinks:\n  all: {{type: file, path: ./all.ndjson}}\n  \
         narrow: {{type: file, path: ./narrow.ndjson, redact: [event_data.sandbox_metadata.env], \
         filter: 'event_data.sandbox_metadata.env == \"[redacted]\"'}}\n  \
         parked: {{type: file, path: ./parked.ndjson, redact: [event_data.sandbox_metadata.env], \
         filter: 'event_data.sandbox_metadata.env + 1 == 2'}}\n",
        provider.base
    ));
    // Beside the configuration's folder, so that what the daemon says is searched as well.
    let daemon = home.start().await;
    let metadata = json!({"email": CANARY, "env": "prod-7", "mail.of": {"x": CANARY.len()}});
    assert_eq!(deliver(&daemon, &event("delivered", &metadata)).await, 200);
    // Well signed and no event, once as an object, once as two.
    let malformed = event("", &metadata);
    assert_eq!(deliver(&daemon, &malformed).await, 400);
    assert_eq!(deliver(&daemon, &format!("{malformed}{malformed}")).await, 400);
    // Sandboxes from before the lookback are on the list alone.
    daemon.until("the events are read", |metrics| metrics.sum("backfill_recovered_total", "") > 20.0).await;
    // The second time it is asked, what was listed the first time is in the set.
    let is_listed = |metrics: &Metrics| metrics.sum("api_requests_total", "endpoint=\"sandboxes\"") >= 2.0;
    daemon.until("the set is compared", is_listed).await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("quarantined_total", "acme"), 1.0);
    for sink in ["all", "narrow", "parked"] {
        daemon.until("all is sent", |metrics| metrics.sum("sink_lag_events", sink) == 0.0).await;
    }
    let asked = async |path: &str| {
        let reply = reqwest_client().get(format!("http://{}{path}", daemon.admin)).send().await.unwrap();
        reply.bytes().await.unwrap().to_vec()
    };
    let answers = [asked("/api/events?limit=1000").await, asked("/api/sandboxes").await, asked("/metrics").await];
    assert!(daemon.terminate().await.success());

    let found = files(home.path());
    let in_store =
        |text: &str| found.iter().filter(|(_, bytes)| holds(bytes, text)).map(|(path, _)| path).collect::<Vec<_>>();
    let seen = answers.iter().chain(found.iter().map(|(_, bytes)| bytes));
    for bytes in seen {
        assert!(!holds(bytes, CANARY));
        assert!(USERS.iter().all(|user| !holds(bytes, &format!("\"user\":\"{user}\""))));
    }
    assert!(
        in_store("\"[redacted]\"").iter().any(|path| path.contains("quarantine")),
        "a copy without the value is kept"
    );
    assert!(
        in_store("prod-7").iter().all(|path| path.contains("journal")
            || path.contains("all.ndjson")
            || path.contains("sandboxes")
            || path.contains("quarantine")),
        "{:?}",
        in_store("prod-7")
    );

    let all = lines(&home, "all.ndjson");
    let of =
        |records: &[Value], id: &str| records.iter().find(|record| record["id"] == id).unwrap()["event_data"].clone();
    let kept = json!({"email": "[redacted]", "env": "prod-7", "mail.of": {"x": CANARY.len()}});
    assert_eq!(of(&all, "delivered")["sandbox_metadata"], kept);
    assert!(all.iter().filter(|record| record["event_data"]["sandbox_metadata"]["user"] == "[redacted]").count() > 10);
    let narrow = lines(&home, "narrow.ndjson");
    assert_eq!(of(&narrow, "delivered")["sandbox_metadata"]["env"], "[redacted]", "the filter saw that, too");
    assert!(narrow.iter().all(|record| record["event_data"]["sandbox_metadata"]["env"] == "[redacted]"));
    let parked: Vec<&String> =
        in_store("\"delivered\"").into_iter().filter(|path| path.contains("dead-letters")).collect();
    assert_eq!(parked.len(), 1, "the one that cannot be filtered is kept, without the value");
}
