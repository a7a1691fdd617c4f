//! Webhooks, their deliveries, and the log of those.

use super::{Running, ids};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use e2b_relay::simulator::provider::Options;
use e2b_relay::simulator::{Dialect, Fate};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver};

pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Answers with `status`, and hands over what it got.
pub(super) struct Receiver {
    pub(super) url: String,
    got: UnboundedReceiver<(HeaderMap, Bytes)>,
}

impl Receiver {
    pub(super) async fn start(status: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let (sender, got) = mpsc::unbounded_channel();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            sender.send((headers, body)).expect("somebody listens");
            (StatusCode::from_u16(status).expect("a status"), "seen")
        };
        tokio::spawn(axum::serve(listener, axum::Router::new().route("/hook", post(take))).into_future());
        Self { url, got }
    }

    pub(super) async fn next(&mut self) -> (HeaderMap, Bytes) {
        let next = tokio::time::timeout(crate::support::daemon::PATIENCE, self.got.recv()).await;
        next.expect("no delivery in time").expect("the receiver ended")
    }

    pub(super) async fn next_id(&mut self) -> String {
        let body: Value = serde_json::from_slice(&self.next().await.1).expect("json");
        body["id"].as_str().expect("an id").to_owned()
    }
}

impl Running {
    async fn register(&self, url: &str, events: &[&str]) -> String {
        let body = json!({"name": "one", "url": url, "events": events, "signatureSecret": SECRET});
        let (status, hook) = self.send(Method::POST, "/events/webhooks", body).await;
        assert_eq!(status, 201, "{hook}");
        super::assert_valid("WebhookCreation", &hook);
        assert!(!hook.to_string().contains(SECRET));
        hook["id"].as_str().expect("an id").to_owned()
    }

    /// Waits for the fate of every event.
    pub(crate) async fn until_settled(&self) -> Vec<Fate> {
        let deadline = tokio::time::Instant::now() + crate::support::daemon::PATIENCE;
        loop {
            let fates: Vec<Fate> = self.ledger.entries().into_iter().map(|entry| entry.fate).collect();
            if !fates.contains(&Fate::Underway) {
                return fates;
            }
            assert!(tokio::time::Instant::now() < deadline, "not in time: {fates:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_registered_read_changed_and_deleted() {
    let provider = Running::start(Options::default()).await;
    assert_eq!(provider.get("/events/webhooks", "WebhookDetailList").await, json!([]));
    let id = provider.register("http://127.0.0.1:1/a", &["sandbox.lifecycle.killed"]).await;
    let path = format!("/events/webhooks/{id}");
    assert_eq!(ids(&provider.get("/events/webhooks", "WebhookDetailList").await, "id"), [&*id]);
    let change = json!({"enabled": false, "url": "http://127.0.0.1:1/b", "name": "two"});
    let (status, hook) = provider.send(Method::PATCH, &path, change).await;
    assert_eq!((status, &hook), (200, &provider.get(&path, "WebhookDetail").await));
    assert_eq!(
        (&hook["enabled"], &hook["name"], &hook["events"][0]),
        (&json!(false), &json!("two"), &json!("sandbox.lifecycle.killed"))
    );
    assert_eq!(provider.send(Method::DELETE, &path, Value::Null).await.0, 200);
    provider.refused(&path, 404).await;
    provider.refused("/events/webhooks/no-uuid", 400).await;
    let sound = json!({"name": "n", "url": "http://a/", "events": ["e"], "signatureSecret": SECRET});
    for (name, wrong) in
        [("name", json!("")), ("url", json!("ftp://a")), ("events", json!([])), ("signatureSecret", json!("short"))]
    {
        let mut body = sound.clone();
        body[name] = wrong;
        assert_eq!(provider.send(Method::POST, "/events/webhooks", body).await.0, 400, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_registered_gets_what_he_asked_for_signed() {
    for (dialect, header) in [(Dialect::E2b, "e2b-signature"), (Dialect::Hmac, "x-e2b-signature")] {
        let mut receiver = Receiver::start(200).await;
        let provider = Running::start(Options { dialect, ..Options::default() }).await;
        provider.register(&receiver.url, &["sandbox.lifecycle.paused"]).await;
        provider.happen(6, 60).await;
        let (headers, body) = receiver.next().await;
        let event: Value = serde_json::from_slice(&body).expect("json");
        assert_eq!(event["type"], "sandbox.lifecycle.paused");
        let expected = e2b_relay::simulator::signature_headers(dialect, &SECRET.to_owned().into(), &body);
        assert_eq!(headers[header], expected.last().expect("a signature").1);
        let fates = provider.until_settled().await;
        let others = fates.iter().filter(|fate| **fate == Fate::Unaddressed).count();
        assert_eq!((others, fates.len()), (5, 6));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_deliveries_are_retried_and_stand_in_the_log() {
    let receiver = Receiver::start(500).await;
    let provider = Running::start(Options { retry_pause: Duration::from_millis(5), ..Options::default() }).await;
    let id = provider.register(&receiver.url, &["sandbox.lifecycle.created", "sandbox.lifecycle.updated"]).await;
    provider.happen(30, 60).await;
    let given_up = Fate::GivenUp { attempts: 4, problem: "answered 500".to_owned() };
    let fates = provider.until_settled().await;
    let failed: Vec<String> = provider
        .ledger
        .entries()
        .into_iter()
        .filter(|entry| entry.fate == given_up)
        .filter_map(|entry| entry.id)
        .collect();
    assert!(failed.len() > 5 && fates.iter().all(|fate| *fate == given_up || *fate == Fate::Unaddressed));

    for order in ["false", "true"] {
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/events/webhooks/{id}/deliveries?limit=3&orderAsc={order}{cursor}");
            let page = provider.get(&path, "WebhookDeliveriesListPayload").await;
            for group in page["data"].as_array().expect("groups") {
                assert_eq!(group["attempts"].as_array().map(Vec::len), Some(4));
                let attempt = &group["attempts"][0];
                assert_eq!((&attempt["status"], &attempt["errorClass"]), (&json!("failed"), &json!("http_error")));
                assert!(!attempt["requestHeaders"].to_string().contains(&"A".repeat(43)));
                let body: Value = serde_json::from_str(attempt["requestBody"].as_str().expect("text")).expect("json");
                assert_eq!(body["id"], group["eventId"]);
            }
            listed.extend(ids(&page["data"], "eventId"));
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        listed.sort();
        let mut expected = failed.clone();
        expected.sort();
        assert_eq!(listed, expected, "each once, whatever the order");
    }
    for (filter, count) in [("deliveryStatus=success", 0), ("eventType=sandbox.lifecycle.killed", 0), ("limit=1", 1)] {
        let path = format!("/events/webhooks/{id}/deliveries?{filter}");
        assert_eq!(ids(&provider.get(&path, "WebhookDeliveriesListPayload").await["data"], "eventId").len(), count);
    }
    provider.refused(&format!("/events/webhooks/{id}/deliveries?cursor=x"), 400).await;
    let stats = provider.get(&format!("/events/webhooks/{id}/stats"), "WebhookDeliveryStats").await;
    assert_eq!((&stats["total"], &stats["failed"]), (&json!(failed.len() * 4), &json!(failed.len() * 4)));
}
