//! What goes wrong by flag goes wrong, and the ledger knows of it.

use super::hooks::{Receiver, SECRET};
use super::{KEY, Running, ids};
use e2b_relay::simulator::provider::Options;
use e2b_relay::simulator::{Fate, Fault};
use serde_json::{Value, json};
use std::time::Duration;

const EVENTS: &str = "/events/sandboxes?limit=100";

async fn delivering(receiver: &Receiver) -> Running {
    let deliver_to = Some((receiver.url.clone(), SECRET.to_owned().into()));
    Running::start(Options { deliver_to, ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_api_and_of_a_load_balancer() {
    let provider = Running::start(Options::default()).await;
    for (fault, statuses, is_html, waits) in [
        (Fault::RateLimit, [429, 429], false, true),
        (Fault::RateLimitHtml, [429, 429], true, false),
        (Fault::ServerErrors, [500, 503], false, false),
        (Fault::HtmlErrors, [502, 504], true, false),
        (Fault::NoEventsApi, [404, 404], false, false),
    ] {
        provider.always(fault);
        let reply = provider.reply(EVENTS).await;
        assert!(statuses.contains(&reply.status().as_u16()), "{fault:?}");
        assert_eq!(reply.headers().contains_key("retry-after"), waits, "{fault:?}");
        let body = reply.text().await.expect("a body");
        assert_eq!(serde_json::from_str::<Value>(&body).is_err(), is_html, "{body}");
        provider.faults.set(fault, 0.0).expect("a part");
    }
    provider.get(EVENTS, "SandboxEventList").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_replies_are_no_json_or_break_off() {
    let provider = Running::start(Options::default()).await;
    provider.happen(50, 60).await;
    provider.always(Fault::TruncatedReplies);
    for _ in 0..10 {
        match provider.reply(EVENTS).await.bytes().await {
            Ok(body) => assert!(serde_json::from_slice::<Value>(&body).is_err()),
            Err(error) => assert!(error.is_body() || error.is_decode(), "{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_replies_are_slower_than_the_patience_of_who_asks() {
    let provider = Running::start(Options { slow_by: Duration::from_secs(600), ..Options::default() }).await;
    provider.always(Fault::SlowReplies);
    let request = provider.request(reqwest::Method::GET, EVENTS).timeout(Duration::from_millis(200));
    assert!(request.send().await.expect_err("no reply").is_timeout());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shifting_pages_repeat_and_do_not_skip() {
    let provider = Running::start(Options::default()).await;
    provider.happen(300, 3600).await;
    let told = provider.told();
    provider.always(Fault::ShiftingPages);
    let mut listed = Vec::new();
    for offset in [0, 100, 200, 300] {
        let page = provider.get(&format!("{EVENTS}&offset={offset}"), "SandboxEventList").await;
        listed.extend(ids(&page, "id"));
    }
    assert!(told.iter().all(|id| listed.contains(id)));
    assert_eq!(listed.len(), 304, "one more before each page");
    assert_eq!(provider.told().len(), 304);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_lost_late_repeated_and_of_one_time() {
    let provider = Running::start(Options { late_by: Duration::from_secs(600), ..Options::default() }).await;
    for (fault, rows) in [(Fault::LostRows, 0), (Fault::RepeatedRows, 2), (Fault::LateRows, 2)] {
        provider.always(fault);
        provider.happen(1, 0).await;
        provider.faults.set(fault, 0.0).expect("a part");
        assert_eq!(ids(&provider.get(EVENTS, "SandboxEventList").await, "id").len(), rows, "{fault:?}");
    }
    let listed: Vec<bool> = provider.ledger.entries().iter().map(|entry| entry.listed).collect();
    assert_eq!(listed, [false, true, true]);
    provider.always(Fault::EqualTimes);
    provider.happen(5, 60).await;
    let page = provider.get(EVENTS, "SandboxEventList").await;
    let mut times = ids(&page, "timestamp");
    times.dedup();
    assert_eq!((page.as_array().map(Vec::len), times.len()), (Some(7), 2), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_in_delivery_and_list_alike() {
    let mut receiver = Receiver::start(200).await;
    let provider = delivering(&receiver).await;
    provider.always(Fault::WrongClock);
    let before = jiff::Timestamp::now();
    provider.happen(1, 0).await;
    let event: Value = serde_json::from_slice(&receiver.next().await.1).expect("json");
    let at: jiff::Timestamp = event["timestamp"].as_str().expect("a time").parse().expect("a time");
    assert!(at >= before + jiff::SignedDuration::from_secs(90));
    let page = provider.get(EVENTS, "SandboxEventList").await;
    assert_eq!(page[0]["timestamp"], event["timestamp"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_are_dropped_repeated_forged_and_reordered() {
    let mut receiver = Receiver::start(200).await;
    let provider = delivering(&receiver).await;
    let one = async |fault: Fault| {
        provider.always(fault);
        provider.happen(1, 0).await;
        provider.faults.set(fault, 0.0).expect("a part");
    };
    one(Fault::DropDeliveries).await;
    one(Fault::RepeatDeliveries).await;
    let repeated = receiver.next_id().await;
    assert_eq!(receiver.next_id().await, repeated);
    one(Fault::ForgeDeliveries).await;
    let (headers, body) = receiver.next().await;
    let honest = e2b_relay::simulator::signature_headers(Default::default(), &SECRET.to_owned().into(), &body);
    assert_ne!(headers["e2b-signature"], honest.last().expect("a signature").1);
    let fates = provider.until_settled().await;
    let twice = Fate::Delivered { times: 2, attempts: 2 };
    assert_eq!(fates, [Fate::Withheld, twice, Fate::Forged(Some(200))]);

    one(Fault::ReorderDeliveries).await;
    provider.happen(1, 0).await;
    let came = [receiver.next_id().await, receiver.next_id().await];
    let told = provider.told();
    assert_eq!(came, [told[4].clone(), told[3].clone()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashed_sandboxes_are_gone_without_a_word() {
    let provider = Running::start(Options { sandboxes: 50, ..Options::default() }).await;
    provider.always(Fault::Crashes);
    provider.happen(20, 0).await;
    let alive = ids(&provider.get("/v2/sandboxes", "ListedSandboxList").await, "sandboxID").len();
    assert!(alive <= 50, "{alive}");
    let killed = provider.ledger.entries().iter().filter(|entry| entry.kind.ends_with(".killed")).count();
    let begun = provider.ledger.entries().iter().filter(|entry| entry.kind.ends_with(".created")).count();
    assert!(50 + begun - killed > alive, "{begun} created and {killed} killed do not make {alive}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_can_be_read_and_changed_while_it_runs() {
    let provider = Running::start(Options::default()).await;
    let change = |parts: Value| {
        let request = provider.http.put(format!("{}/simulator/faults", provider.base)).header("X-API-Key", KEY);
        async move { request.json(&parts).send().await.expect("a reply").status().as_u16() }
    };
    assert_eq!(change(json!({"late-rows": 0.5})).await, 200);
    assert!((provider.faults.part(Fault::LateRows) - 0.5).abs() < f64::EPSILON);
    assert_eq!(change(json!({"late-rows": 0.7, "none-such": 1})).await, 400);
    assert_eq!(change(json!({"late-rows": 1.5})).await, 400);
    let parts: Value = provider.reply("/simulator/faults").await.json().await.expect("json");
    assert_eq!(
        (parts["late-rows"].as_f64(), parts.as_object().map(|parts| parts.len())),
        (Some(0.5), Some(Fault::ALL.len()))
    );
    provider.happen(3, 0).await;
    let oracle: Value = provider.reply("/simulator/ledger?offset=1").await.json().await.expect("json");
    assert_eq!((&oracle["summary"]["made"], ids(&oracle["events"], "id")), (&json!(3), provider.told()[1..].to_vec()));
}
