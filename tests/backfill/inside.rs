//! What a sweep fetches, when it asks again, and when the cursor moves.

use super::Site;
use crate::simulate::Running;
use e2b_relay::event::Origin;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use e2b_relay::source::backfill::Bounds;
use jiff::SignedDuration;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_of_the_lookback_is_taken_oldest_first_and_later_only_what_is_new() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(40, 600, 3700).await;
    provider.happen(350, 3000).await;
    let site = Site::new(&provider.base);
    let working = site.work();
    working.polls(2, "ok").await;
    let told = provider.told();
    assert_eq!(by_sandbox(&provider, &site.ids()), by_sandbox(&provider, &told[40..]));
    assert!(site.taken.events.lock().unwrap().iter().all(|(_, arrival)| arrival.origin == Origin::Backfill));
    assert_eq!(working.sum("backfill_recovered_total", "acme"), 350.0);
    provider.happen(5, 0).await;
    working.polls(2, "ok").await;
    assert_eq!(by_sandbox(&provider, &site.ids()), by_sandbox(&provider, &provider.told()[40..]));
    let verified = working.sum("backfill_verified_through_timestamp_seconds", "acme");
    assert!((site.cursor().unwrap().as_duration().as_secs_f64() - 61.0..=seconds_ago(60)).contains(&verified));
    working.end().await;
}

fn seconds_ago(seconds: u64) -> f64 {
    (jiff::Timestamp::now() - Duration::from_secs(seconds)).as_duration().as_secs_f64()
}

/// A team may rest for days: what is told then must not grow old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_happens_the_time_that_is_verified_goes_on() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(40, 600, 1000).await;
    let mut site = Site::new(&provider.base);
    site.settings.overlap = Duration::from_secs(2);
    let working = site.work();
    let verified = || working.sum("backfill_verified_through_timestamp_seconds", "acme");
    // The API tells whole seconds.
    let first = seconds_ago(3);
    working.until("the first sweep counts", || verified() >= first).await;
    assert!(verified() <= seconds_ago(2));
    let settled = seconds_ago(0);
    working.until("so do the looks that find nothing new", || verified() > settled).await;
    assert!(verified() <= seconds_ago(2));
    // A look that comes to nothing verifies nothing.
    provider.always(Fault::ServerErrors);
    working.polls(1, "unavailable").await;
    let before = verified();
    working.polls(1, "unavailable").await;
    assert_eq!(verified(), before);
    working.end().await;
}

