//! The client and the simulated provider, which share no struct and no line: what one says, the other understands.

use super::api_at;
use crate::simulate::Running;
use e2b_relay::decode;
use e2b_relay::e2b::{DeliveryQuery, NewWebhook, WebhookChange};
use e2b_relay::simulator::provider::Options;
use e2b_relay::simulator::{Fault, Shape};
use std::collections::BTreeSet;
use std::time::Duration;

fn all() -> Vec<String> {
    ["created", "updated", "paused", "resumed", "checkpointed", "killed"]
        .map(|kind| format!("sandbox.lifecycle.{kind}"))
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_listed_and_understood_in_every_shape() {
    for (shape, wrap_events) in [(None, false), (Some(Shape::V1), false), (Some(Shape::V2), true)] {
        let provider = Running::start(Options { shape, wrap_events, ..Options::default() }).await;
        provider.happen(250, 3600).await;
        let (api, _) = api_at(&provider.base);
        let mut listed = Vec::new();
        for offset in [0, 100, 200] {
            let answer = api.events(offset, 100).await.unwrap();
            let skew = answer.date.unwrap().duration_since(jiff::Timestamp::now()).abs();
            assert!(skew < jiff::SignedDuration::from_secs(30), "{skew}");
            listed.extend(answer.value.events.iter().map(|raw| decode::listed(raw).unwrap().event.id));
        }
        listed.reverse();
        let told = provider.ledger.entries();
        assert_eq!(listed, told.iter().filter_map(|entry| entry.id.clone()).collect::<Vec<_>>());
        let own = told.iter().filter(|entry| entry.sandbox_id == told[0].sandbox_id).count();
        assert_eq!(api.sandbox_events(&told[0].sandbox_id, 0, 100).await.unwrap().value.events.len(), own);
        assert!(api.sandbox_events("nobody", 0, 100).await.unwrap().value.events.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_lives_and_its_failed_deliveries_are_listed() {
    let provider = Running::start(Options { retries: 0, ..Options::default() }).await;
    let (api, _) = api_at(&provider.base);
    let new = NewWebhook {
        name: "e2b-relay".to_owned(),
        // Nobody listens there.
        url: "http://127.0.0.1:1/".to_owned(),
        events: all(),
        enabled: true,
        signature_secret: "a secret of 32 characters or more".to_owned().into(),
    };
    let made = api.create_webhook(&new).await.unwrap();
    assert_eq!(api.webhooks().await.unwrap().value, std::slice::from_ref(&made));
    provider.happen(130, 60).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while provider.ledger.summary().given_up < 130 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut failed, mut query) = (BTreeSet::new(), DeliveryQuery { failed_only: true, ..DeliveryQuery::default() });
    loop {
        let page = api.deliveries(&made.id, &query).await.unwrap().value;
        for delivery in page.deliveries {
            let body = delivery.attempts[0].request_body.clone().unwrap();
            assert_eq!(decode::listed(&body.into()).unwrap().event.id, delivery.event_id);
            failed.insert(delivery.event_id);
        }
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(failed, provider.ledger.entries().into_iter().filter_map(|entry| entry.id).collect());
    let later = DeliveryQuery { start: Some(jiff::Timestamp::now()), ..DeliveryQuery::default() };
    assert!(api.deliveries(&made.id, &later).await.unwrap().value.deliveries.is_empty());
    let change = WebhookChange { enabled: Some(false), ..WebhookChange::default() };
    assert!(!api.update_webhook(&made.id, &change).await.unwrap().enabled);
    api.delete_webhook(&made.id).await.unwrap();
    assert_eq!(api.webhook(&made.id).await, Ok(None));
    assert!(api.webhooks().await.unwrap().value.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_and_samples_are_read() {
    let provider = Running::start(Options { sandboxes: 230, ..Options::default() }).await;
    provider.happen(6, 3600).await;
    let (api, _) = api_at(&provider.base);
    let (mut sandboxes, mut token) = (Vec::new(), None);
    loop {
        let page = api.sandboxes(token.as_deref()).await.unwrap().value;
        sandboxes.extend(page.sandboxes);
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(sandboxes.iter().map(|one| &one.id).collect::<BTreeSet<_>>().len(), 230);
    let one = api.sandbox(&sandboxes[7].id).await.unwrap().value.unwrap();
    assert_eq!((&one.id, &one.state), (&sandboxes[7].id, &sandboxes[7].state));
    assert!(api.sandbox("nobody").await.unwrap().value.is_none());
    let told = provider.ledger.entries()[0].sandbox_id.clone();
    let latest = api.metrics(&[told.as_str(), "nobody"]).await.unwrap().value;
    assert_eq!(latest.keys().collect::<Vec<_>>(), [&told]);
    let now = jiff::Timestamp::now().as_second();
    let samples = api.sandbox_metrics(&told, now - 3599, now).await.unwrap().value;
    assert!(samples.len() > 100 && samples.is_sorted_by_key(|sample| sample.unix_seconds));
    assert!(api.sandbox_metrics("nobody", now - 60, now).await.unwrap().value.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_without_events_says_so_and_lists_its_sandboxes() {
    let provider = Running::start(Options { sandboxes: 3, ..Options::default() }).await;
    provider.always(Fault::NoEventsApi);
    let (api, metrics) = api_at(&provider.base);
    assert_eq!(api.events(0, 100).await.unwrap_err().outcome(), "not_offered");
    assert_eq!(super::counted(&metrics, "events", "404"), 1);
    assert_eq!(api.sandboxes(None).await.unwrap().value.sandboxes.len(), 3);
}

/// Exit code and output of `check --connect` with the API as the only source.
async fn check(settings: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("sources: {{acme: {{api: {settings}}}}}\nsinks: {{audit: {{type: file, path: ./a.ndjson}}}}\n");
    std::fs::write(folder.path().join("e2b-relay.yaml"), text).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.args(["check", "--connect"]).current_dir(folder.path());
    for name in ["E2B_API_KEY", "E2B_API_URL", "E2B_DOMAIN"] {
        command.env_remove(name);
    }
    let output = command.output().await.unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_connect_says_what_the_api_answers() {
    let provider = Running::start(Options::default()).await;
    let with_key = |key: &str| format!("{{url: '{}', api_key: {key}}}", provider.base);
    let (code, said) = check(&with_key(super::KEY)).await;
    assert!(code == Some(0) && said.contains("acme (api): available: ") && said.contains("lists events"), "{said}");
    let (code, said) = check(&with_key("e2b_abcdef")).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("acme (api): unavailable: ") && said.contains("sources.acme.api.api_key"), "{said}");
    assert!(!said.contains("e2b_abcdef"), "{said}");
    let (code, said) = check(&with_key("another-kind-of-key")).await;
    assert!(code == Some(69) && said.contains("does not look like one of E2B's"), "warned about, not refused: {said}");
    provider.always(Fault::NoEventsApi);
    let (code, said) = check(&with_key(super::KEY)).await;
    assert!(code == Some(0) && said.contains("no events"), "{said}");
}
