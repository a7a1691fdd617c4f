//! Kills that come true, and one that does not.

use super::{Scene, text};
use crate::support::daemon::Metrics;
use crate::support::sign;
use e2b_relay::simulator::TEAM_ID;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_is_verified_and_one_that_did_not_come_true_is_told() {
    let keys = "    reconcile: {interval: 1s}\n    verify_kills: true\n    usage: true\n";
    let scene = Scene::start(Options { sandboxes: 3, ..Options::default() }, keys).await;
    scene.until_alike().await;
    let ids: Vec<String> = scene.listed().await.into_keys().collect();
    // One that is really killed, and one of which only the event says so.
    let (status, _) =
        scene.provider.send(reqwest::Method::DELETE, &format!("/sandboxes/{}", ids[0]), Value::Null).await;
    assert_eq!(status, 204);
    let event = json!({
        "id": "e7a4dd4c-3b43-4a24-a2b0-6f5bd3a0e6d1", "type": "sandbox.lifecycle.killed", "version": "v2",
        "timestamp": jiff::Timestamp::now().to_string(), "event_category": "lifecycle", "event_label": "kill",
        "sandbox_id": ids[1], "sandbox_execution_id": "x", "sandbox_template_id": "t", "sandbox_build_id": "b",
        "sandbox_team_id": TEAM_ID,
    });
    let body = event.to_string();
    let reply = crate::support::daemon::reqwest_client()
        .post(scene.daemon().webhook())
        .header("e2b-signature", sign::e2b(super::SECRET, body.as_bytes()).1)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 200);
    let told = scene.until_records("sandbox.kill_unconfirmed", 1).await;
    assert_eq!(told.len(), 1);
    assert_eq!((text(&told[0]["sandbox_id"]), &told[0]["relay"]["origin"]), (ids[1].clone(), &json!("relay")));
    assert_eq!(told[0]["event_data"], json!({"killed_event_id": event["id"], "state": "running"}));
    let counted = |metrics: &Metrics| metrics.sum("kills_unconfirmed_total", "acme") == 1.0;
    scene.daemon().until("it is counted", counted).await;
    scene.daemon().says(0, "a killed sandbox is still there").await;
    let line = scene.daemon().says(0, "sandbox verified removed").await;
    assert!(line.contains(&ids[0]), "{line}");
    // The list has the last word: it lives on.
    scene.until_alike().await;
    let bases: BTreeMap<String, Value> = scene
        .until_records("sandbox.usage", 2)
        .await
        .iter()
        .map(|usage| (text(&usage["sandbox_id"]), usage["event_data"]["basis"].clone()))
        .collect();
    assert_eq!(bases, BTreeMap::from([(ids[0].clone(), json!("execution")), (ids[1].clone(), json!("reconcile"))]));
}
