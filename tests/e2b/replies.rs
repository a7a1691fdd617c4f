//! What the provider's specification shows, read; and what is asked for it.

use super::{Asked, Canned, KEY, api_at, counted, reply};
use crate::simulate::assert_valid;
use bytes::Bytes;
use e2b_relay::decode;
use e2b_relay::e2b::{DeliveryQuery, NewWebhook, Sample, WebhookChange};
use serde_json::{Value, json};

const EVENTS: &str = include_str!("../data/e2b/events.json");
const WRAPPED: &str = include_str!("../data/e2b/events-wrapped.json");
const WEBHOOKS: &str = include_str!("../data/e2b/webhooks.json");
const DELIVERIES: &str = include_str!("../data/e2b/deliveries.json");
const SANDBOXES: &str = include_str!("../data/e2b/sandboxes.json");
const METRICS: &str = include_str!("../data/e2b/metrics.json");
const SANDBOX_METRICS: &str = include_str!("../data/e2b/sandbox-metrics.json");

#[test]
fn the_recorded_replies_are_as_the_specification_has_them() {
    for (schema, text) in [
        ("SandboxEventList", EVENTS),
        ("WebhookDetailList", WEBHOOKS),
        ("WebhookDeliveriesListPayload", DELIVERIES),
        ("ListedSandboxList", SANDBOXES),
        ("SandboxesWithMetrics", METRICS),
        ("SandboxMetricList", SANDBOX_METRICS),
    ] {
        assert_valid(schema, &serde_json::from_str(text).unwrap());
    }
}

#[tokio::test]
async fn events_in_either_shape_are_the_same_records() {
    let mut records = Vec::new();
    for text in [EVENTS, WRAPPED] {
        let canned = Canned::start(vec![reply(200, text).with("date", "Fri, 21 Aug 2026 10:00:00 GMT")]).await;
        let (api, metrics) = api_at(&canned.url);
        let answer = api.events(200, 100).await.unwrap();
        assert_eq!(answer.date, Some("2026-08-21T10:00:00Z".parse().unwrap()));
        let events = answer.value.events.iter().map(|raw| decode::listed(raw).unwrap().event);
        records.push(events.map(|event| fields(&decode::stored(&event).unwrap())).collect::<Vec<_>>());
        let line = "GET /events/sandboxes?offset=200&limit=100&orderAsc=false".to_owned();
        assert_eq!(canned.asked(), [Asked { line, key: KEY.to_owned(), body: String::new() }]);
        assert_eq!(counted(&metrics, "events", "200"), 1);
    }
    assert_eq!(records[0], records[1]);
    assert_eq!(records[0].len(), 3);
    assert_eq!(records[0][0]["timestamp"], "2026-08-06T20:59:36.123456789Z");
    assert_eq!(records[0][0]["event_data"]["execution"]["execution_time"], 72000);
}

/// What a consumer would get, the relay's own part aside.
fn fields(record: &e2b_relay::event::Record) -> Value {
    let names = [
        "id",
        "type",
        "version",
        "timestamp",
        "event_category",
        "event_label",
        "event_data",
        "sandbox_id",
        "sandbox_execution_id",
        "sandbox_template_id",
        "sandbox_build_id",
        "sandbox_team_id",
    ];
    names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), serde_json::from_str::<Value>(record.get(name)?).unwrap())))
        .collect()
}

#[tokio::test]
async fn an_api_below_a_path_is_asked_there() {
    let canned = Canned::start(vec![reply(200, "[]")]).await;
    let (api, _) = api_at(&format!("{}/e2b/?x=1", canned.url));
    assert!(api.sandbox_events("a/b ?", 0, 1).await.unwrap().value.events.is_empty());
    assert_eq!(canned.lines(), ["GET /e2b/events/sandboxes/a%2Fb%20%3F?offset=0&limit=1&orderAsc=false"]);
}

