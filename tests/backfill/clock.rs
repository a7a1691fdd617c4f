//! The host's clock is set while the list is read.

use super::Taken;
use bytes::Bytes;
use e2b_relay::client::{ClientError, Exchange, Method, Reply};
use e2b_relay::shutdown;
use e2b_relay::source::backfill::{Bounds, Status};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::time::Instant;

/// Two pages of events. With the second page of the first sweep, which does not tell the provider's time, the host's clock is
/// set; before the next sweep it is set right again.
struct List {
    began: Instant,
    now: jiff::Timestamp,
    set_to: i64,
    hours_off: AtomicI64,
    pages: AtomicU64,
}

impl List {
    fn time(&self) -> jiff::Timestamp {
        self.now + jiff::SignedDuration::try_from(self.began.elapsed()).unwrap()
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
            let page = self.pages.fetch_add(1, Ordering::Relaxed);
            // The second is the rest of the first sweep.
            self.hours_off.store(if page == 1 { self.set_to } else { 0 }, Ordering::Relaxed);
            let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&self.time()).unwrap();
            // Most of them are older than the overlap, in which every sweep looks again.
            let row =
                |number: i64| (self.now - jiff::SignedDuration::from_secs(number * 10), format!("event-{number}"));
            let rows = if super::asked_for(path, "offset=") == 0 { 0..100 } else { 100..101 };
            let date = if page == 1 { Vec::new() } else { vec![("date", date)] };
            Ok(Reply::new(200, &date, super::page(rows.map(row))))
        }
        .boxed()
    }

    fn peer(&self) -> String {
        "the provider".to_owned()
    }
}

async fn takes_everything(set_to: i64) {
    let list = Arc::new(List {
        began: Instant::now(),
        now: "2026-08-21T10:00:00Z".parse().unwrap(),
        set_to,
        hours_off: AtomicI64::default(),
        pages: AtomicU64::default(),
    });
    let ((stop, shutdown), taken) = (shutdown::channel(), Arc::<Taken>::default());
    let clock = {
        let list = Arc::clone(&list);
        Arc::new(move || list.time() + jiff::SignedDuration::from_hours(list.hours_off.load(Ordering::Relaxed)))
    };
    let bounds = Bounds { file: 1 << 20, files: 4 };
    let (backfill, mut status, _spool) = super::backfill_of(list.clone(), clock, &taken, bounds, &shutdown);
    let work = tokio::spawn(backfill.run(shutdown));
    let verified = |status: &Status| status.verified_through.is_some_and(|through| through >= list.now);
    status.wait_for(verified).await.unwrap();
    assert!(list.pages.load(Ordering::Relaxed) > 2, "the clock was never set");
    assert_eq!(taken.events.lock().unwrap().len(), 101, "what is called verified was refused by a wrong clock");
    stop.fire();
    work.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_clock_that_was_set_forward_calls_too_old_is_offered_again() {
    takes_everything(24 * 30).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_clock_that_was_set_back_calls_too_new_is_offered_again() {
    takes_everything(-24 * 30).await;
}
