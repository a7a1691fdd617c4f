//! From the first start on: made once, found again, and never in the way of deliveries.

use super::{SECRET, Scene, genuine, id, until_repairs};
use crate::simulate::KEY;
use crate::support::daemon::{Metrics, reqwest_client};
use crate::support::load;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhook_is_made_at_the_start_delivers_and_is_the_same_after_a_restart() {
    let scene = Scene::new().await;
    let daemon = scene.start().await;
    let hook = scene.until_registered().await;
    scene.deliver(&daemon, 5).await;
    let metrics = daemon.metrics().await;
    for family in ["registration_repairs_total", "registration_conflict", "foreign_webhooks"] {
        let shown = metrics.of(&format!("e2b_relay_{family}{{"));
        assert_eq!(shown, format!("e2b_relay_{family}{{source=\"acme\"}} 0"));
    }
    assert!(daemon.terminate().await.success());
    // Renamed meanwhile: still ours, by its id.
    scene.change(id(&hook), json!({"name": "somebody's"})).await;
    let daemon = scene.start().await;
    until_repairs(&daemon, 1).await;
    assert_eq!(scene.hooks().await, [hook]);
    scene.deliver(&daemon, 5).await;
    assert_eq!(daemon.metrics().await.sum("deliveries_total", "outcome=\"bad_signature\""), 0.0);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_does_not_answer_keeps_nobody_from_delivering() {
    let scene = Scene::new().await;
    // Held, which is worse than refused: the time-out has to end it.
    scene.api.allow(0);
    let daemon = scene.start().await;
    let body = load::body("0af1d0a6-6a43-4c62-8d67-1e2a1b0f9c11", "sbx", 1, true);
    let (status, answer) = load::post(&reqwest_client(), &daemon.webhook(), SECRET, &body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert!(scene.hooks().await.is_empty());
    scene.api.allow(usize::MAX);
    scene.until_registered().await;
    scene.deliver(&daemon, 5).await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_keeps_nobody_from_delivering() {
    let scene = Scene::new().await;
    let text = std::fs::read_to_string(scene.home.configuration()).unwrap();
    std::fs::write(scene.home.configuration(), text.replace(KEY, "e2b_abcdef")).unwrap();
    let daemon = scene.start().await;
    let body = load::body("0af1d0a6-6a43-4c62-8d67-1e2a1b0f9c11", "sbx", 1, true);
    let (status, answer) = load::post(&reqwest_client(), &daemon.webhook(), SECRET, &body).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let refused = |metrics: &Metrics| metrics.sum("api_requests_total", "code=\"401\",endpoint=\"webhooks\"") >= 2.0;
    daemon.until("the provider refuses", refused).await;
    assert!(scene.hooks().await.is_empty());
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_whose_answer_is_lost_makes_one_webhook() {
    let scene = Scene::new().await;
    scene.api.lose_answers(1);
    let daemon = scene.start().await;
    let hook = scene.until_registered().await;
    // It is looked for, found and taken, with the secret.
    let looked = |metrics: &Metrics| metrics.sum("api_requests_total", "code=\"200\",endpoint=\"webhooks\"") >= 5.0;
    daemon.until("it looks again", looked).await;
    assert_eq!(scene.hooks().await, std::slice::from_ref(&hook));
    assert_eq!(daemon.metrics().await.sum("registration_repairs_total", "acme"), 0.0);
    scene.deliver(&daemon, 5).await;
    daemon.kill().await;
    let daemon = scene.start().await;
    scene.deliver(&daemon, 5).await;
    assert_eq!(scene.hooks().await, [hook]);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_registered_by_hand_under_the_name_and_delivers_here_is_taken_with_its_secret() {
    let scene = Scene::new().await;
    let by_hand = scene.register("e2b-relay", &scene.url()).await;
    scene.change(id(&by_hand), json!({"signatureSecret": "what nobody knows any more, of 1998"})).await;
    let daemon = scene.start().await;
    let kept = |metrics: &Metrics| metrics.sum("api_requests_total", "code=\"200\",endpoint=\"webhooks\"") >= 4.0;
    daemon.until("it is looked at", kept).await;
    assert_eq!(scene.hooks().await, [by_hand]);
    scene.deliver(&daemon, 5).await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("deliveries_total", "outcome=\"bad_signature\""), 0.0);
    assert_eq!(metrics.sum("registration_repairs_total", "acme"), 0.0, "nobody had changed it");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_neither_delivered_nor_listed_is_found_by_the_id_of_the_registration() {
    let scene = Scene::with(Options { retries: 0, ..Options::default() }).await;
    let daemon = scene.start().await;
    let hook = scene.until_registered().await;
    scene.front.retarget("http://127.0.0.1:1");
    scene.provider.always(Fault::LostRows);
    scene.provider.happen(20, 0).await;
    daemon.until_settled("audit", 20).await;
    assert_eq!(genuine(&daemon.metrics().await), 0.0);
    let text = std::fs::read_to_string(scene.home.path().join("audit.ndjson")).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 20);
    for relay in records.iter().map(|record| &record["relay"]) {
        assert_eq!((&relay["origin"], &relay["webhook_id"]), (&json!("backfill"), &hook["id"]));
        assert!(relay["delivery_id"].is_string(), "{relay}");
    }
    assert!(daemon.terminate().await.success());
}