#[tokio::test]
async fn webhooks_are_read_made_and_changed() {
    let list: Value = serde_json::from_str(WEBHOOKS).unwrap();
    let one = list[0].to_string();
    let canned =
        Canned::start(vec![reply(200, WEBHOOKS), reply(200, &one), reply(201, &one), reply(200, &one), reply(200, "")])
            .await;
    let (api, metrics) = api_at(&canned.url);
    let webhook = api.webhooks().await.unwrap().value.remove(0);
    assert_eq!((webhook.url.as_str(), webhook.events.len()), ("https://relay.example.com/webhooks/e2b", 2));
    assert_eq!(api.webhook(&webhook.id).await.unwrap(), Some(webhook.clone()));
    let secret = "a secret of 32 characters or more".to_owned();
    let new = NewWebhook {
        name: "e2b-relay".to_owned(),
        url: webhook.url.clone(),
        events: webhook.events.clone(),
        enabled: true,
        signature_secret: secret.clone().into(),
    };
    assert!(!format!("{new:?}").contains(&secret));
    assert_eq!(api.create_webhook(&new).await.unwrap(), webhook);
    let change = WebhookChange { enabled: Some(false), ..WebhookChange::default() };
    assert_eq!(api.update_webhook(&webhook.id, &change).await.unwrap(), webhook);
    api.delete_webhook(&webhook.id).await.unwrap();
    let path = format!("/events/webhooks/{}", webhook.id);
    let expected = [
        "GET /events/webhooks",
        &format!("GET {path}"),
        "POST /events/webhooks",
        &format!("PATCH {path}"),
        &format!("DELETE {path}"),
    ];
    assert_eq!(canned.lines(), expected);
    let bodies: Vec<Value> =
        canned.asked()[2..4].iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    assert_eq!(bodies[0]["signatureSecret"], json!(secret));
    let names: Vec<&String> = bodies[0].as_object().unwrap().keys().collect();
    assert_eq!(names, ["enabled", "events", "name", "signatureSecret", "url"], "as the specification requires them");
    assert_eq!(bodies[1], json!({"enabled": false}));
    assert_eq!((counted(&metrics, "webhooks", "200"), counted(&metrics, "webhooks", "404")), (4, 0));
}

#[tokio::test]
async fn failed_deliveries_bring_the_body_that_was_sent() {
    let canned = Canned::start(vec![reply(200, DELIVERIES)]).await;
    let (api, _) = api_at(&canned.url);
    let query = DeliveryQuery {
        start: Some("2026-08-06T20:00:00Z".parse().unwrap()),
        end: Some("2026-08-06T21:00:00.5Z".parse().unwrap()),
        failed_only: true,
        cursor: Some("a+b".to_owned()),
    };
    let page = api.deliveries("5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90", &query).await.unwrap().value;
    let attempt = &page.deliveries[0].attempts[0];
    assert_eq!((attempt.status.as_str(), attempt.error_class.as_deref()), ("failed", Some("timeout")));
    let body = Bytes::from(attempt.request_body.clone().unwrap());
    assert_eq!(decode::listed(&body).unwrap().event.id, page.deliveries[0].event_id);
    assert_eq!(page.next_cursor.as_deref(), Some("bmV4dA"));
    let expected = "GET /events/webhooks/5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90/deliveries?limit=100&orderAsc=true\
        &deliveryStatus=failed&start=2026-08-06T20%3A00%3A00Z&end=2026-08-06T21%3A00%3A00.5Z&cursor=a%2Bb";
    assert_eq!(canned.lines(), [expected]);
}

#[tokio::test]
async fn sandboxes_are_listed_by_token_and_read_one_by_one() {
    let list: Value = serde_json::from_str(SANDBOXES).unwrap();
    let mut one = list[0].clone();
    one["envdAccessToken"] = json!("a token that must go nowhere");
    let replies = vec![
        reply(200, SANDBOXES).with("x-next-token", "t=1"),
        reply(200, "[]"),
        reply(200, &one.to_string()),
        reply(404, ""),
    ];
    let canned = Canned::start(replies).await;
    let (api, _) = api_at(&canned.url);
    let page = api.sandboxes(None).await.unwrap().value;
    assert_eq!(page.sandboxes.iter().map(|one| one.state.as_str()).collect::<Vec<_>>(), ["running", "paused"]);
    let last = api.sandboxes(page.next_token.as_deref()).await.unwrap().value;
    assert!(last.next_token.is_none() && last.sandboxes.is_empty());
    let read = api.sandbox(&page.sandboxes[0].id).await.unwrap().value.unwrap();
    assert_eq!(read, page.sandboxes[0]);
    assert!(!format!("{read:?}{}", serde_json::to_string(&read).unwrap()).contains("token that"));
    assert_eq!(api.sandbox("gone").await.unwrap().value, None);
    let expected = [
        "GET /v2/sandboxes?state=running,paused&limit=100",
        "GET /v2/sandboxes?state=running,paused&limit=100&nextToken=t%3D1",
        "GET /sandboxes/iz62km2v0zwlow3i7icxv",
        "GET /sandboxes/gone",
    ];
    assert_eq!(canned.lines(), expected);
}

