//! Sources, their secrets, paths and pollers, and who may ask the admin listener.

use super::{NEWER, SECRET, deliver, refused, reload};
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home, reqwest_client};
use crate::support::load::body;
use crate::support::sign;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SINK: &str = "store: {path: ./data}\nsinks: {audit: {type: file, path: ./audit.ndjson}}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_is_still_arriving_is_judged_by_the_secrets_that_are_left() {
    let home = Home::new(&format!("{SINK}sources: {{acme: {{webhook: {{secrets_file: ./secrets}}}}}}\n"));
    let secrets = home.path().join("secrets");
    std::fs::write(&secrets, format!("{SECRET}\n")).unwrap();
    let daemon = home.start().await;
    let event = body("late", "sbx-1", 1, true);
    let (name, signature) = sign::e2b(SECRET, event.as_bytes());
    let mut slow = TcpStream::connect(&daemon.public).await.unwrap();
    let (first, rest) = event.split_at(100);
    let length = event.len();
    let head =
        format!("POST /webhooks/e2b HTTP/1.1\r\nhost: h\r\n{name}: {signature}\r\ncontent-length: {length}\r\n\r\n");
    slow.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    assert_eq!(deliver(&daemon, "/webhooks/e2b", SECRET, "a").await, 200);
    // The configuration's own file stays as it is.
    std::fs::write(&secrets, format!("{NEWER}\n")).unwrap();
    assert_eq!(reload(&daemon).await, (vec![], vec![]));
    slow.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(std::str::from_utf8(&answer), Ok("HTTP/1.1 401"));
    assert_eq!(deliver(&daemon, "/webhooks/e2b", SECRET, "b").await, 401);
    assert_eq!(deliver(&daemon, "/webhooks/e2b", NEWER, "c").await, 200);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_come_and_go_and_change_their_paths_and_teams() {
    let acme = |keys: &str| format!("acme: {{webhook: {{path: /a, secrets: [{SECRET}]}}{keys}}}");
    let beta = format!("beta: {{webhook: {{path: /b, secrets: [{NEWER}]}}}}");
    let with = |sources: &str| format!("{SINK}sources: {{{sources}}}\n");
    let home = Home::new(&with(&acme("")));
    let daemon = home.start().await;
    assert_eq!(deliver(&daemon, "/b", NEWER, "a").await, 404);
    home.configure(&with(&format!("{}, {beta}", acme(""))));
    assert_eq!(reload(&daemon).await, (vec![], vec![]));
    assert_eq!((deliver(&daemon, "/a", SECRET, "b").await, deliver(&daemon, "/b", NEWER, "b").await), (200, 200));
    assert_eq!(deliver(&daemon, "/a", NEWER, "c").await, 401, "the other's secret");
    // The team is another's.
    home.configure(&with(&format!("{}, {beta}", acme(", team_id: 00000000-0000-4000-8000-000000000000"))));
    reload(&daemon).await;
    assert_eq!((deliver(&daemon, "/a", SECRET, "d").await, deliver(&daemon, "/b", NEWER, "d").await), (401, 200));
    home.configure(&with(&acme("").replace("/a", "/other")));
    reload(&daemon).await;
    assert_eq!((deliver(&daemon, "/a", SECRET, "e").await, deliver(&daemon, "/other", SECRET, "e").await), (404, 200));
    assert_eq!(deliver(&daemon, "/b", NEWER, "e").await, 404);
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("deliveries_total", "source=\"beta\""), 0.0, "its series end");
    assert_eq!(metrics.sum("deliveries_total", "outcome=\"accepted\""), 2.0);
    daemon.until_settled("audit", 4).await;
    assert!(daemon.terminate().await.success());
}

