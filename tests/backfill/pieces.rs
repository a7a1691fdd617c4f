//! A sweep that a spool holds in pieces only, and that takes its time.

use super::Taken;
use bytes::Bytes;
use e2b_relay::client::{ClientError, Exchange, Method, Reply};
use e2b_relay::shutdown;
use e2b_relay::source::backfill::{Bounds, Status};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Of one page.
const ANSWER: Duration = Duration::from_secs(20);
const LATE: &str = "late";

/// Thirty events a second until it began, one in ten seconds from then on, and one that is listed late.
struct List {
    began: Instant,
    now: jiff::Timestamp,
}

impl List {
    fn time(&self) -> jiff::Timestamp {
        self.now + jiff::SignedDuration::try_from(self.began.elapsed()).unwrap()
    }

    /// By time, the newest first.
    fn listed(&self) -> Vec<(jiff::Timestamp, String)> {
        let before = (0..900).map(|number: i64| (-number * 1000 / 30, format!("before-{number}")));
        let elapsed = self.began.elapsed().as_secs() as i64;
        let since = (1..=elapsed / 10).map(|number| (number * 10_000, format!("since-{number}")));
        // Once the page where it stands was read.
        let late = (elapsed >= 170).then(|| (-25_010, LATE.to_owned()));
        let mut all: Vec<(i64, String)> = before.chain(since).chain(late).collect();
        all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        all.into_iter().map(|(at, id)| (self.now + jiff::SignedDuration::from_millis(at), id)).collect()
    }
}

impl Exchange for List {
    fn exchange<'a>(
        &'a self,
        _: Method,
        path: &'a str,
        _: &'a [(&'a str, &'a str)],
        _: Bytes,
    ) -> BoxFuture<'a, Result<Reply, ClientError>> {
        async move {
            let (offset, limit) = (super::asked_for(path, "offset="), super::asked_for(path, "limit="));
            let rows = self.listed();
            tokio::time::sleep(ANSWER).await;
            Ok(Reply::new(200, &[], super::page(rows.into_iter().skip(offset).take(limit))))
        }
        .boxed()
    }

    fn peer(&self) -> String {
        "the provider".to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_late_while_its_pieces_are_fetched_is_fetched_and_not_called_verified_before() {
    let list = Arc::new(List { began: Instant::now(), now: "2026-08-21T10:00:00Z".parse().unwrap() });
    let ((stop, shutdown), taken) = (shutdown::channel(), Arc::<Taken>::default());
    let clock = {
        let list = Arc::clone(&list);
        Arc::new(move || list.time())
    };
    // A page fills a file: nine pages are three pieces.
    let bounds = Bounds { file: 1, files: 4 };
    let (backfill, mut status, _spool) = super::backfill_of(list.clone(), clock, &taken, bounds, &shutdown);
    let work = tokio::spawn(backfill.run(shutdown));
    let verified = |status: &Status| status.verified_through.is_some_and(|through| through >= list.now);
    status.wait_for(verified).await.unwrap();
    let ids: Vec<String> = taken.events.lock().unwrap().iter().map(|(event, _)| event.id.clone()).collect();
    assert!(ids.len() > 900, "{}", ids.len());
    assert!(ids.iter().any(|id| id == LATE), "it happened before what is called verified, and is listed");
    stop.fire();
    work.await.unwrap();
}