#[tokio::test]
async fn samples_are_read_from_older_installations_too() {
    let older =
        r#"[{"timestamp": "2026-07-28T08:04:05Z", "cpuCount": 2, "cpuUsedPct": 20.5, "memUsed": 1, "memTotal": 2}]"#;
    let canned =
        Canned::start(vec![reply(200, METRICS), reply(200, SANDBOX_METRICS), reply(200, older), reply(404, "")]).await;
    let (api, _) = api_at(&canned.url);
    let id = "iz62km2v0zwlow3i7icxv";
    let latest = api.metrics(&[id, "nobody"]).await.unwrap().value;
    let expected = Sample {
        unix_seconds: 1_785_225_845,
        cpu_count: 2,
        cpu_used_pct: 20.33,
        mem_used: 32_681_984,
        mem_total: 507_592_704,
        mem_cache: Some(10_485_760),
        disk_used: 1_514_856_448,
        disk_total: 2_573_185_024,
    };
    assert_eq!(latest.into_iter().collect::<Vec<_>>(), [(id.to_owned(), expected)]);
    assert_eq!(api.sandbox_metrics(id, 1, 9).await.unwrap().value[1].unix_seconds, 1_785_225_850);
    let sample = api.sandbox_metrics(id, 1, 9).await.unwrap().value[0];
    assert_eq!((sample.unix_seconds, sample.mem_cache, sample.disk_total), (1_785_225_845, None, 0));
    assert!(api.sandbox_metrics("gone", 1, 9).await.unwrap().value.is_empty());
    assert_eq!(
        canned.lines()[..2],
        [
            "GET /sandboxes/metrics?sandbox_ids=iz62km2v0zwlow3i7icxv,nobody",
            "GET /sandboxes/iz62km2v0zwlow3i7icxv/metrics?start=1&end=9"
        ]
    );
}

#[tokio::test]
async fn a_row_that_is_not_as_specified_costs_itself_alone() {
    let sample = |more: &str| format!(r#"{{{more} "cpuCount": 2, "cpuUsedPct": 20.5, "memUsed": 1, "memTotal": 2}}"#);
    let (sound, timeless) = (sample(r#""timestampUnix": 9,"#), sample(""));
    // Beyond the end of the calendar.
    let late = sample(r#""timestampUnix": 9223372036854775807,"#);
    let latest =
        format!(r#"{{"sandboxes": {{"a": null, "b": {sound}, "c": {timeless}, "d": {late}, "e": 7, "f": {{}}}}}}"#);
    let of_one = format!("[null, {sound}, {timeless}, {late}, 7]");
    let listed =
        |more: &str| format!(r#"{{"sandboxID": "b", "templateID": "t", "endAt": "", "state": "paused", {more}}}"#);
    let sandboxes = format!(
        r#"[null, {}, {}, {}, {{"sandboxID": "c"}}]"#,
        listed(r#""startedAt": "2026-08-06T20:59:36Z""#),
        listed(r#""startedAt": "yesterday""#),
        listed(r#""startedAt": "2026-08-06T20:59:36Z", "cpuCount": "two""#)
    );
    let deliveries = r#"{"data": [null, {"eventId": "e"}, {"eventId": 7}, {"eventId": "f", "attempts": [null]}]}"#;
    let replies = [&latest, &of_one, &sandboxes, deliveries].map(|text| reply(200, text));
    let canned = Canned::start(replies.into()).await;
    let (api, metrics) = api_at(&canned.url);
    let skipped = |endpoint: &str| {
        let line = format!(r#"e2b_relay_api_rows_skipped_total{{endpoint="{endpoint}",source="acme"}} "#);
        let text = metrics.encode().unwrap();
        text.lines().find_map(|text| text.strip_prefix(&line)).expect("the counter").parse::<u64>().unwrap()
    };
    assert_eq!(skipped("metrics"), 0);
    let latest = api.metrics(&["a", "b", "c", "d", "e", "f"]).await.unwrap().value;
    assert_eq!(latest.into_keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(skipped("metrics"), 4, "null is a sandbox without a sample");
    assert_eq!(api.sandbox_metrics("b", 1, 9).await.unwrap().value.len(), 1);
    assert_eq!(skipped("sandbox_metrics"), 4);
    let page = api.sandboxes(None).await.unwrap().value;
    assert_eq!(page.sandboxes.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(page.odd, ["b", "b", "c"], "whose rows they are is known");
    assert_eq!(skipped("sandboxes"), 4);
    let page = api.deliveries("w", &DeliveryQuery::default()).await.unwrap().value;
    assert_eq!(page.deliveries.iter().map(|one| one.event_id.as_str()).collect::<Vec<_>>(), ["e"]);
    assert_eq!(skipped("deliveries"), 3);
}