/// What is counted of the calls to an endpoint.
async fn calls(daemon: &Daemon, endpoint: &str) -> f64 {
    daemon.metrics().await.sum("api_requests_total", &format!("endpoint=\"{endpoint}\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_rotated_and_only_pollers_whose_settings_change_begin_anew() {
    let provider = Running::start(Options::default()).await;
    let with = |keys: &str| {
        format!("{SINK}sources: {{acme: {{api: {{url: '{}', api_key_file: ./key}}{keys}}}}}\n", provider.base)
    };
    let rare = ", backfill: {interval: 1h}, reconcile: {interval: 1h}";
    let home = Home::new(&with(rare));
    std::fs::write(home.path().join("key"), "e2b_00").unwrap();
    let daemon = home.start().await;
    daemon.until("the key is refused", |m| m.sum("backfill_polls_total", "unauthorized") == 1.0).await;
    std::fs::write(home.path().join("key"), KEY).unwrap();
    reload(&daemon).await;
    daemon.until("the new key is taken", |m| m.sum("backfill_polls_total", "outcome=\"ok\"") == 1.0).await;
    daemon.until("the list is read", |m| m.sum("api_requests_total", "endpoint=\"sandboxes\",source") >= 1.0).await;
    let (events, lists) = (calls(&daemon, "events").await, calls(&daemon, "sandboxes").await);
    // The reconciliation changes, and usage is wanted; nobody else begins anew.
    home.configure(&with(", backfill: {interval: 1h}, reconcile: {interval: 2h}, usage: true"));
    assert_eq!(reload(&daemon).await, (vec![], vec![]));
    daemon
        .until("the list is read again", |m| m.sum("api_requests_total", "endpoint=\"sandboxes\",source") > lists)
        .await;
    assert_eq!(calls(&daemon, "events").await, events, "the backfill began anew");
    home.configure(&with(", backfill: {interval: 2h}, reconcile: {interval: 2h}, usage: true"));
    reload(&daemon).await;
    daemon.until("the backfill looks again", |m| m.sum("backfill_polls_total", "outcome=\"ok\"") == 2.0).await;
    // Its handle is the new one's.
    let asked = json!({}).to_string();
    let token = std::fs::read_to_string(home.path().join("data/admin-token")).unwrap();
    let request = reqwest_client().post(format!("http://{}/api/backfill", daemon.admin)).body(asked);
    let reply = request.bearer_auth(token.trim()).header("content-type", "application/json").send().await.unwrap();
    let told = reply.text().await.unwrap();
    assert!(told.contains("\"result\""), "{told}");
    assert!(daemon.terminate().await.success());
}

/// The sandboxes that are shown of a source.
async fn shown(daemon: &Daemon, source: &str) -> usize {
    let url = format!("http://{}/api/sandboxes?source={source}", daemon.admin);
    let view: Value = reqwest_client().get(url).send().await.unwrap().json().await.unwrap();
    view["sandboxes"].as_array().unwrap().len()
}

/// Sandboxes that begin, as a delivery to `/a` each tells.
async fn created(daemon: &Daemon, numbers: std::ops::Range<usize>) {
    let (client, url) = (reqwest_client(), format!("http://{}/a", daemon.public));
    for number in numbers {
        let event = body(&format!("created-{number}"), &format!("sbx-{number}"), 0, true);
        let (status, _) = crate::support::load::post(&client, &url, SECRET, &event).await.unwrap();
        assert_eq!(status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_sets_come_and_go_with_their_sources() {
    let provider = Running::start(Options::default()).await;
    provider.happen(200, 60).await;
    let acme = format!("acme: {{webhook: {{path: /a, secrets: [{SECRET}]}}}}");
    let beta = format!("beta: {{api: {{url: '{}', api_key: {KEY}}}, reconcile: {{interval: 1h}}}}", provider.base);
    let with = |sources: &str| format!("{SINK}sources: {{{sources}}}\n");
    let home = Home::new(&with(&acme));
    let daemon = home.start().await;
    let both = with(&format!("{acme}, {beta}"));
    home.configure(&both);
    reload(&daemon).await;
    let lives = |metrics: &crate::support::daemon::Metrics| metrics.sum("sandboxes", "source=\"beta\"");
    daemon.until("the provider's sandboxes are known", |metrics| lives(metrics) > 0.0).await;
    // Who reads the journal for the first one goes on, too.
    created(&daemon, 0..1).await;
    daemon.until("its event is followed", |m| m.sum("sandboxes", "source=\"acme\"") == 1.0).await;
    // It goes before what it was told last is read, and comes back.
    created(&daemon, 1..50).await;
    home.configure(&with(&beta));
    reload(&daemon).await;
    assert_eq!(shown(&daemon, "acme").await, 0);
    home.configure(&both);
    reload(&daemon).await;
    daemon.until("what it was told is known", |m| m.sum("sandboxes", "source=\"acme\"") == 50.0).await;
    assert_eq!(shown(&daemon, "acme").await, 50);
    let known = shown(&daemon, "beta").await;

    home.configure(&with(&acme));
    reload(&daemon).await;
    assert_eq!((shown(&daemon, "beta").await, lives(&daemon.metrics().await)), (0, 0.0));
    assert_eq!(shown(&daemon, "acme").await, 50, "the other's set stays");
    // What was known is known again, before the list is read.
    provider.always(e2b_relay::simulator::Fault::ServerErrors);
    home.configure(&both);
    reload(&daemon).await;
    assert_eq!(shown(&daemon, "beta").await, known);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_would_take_anothers_webhook_is_refused() {
    let provider = Running::start(Options::default()).await;
    let hook = json!({"name": "e2b-relay", "url": "https://other.example.com/", "events": ["sandbox.lifecycle.created"],
        "signatureSecret": SECRET});
    let (status, _) = provider.send(reqwest::Method::POST, "/events/webhooks", hook).await;
    assert!(status < 300);
    let with = |register: &str| {
        format!(
            "{SINK}sources: {{acme: {{webhook: {{secrets: [{SECRET}]}}, api: {{url: '{}', api_key: {KEY}}}{register}}}}}\n",
            provider.base
        )
    };
    let home = Home::new(&with(""));
    let daemon = home.start().await;
    home.configure(&with(", register: {url: 'https://relay.example.com/webhooks/e2b'}"));
    let said = refused(&daemon).await;
    assert!(said.contains("sources.acme.register"), "{said}");
    assert_eq!(deliver(&daemon, "/webhooks/e2b", SECRET, "a").await, 200);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_token_and_the_names_are_read_again() {
    let home = Home::new("");
    let with = |hosts: &str| {
        let text = format!(
            "server: {{listen: '127.0.0.1:0'}}\nadmin: {{listen: '127.0.0.1:0', token_file: ./token, hosts: [{hosts}]}}\n\
             {SINK}sources: {{acme: {{webhook: {{secrets: [{SECRET}]}}}}}}\n"
        );
        std::fs::write(home.configuration(), text).unwrap();
    };
    let token = |text: &str| std::fs::write(home.path().join("token"), text).unwrap();
    with("");
    token("the-first-token-0123456789");
    let daemon = home.start().await;
    // 400: who asks is let in, and no source has an API.
    let ask = async |host: &str, token: &str| {
        let request = reqwest_client().post(format!("http://{}/api/backfill", daemon.admin)).header("host", host);
        let request = request.bearer_auth(token).header("content-type", "application/json").body("{}");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("localhost", "the-first-token-0123456789").await, 400);
    assert_eq!(ask("relay.internal", "the-first-token-0123456789").await, 421);
    token("the-second-token-0123456789");
    with("relay.internal");
    reload(&daemon).await;
    assert_eq!(ask("relay.internal", "the-first-token-0123456789").await, 401);
    assert_eq!(ask("relay.internal", "the-second-token-0123456789").await, 400);
    token("short");
    assert!(refused(&daemon).await.contains("admin.token_file"));
    assert_eq!(ask("relay.internal", "the-second-token-0123456789").await, 400);
    assert!(daemon.terminate().await.success());
}
