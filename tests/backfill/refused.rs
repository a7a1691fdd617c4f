//! What stands in a sweep's way: an API that lets nobody down, a store that takes nothing.

use super::Site;
use crate::e2b::KEY;
use crate::simulate::Running;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use e2b_relay::simulator::provider::Options;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Before a provider; it refuses every page that begins beyond an offset.
struct Shallow {
    url: String,
    deepest: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Shallow {
    async fn start(provider: &Running, deepest: usize) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (deepest, asked) = (Arc::new(AtomicUsize::new(deepest)), Arc::new(AtomicUsize::new(0)));
        let state = (provider.base.clone(), Arc::clone(&deepest), Arc::clone(&asked));
        let app = axum::Router::new().route("/events/sandboxes", axum::routing::get(page)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, deepest, asked }
    }
}

async fn page(
    State((base, deepest, asked)): State<(String, Arc<AtomicUsize>, Arc<AtomicUsize>)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    asked.fetch_add(1, Ordering::SeqCst);
    if query["offset"].parse::<usize>().unwrap() > deepest.load(Ordering::SeqCst) {
        return (StatusCode::BAD_REQUEST, r#"{"code": 400, "message": "offset too large"}"#).into_response();
    }
    let url = format!("{base}/events/sandboxes?offset={}&limit={}&orderAsc=false", query["offset"], query["limit"]);
    let reply = crate::support::daemon::reqwest_client().get(url).header("X-API-Key", KEY).send().await.unwrap();
    reply.bytes().await.unwrap().into_response()
}

fn set(ids: &[String]) -> HashSet<&str> {
    ids.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_depths_are_refused_what_can_be_had_is_taken_and_the_cursor_stays() {
    let provider = Running::start(Options::default()).await;
    provider.happen(1000, 3000).await;
    let front = Shallow::start(&provider, 300).await;
    let site = Site::new(&front.url);
    let cursor = jiff::Timestamp::now() - Duration::from_secs(3300);
    site.set_cursor(cursor);
    let working = site.work();
    working.polls(2, "invalid").await;
    let told = provider.told();
    // Pages 0 to 300, oldest first.
    assert_eq!(set(&site.ids()), set(&told[600..]));
    assert_eq!(site.cursor(), Some(cursor), "not verified beyond");
    let asked = front.asked.load(Ordering::SeqCst);
    working.polls(5, "invalid").await;
    assert!(front.asked.load(Ordering::SeqCst) - asked < 10, "the depths are not asked for at every look");
    // What is new comes all the same.
    provider.happen(150, 0).await;
    working.until("what is new is taken", || site.ids().len() == 550).await;
    assert_eq!((site.cursor(), working.sum("gaps_total", "acme")), (Some(cursor), 0.0));
    working.end().await;
    // A start goes down anew; now it is let.
    front.deepest.store(usize::MAX, Ordering::SeqCst);
    let working = site.work();
    working.polls(1, "ok").await;
    assert_eq!(set(&site.ids()), set(&provider.told()));
    assert!(site.cursor().unwrap() > cursor);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_takes_nothing_no_page_is_spooled() {
    let provider = Running::start(Options::default()).await;
    provider.happen(500, 3000).await;
    let site = Site::new(&provider.base);
    *site.taken.full.lock().unwrap() = Some("store.min_free".to_owned());
    let working = site.work();
    working.polls(3, "unavailable").await;
    let asked = working.sum("api_requests_total", "endpoint=\"events\"");
    let looked = working.sum("backfill_polls_total", "");
    assert!((asked - looked).abs() <= 1.0, "one page each: {asked} in {looked}");
    assert_eq!(std::fs::read_dir(site.spool.path()).unwrap().count(), 0);
    assert_eq!(site.cursor(), None);
    *site.taken.full.lock().unwrap() = None;
    working.polls(1, "ok").await;
    assert_eq!(set(&site.ids()), set(&provider.told()));
    working.end().await;
}