/// Each sandbox's ids in their order.
pub(super) fn by_sandbox(provider: &Running, ids: &[String]) -> std::collections::BTreeMap<String, Vec<String>> {
    let sandbox: std::collections::HashMap<_, _> =
        provider.ledger.entries().into_iter().map(|entry| (entry.id.unwrap(), entry.sandbox_id)).collect();
    let mut sandboxes = std::collections::BTreeMap::<_, Vec<String>>::new();
    for id in ids {
        sandboxes.entry(sandbox[id].clone()).or_default().push(id.clone());
    }
    sandboxes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_is_new_each_look_is_one_small_page_and_something_late_is_found_all_the_same() {
    let provider = Running::start(Options { late_by: Duration::ZERO, ..Options::default() }).await;
    // The newest ten are of the last tenth of a second.
    provider.happen(500, 5).await;
    let mut site = Site::new(&provider.base);
    site.settings.overlap = Duration::from_secs(4);
    let working = site.work();
    working.until("all is taken", || site.ids().len() == 500).await;
    // One that is listed below the newest ten, and not at once.
    provider.happen_ago(1, 0, 2).await;
    working.until("the late one is taken", || site.ids().len() == 501).await;
    // Whatever was late is in; now it rests.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = |code: &str| working.sum("api_requests_total", &format!("code=\"{code}\",endpoint=\"events\""));
    let (polls, before) = (working.sum("backfill_polls_total", "ok"), asked("200"));
    working.polls(20, "ok").await;
    // Calls first: one look may be under way, and no more.
    let (calls, polls) = (asked("200") - before, working.sum("backfill_polls_total", "ok") - polls);
    println!("{polls} looks while nothing was new took {calls} calls");
    assert!(calls <= polls + 1.0);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_clock_is_fast_blinds_nobody() {
    let options = Options { wrong_clock_by: SignedDuration::from_hours(2), ..Options::default() };
    let provider = Running::start(options).await;
    provider.always(Fault::WrongClock);
    provider.happen(30, 0).await;
    provider.faults.set(Fault::WrongClock, 0.0).expect("a part");
    let site = Site::new(&provider.base);
    let working = site.work();
    // The cursor is kept only after what it is behind.
    working.until("the fast ones are taken", || site.ids().len() == 30 && site.cursor().is_some()).await;
    assert!(site.cursor().unwrap() <= jiff::Timestamp::now(), "the cursor stays behind the API's clock");
    for more in 1..4 {
        provider.happen(1, 0).await;
        working.until("the one below them is taken", || site.ids().len() == 30 + more).await;
    }
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_shift_and_times_that_are_equal_hide_nothing() {
    let provider = Running::start(Options::default()).await;
    provider.faults.set(Fault::EqualTimes, 0.5).expect("a part");
    provider.faults.set(Fault::RepeatedRows, 0.1).expect("a part");
    provider.happen(1500, 3000).await;
    let site = Site::new(&provider.base);
    provider.faults.set(Fault::ShiftingPages, 0.5).expect("a part");
    let working = site.work();
    working.polls(1, "ok").await;
    provider.faults.set(Fault::ShiftingPages, 0.0).expect("a part");
    working.polls(2, "ok").await;
    let told = provider.told();
    assert!(told.len() > 1500, "something was inserted between pages");
    let (mut taken, mut expected) = (site.ids(), told);
    taken.sort();
    expected.sort();
    assert_eq!(taken, expected);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cursor_goes_on_after_a_restart_and_what_was_known_is_not_asked_for_again() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(1000, 2000, 1000).await;
    let mut site = Site::new(&provider.base);
    let working = site.work();
    working.polls(1, "ok").await;
    working.end().await;
    let cursor = site.cursor().unwrap();
    provider.happen(30, 100).await;
    // One look, and no second one while the calls are counted.
    site.settings.interval = Duration::from_secs(3600);
    let working = site.work();
    let kept = (cursor - Duration::from_secs(60)).as_duration().as_secs_f64();
    assert_eq!(working.sum("backfill_verified_through_timestamp_seconds", "acme"), kept, "known from the start");
    working.until("the look", || working.sum("backfill_polls_total", "ok") == 1.0).await;
    assert_eq!((site.ids().len(), working.sum("api_requests_total", "endpoint=\"events\"")), (1030, 1.0));
    assert!(site.cursor().unwrap() > cursor);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_spool_holds_is_taken_in_several_sweeps_and_in_order() {
    let provider = Running::start(Options::default()).await;
    provider.happen(3000, 3000).await;
    let mut site = Site::new(&provider.base);
    // Four pages or so.
    site.bounds = Bounds { file: 100_000, files: 2 };
    let working = site.work();
    working.polls(2, "ok").await;
    assert_eq!(by_sandbox(&provider, &site.ids()), by_sandbox(&provider, &provider.told()));
    let calls = working.sum("api_requests_total", "endpoint=\"events\"");
    println!("3,000 events through a spool of about 400 took {calls} calls");
    assert!(calls > 60.0, "the spool held it all");
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lookback_counts_from_the_very_first_start_however_long_the_api_fails() {
    let provider = Running::start(Options::default()).await;
    provider.happen(10, 1).await;
    provider.always(Fault::NoEventsApi);
    let mut site = Site::new(&provider.base);
    site.settings.lookback = Duration::from_secs(3);
    let working = site.work();
    working.polls(1, "not_offered").await;
    working.end().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    provider.faults.set(Fault::NoEventsApi, 0.0).expect("a part");
    let working = site.work();
    working.polls(1, "ok").await;
    assert_eq!(site.ids().len(), 10);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_cannot_be_read_is_no_first_start() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(50, 100, 5 * 86_400).await;
    let site = Site::new(&provider.base);
    e2b_relay::intake::State::keep(&*site.kept, "backfill/acme", "what is this").unwrap();
    let working = site.work();
    working.polls(1, "ok").await;
    assert_eq!(site.ids().len(), 50, "it goes back as far as ids are known");
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_of_the_host_refuses_nothing_and_is_told_of() {
    let provider = Running::start(Options::default()).await;
    provider.happen(20, 100).await;
    for days in [-30, 30] {
        let mut site = Site::new(&provider.base);
        site.clock = SignedDuration::from_hours(24 * days);
        let working = site.work();
        working.polls(1, "ok").await;
        assert_eq!((site.ids().len(), working.sum("backfill_skipped_total", "")), (20, 0.0));
        let offset = working.sum("api_clock_offset_seconds", "acme");
        assert!((offset + 86_400.0 * days as f64).abs() < 60.0, "{offset}");
        working.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_ids_are_known_is_skipped_and_counted() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(10, 100, 9 * 86_400).await;
    provider.happen_ago(10, 100, 3 * 86_400).await;
    let site = Site::new(&provider.base);
    let cursor = jiff::Timestamp::now() - Duration::from_secs(10 * 86_400);
    site.set_cursor(cursor);
    let working = site.work();
    working.polls(2, "ok").await;
    let told = provider.told();
    // After the record of the gap.
    assert_eq!(by_sandbox(&provider, &site.ids()[1..]), by_sandbox(&provider, &told[10..]));
    assert_eq!(working.sum("backfill_skipped_total", "reason=\"too_old\""), 10.0);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_know_any_more_becomes_one_record_before_what_came_later() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(30, 1000, 2 * 86_400).await;
    let site = Site::new(&provider.base);
    let cursor = jiff::Timestamp::now() - Duration::from_secs(9 * 86_400);
    site.set_cursor(cursor);
    let working = site.work();
    working.polls(3, "ok").await;
    assert_eq!(working.sum("gaps_total", "acme"), 1.0);
    let taken = site.taken.events.lock().unwrap().clone();
    assert_eq!(taken.len(), 31);
    let (gap, arrival) = &taken[0];
    assert_eq!((gap.kind.as_str(), arrival.origin, gap.sandbox_id.as_str()), ("relay.gap", Origin::Relay, "relay"));
    let body: serde_json::Value = serde_json::from_slice(&gap.body).unwrap();
    assert_eq!(body["event_data"]["from"], cursor.to_string());
    let to: jiff::Timestamp = body["event_data"]["to"].as_str().unwrap().parse().unwrap();
    let kept = jiff::Timestamp::now().duration_since(to).as_hours();
    assert!((167..=168).contains(&kept), "{body}");
    working.end().await;
    // Killed after the record was made and before the cursor moved: the record is the same one.
    let found = serde_json::json!({"cursor": cursor, "gap": {"from": cursor, "to": to, "at": gap.timestamp.as_str(),
        "reason": "provider_retention"}});
    e2b_relay::intake::State::keep(&*site.kept, "backfill/acme", &found.to_string()).unwrap();
    let working = site.work();
    working.polls(1, "ok").await;
    assert_eq!((site.ids().len(), working.sum("gaps_total", "acme")), (31, 0.0));
    working.end().await;
}
