//! What an API answers on a bad day, and what the client makes of it.

use super::{Canned, KEY, Reply, api_at, counted, reply};
use e2b_relay::e2b::{ApiError, NewWebhook};
use std::time::{Duration, Instant};

const HTML: &str = "<html><body><h1>502</h1></body></html>";

/// Asks once for events: what came, how many requests it took, and how long.
async fn asked(replies: Vec<Reply>) -> (Result<usize, ApiError>, usize, Duration) {
    let canned = Canned::start(replies).await;
    let (api, _) = api_at(&canned.url);
    let started = Instant::now();
    let came = api.events(0, 100).await.map(|answer| answer.value.events.len());
    (came, canned.asked().len(), started.elapsed())
}

#[tokio::test]
async fn trouble_that_passes_is_waited_out() {
    let good = reply(200, "[{}]");
    for bad in
        [reply(429, HTML), reply(502, HTML), reply(503, "{}"), reply(408, ""), reply(200, "[{"), reply(200, HTML)]
    {
        let (came, requests, _) = asked(vec![bad.clone(), bad, good.clone()]).await;
        assert_eq!((came, requests), (Ok(1), 3));
    }
}

#[tokio::test]
async fn trouble_that_stays_is_told_after_four_attempts() {
    for (bad, outcome) in [
        (reply(429, r#"{"code": 429, "message": "Rate limit exceeded"}"#), "rate_limited"),
        (reply(504, HTML), "unavailable"),
        (reply(200, "[{"), "invalid"),
    ] {
        let (came, requests, _) = asked(vec![bad]).await;
        let error = came.unwrap_err();
        assert_eq!((error.outcome(), requests), (outcome, 4), "{error}");
    }
}

#[tokio::test]
async fn the_api_is_left_alone_for_as_long_as_it_asks_and_a_long_while_is_the_callers() {
    let short = reply(429, "{}").with("retry-after", "1");
    let (came, requests, took) = asked(vec![short, reply(200, "[]")]).await;
    assert_eq!((came, requests), (Ok(0), 2));
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let date = reply(503, "")
        .with("date", "Fri, 21 Aug 2026 10:00:00 GMT")
        .with("retry-after", "Fri, 21 Aug 2026 11:00:00 GMT");
    for long in [reply(429, "{}").with("retry-after", "3600"), date] {
        let (came, requests, _) = asked(vec![long]).await;
        assert_eq!((came.unwrap_err().retry_after(), requests), (Some(Duration::from_secs(3600)), 1));
    }
}

#[tokio::test]
async fn a_key_that_is_refused_is_named_by_its_setting_and_never_shown() {
    for status in [401, 403] {
        let (came, requests, _) =
            asked(vec![reply(status, &format!(r#"{{"code": {status}, "message": "{KEY} is wrong"}}"#))]).await;
        let error = came.unwrap_err();
        assert_eq!((error.outcome(), requests), ("unauthorized", 1));
        let said = format!("{error} {error:?}");
        assert!(said.contains("sources.acme.api.api_key") && !said.contains(KEY), "{said}");
    }
    let (came, ..) = asked(vec![reply(400, &format!(r#"{{"code": 400, "message": "what\nis {KEY}"}}"#))]).await;
    let said = came.unwrap_err().to_string();
    assert!(said.ends_with("answers 400 to /events/sandboxes: what is ***"), "{said}");
}

#[tokio::test]
async fn what_is_not_offered_or_refused_is_not_asked_for_again() {
    for (bad, outcome) in [
        (reply(404, r#"{"code": 404, "message": "no matching operation was found"}"#), "not_offered"),
        (reply(400, "{}"), "invalid"),
        (reply(307, "").with("location", "http://127.0.0.1:1/"), "invalid"),
    ] {
        let (came, requests, _) = asked(vec![bad]).await;
        assert_eq!((came.unwrap_err().outcome(), requests), (outcome, 1));
    }
    let canned = Canned::start(vec![reply(404, "")]).await;
    let (api, _) = api_at(&canned.url);
    assert!(api.webhooks().await.unwrap().value.is_empty());
    assert!(api.sandbox_events("s", 0, 10).await.unwrap().value.events.is_empty());
    assert_eq!(api.webhook("w").await, Ok(None));
    assert_eq!(api.delete_webhook("w").await, Ok(()));
    assert!(matches!(api.deliveries("w", &Default::default()).await, Err(ApiError::NotFound { .. })));
}

#[tokio::test]
async fn a_creation_is_not_repeated_where_it_may_have_happened() {
    let new = NewWebhook {
        name: "n".to_owned(),
        url: "https://relay.example.com/".to_owned(),
        events: vec!["e".to_owned()],
        enabled: true,
        signature_secret: "a secret of 32 characters or more".to_owned().into(),
    };
    for (status, requests) in [(502, 1), (429, 4)] {
        let canned = Canned::start(vec![reply(status, HTML)]).await;
        let (api, _) = api_at(&canned.url);
        api.create_webhook(&new).await.unwrap_err();
        assert_eq!(canned.asked().len(), requests, "{status}");
    }
}

#[tokio::test]
async fn who_is_not_there_is_counted_by_a_word() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (api, metrics) = api_at(&format!("http://{free}"));
    let error = api.events(0, 10).await.unwrap_err();
    assert_eq!(error.outcome(), "unavailable");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    assert_eq!(counted(&metrics, "events", "connect"), 4);
}
