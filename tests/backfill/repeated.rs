//! An API that gives the same page again and again: a sweep ends, and says why.

use super::Site;
use crate::simulate::Running;
use axum::extract::State;
use axum::routing::get;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_offsets_are_ignored_the_sweep_ends_and_the_cursor_stays() {
    let provider = Running::start(Options::default()).await;
    provider.happen(1000, 3000).await;
    provider.always(Fault::IgnoredOffsets);
    let mut site = Site::new(&provider.base);
    let cursor = jiff::Timestamp::now() - Duration::from_secs(3300);
    site.set_cursor(cursor);
    let (said, status) = tokio::sync::watch::channel(e2b_relay::source::backfill::Status::default());
    site.status = said;
    let working = site.work();
    working.polls(2, "invalid").await;
    let problem = status.borrow().last_poll.clone().unwrap().problem.unwrap();
    assert!(problem.contains("repeats itself") && problem.contains("offset"), "{problem}");
    let told = provider.told();
    let newest: HashSet<String> = told[900..].iter().cloned().collect();
    assert_eq!(site.ids().into_iter().collect::<HashSet<_>>(), newest, "what can be had is taken");
    assert_eq!(site.cursor(), Some(cursor), "not verified beyond");
    assert!(working.sum("api_requests_total", "endpoint=\"events\"") < 100.0);
    working.end().await;
    // A start goes down anew; now there is a way down.
    provider.faults.set(Fault::IgnoredOffsets, 0.0).unwrap();
    let working = site.work();
    working.polls(1, "ok").await;
    assert_eq!(site.ids().len(), 1000);
    assert!(site.cursor().unwrap() > cursor);
    working.end().await;
}

async fn deliveries(State(asked): State<Arc<AtomicUsize>>) -> String {
    let cursor = asked.fetch_add(1, Ordering::SeqCst);
    let attempts = r#"[{"id": "a", "status": "failed", "timestamp": "2026-08-06T20:59:36Z"}]"#;
    format!(r#"{{"data": [{{"eventId": "e", "attempts": {attempts}}}], "nextCursor": "c{cursor}"}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_deliveries_that_repeats_itself_holds_no_sweep_up() {
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new()
        .route("/events/sandboxes", get(async || "[]"))
        .route("/events/webhooks/{id}/deliveries", get(deliveries))
        .with_state(Arc::clone(&asked));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut site = Site::new(&url);
    site.settings.webhook_id = Some("5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90".to_owned());
    let working = site.work();
    working.polls(3, "ok").await;
    // Ten pages that bring nothing new and the first, each time; one look may be under way.
    let looks = working.sum("backfill_polls_total", "") + 1.0;
    assert!(asked.load(Ordering::SeqCst) as f64 <= 11.0 * looks, "{looks} looks");
    working.end().await;
}
