//! What the log has lost: it is fetched again where it is listed, and told as a gap where it is not.

use super::{Kept, Site, Taken};
use crate::e2b::{Canned, reply};
use crate::simulate::Running;
use crate::support::daemon::PATIENCE;
use e2b_relay::executor::Executor;
use e2b_relay::intake::{DamagedSpan, Intake, Limits, Log, State};
use e2b_relay::metrics::Metrics;
use e2b_relay::shutdown;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use e2b_relay::source::backfill::{DamageReporter, ReporterParts};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn ago(seconds: u64) -> jiff::Timestamp {
    jiff::Timestamp::now() - Duration::from_secs(seconds)
}

impl Taken {
    /// As the store tells it: these are gone, between two times of receipt.
    fn lose(&self, ids: &[String], after: Option<jiff::Timestamp>, before: Option<jiff::Timestamp>) {
        let id = self.damaged.borrow().last().map_or(1, |span| span.id + 1);
        for lost in ids {
            self.known.lock().unwrap().remove(lost);
            self.lost.lock().unwrap().insert(lost.clone(), id);
        }
        let events = ids.len() as u64;
        let span =
            DamagedSpan { id, events, received_after: after, received_before: before, recovered: 0, is_new: true };
        self.damaged.send_modify(|spans| spans.push(span));
    }

    /// The records of gaps: ids, and what each says.
    fn gaps(&self) -> Vec<(String, Value)> {
        let events = self.events.lock().unwrap();
        let gaps = events.iter().filter(|(event, _)| event.kind == "relay.gap");
        gaps.map(|(event, _)| {
            let body: Value = serde_json::from_slice(&event.body).unwrap();
            (event.id.clone(), body["event_data"].clone())
        })
        .collect()
    }
}

impl Kept {
    /// What is kept of the damage; null before anything is.
    fn damage(&self) -> Value {
        let kept = self.0.lock().unwrap();
        kept.get("damage/acme").map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    }
}

/// Events that the provider does not list.
fn unlisted(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("unlisted-{number}")).collect()
}

/// With an hour between two looks.
fn rare(url: &str) -> Site {
    let mut site = Site::new(url);
    site.settings.interval = Duration::from_secs(3_600);
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_while_it_runs_is_fetched_at_once_and_what_is_lost_at_the_start_too() {
    let provider = Running::start(Options::default()).await;
    provider.happen(400, 3000).await;
    let site = rare(&provider.base);
    let working = site.work();
    working.polls(1, "ok").await;
    let told = provider.told();
    // Of 22 to 15 minutes ago: behind the cursor, less the overlap of one.
    site.taken.lose(&told[220..280], Some(ago(1_500)), Some(ago(600)));
    working.until("they are taken again", || site.ids().len() == 460).await;
    working.until("that is noted", || site.kept.damage() == json!({"through": 1})).await;
    working.end().await;

    site.taken.lose(&told[300..310], Some(ago(800)), None);
    let working = site.work();
    working.polls(1, "ok").await;
    assert_eq!((site.ids().len(), site.kept.damage()), (470, json!({"through": 2})));
    assert_eq!((site.taken.gaps(), working.sum("gaps_total", "")), (vec![], 0.0));
    working.end().await;
}

/// They had been fetched late themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_its_receipt_is_found_too() {
    let provider = Running::start(Options::default()).await;
    provider.happen(400, 3000).await;
    let site = rare(&provider.base);
    let working = site.work();
    working.polls(1, "ok").await;
    site.taken.lose(&provider.told()[..50], Some(ago(10)), Some(ago(5)));
    working.until("that is noted", || site.kept.damage() == json!({"through": 1})).await;
    assert_eq!((site.ids().len(), site.taken.gaps()), (450, vec![]));
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_listed_is_one_gap_once_the_list_was_read() {
    let provider = Running::start(Options::default()).await;
    provider.happen(200, 3000).await;
    let site = Site::new(&provider.base);
    let working = site.work();
    working.polls(1, "ok").await;
    provider.always(Fault::ServerErrors);
    working.polls(1, "unavailable").await;
    let (from, to) = (ago(600), ago(300));
    let lost = [&provider.told()[190..], &unlisted(5)].concat();
    site.taken.lose(&lost, Some(from), Some(to));
    working.polls(2, "unavailable").await;
    assert_eq!(site.taken.gaps(), [], "it may be listed");
    provider.faults.set(Fault::ServerErrors, 0.0).expect("a part");
    working.until("the gap is told", || working.sum("gaps_total", "acme") == 1.0).await;
    assert_eq!(site.ids().len(), 200 + 10 + 1, "what is listed came before it");
    working.polls(2, "ok").await;
    working.end().await;

    // Neither a restart tells it again, nor hides the next one that begins at the same time.
    let working = site.work();
    working.polls(2, "ok").await;
    assert_eq!(working.sum("gaps_total", ""), 0.0);
    site.taken.lose(&unlisted(7)[5..], Some(from), None);
    working.until("the gap is told", || working.sum("gaps_total", "acme") == 1.0).await;
    working.end().await;
    let gaps = site.taken.gaps();
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert_eq!(gaps[0].1, json!({"from": from, "to": to, "reason": "store_damaged"}));
    assert_eq!(gaps[1].1["from"], json!(from));
    let to: jiff::Timestamp = gaps[1].1["to"].as_str().unwrap().parse().unwrap();
    assert!(to > from && to <= jiff::Timestamp::now(), "{to}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_without_a_list_is_not_waited_for() {
    let canned = Canned::start(vec![reply(404, "{}")]).await;
    let site = rare(&canned.url);
    site.set_cursor(ago(60));
    site.taken.lose(&unlisted(1), Some(ago(20)), Some(ago(10)));
    let working = site.work();
    working.until("the gap is told", || working.sum("gaps_total", "acme") == 1.0).await;
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_new_does_not_go_back_for_what_was_lost_before_it() {
    let provider = Running::start(Options::default()).await;
    provider.happen_ago(40, 600, 2 * 86_400).await;
    let (site, untroubled) = (rare(&provider.base), rare(&provider.base));
    site.taken.lose(&unlisted(3), Some(ago(3 * 86_400)), Some(ago(86_400)));
    site.taken.damaged.send_modify(|spans| spans.iter_mut().for_each(|span| span.is_new = false));
    for _ in 0..2 {
        for site in [&site, &untroubled] {
            let working = site.work();
            working.polls(1, "ok").await;
            working.end().await;
        }
    }
    // What happened within its look back, as where nothing was lost.
    assert_eq!((site.ids(), site.kept.damage()), (untroubled.ids(), json!({"through": 1})));
    assert!(site.ids().len() < 40, "{:?}", site.ids());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_of_which_nothing_could_be_kept_answers_for_what_this_start_finds_lost() {
    let provider = Running::start(Options::default()).await;
    let site = rare(&provider.base);
    site.taken.lose(&unlisted(3), Some(ago(3 * 86_400)), Some(ago(86_400)));
    let working = site.work();
    working.polls(1, "ok").await;
    working.end().await;
    assert_eq!((site.taken.gaps().len(), site.kept.damage()), (1, json!({"through": 1})));
}

/// Tells what is lost, as for a source whose list nobody reads, until that is kept; how many gaps were new.
async fn report(taken: &Arc<Taken>, kept: &Arc<Kept>, through: u64) -> f64 {
    let metrics = Metrics::new("0", "0").unwrap();
    metrics.source("acme");
    let (stop, shutdown) = shutdown::channel();
    let limits = Limits { dedupe_window: Duration::from_secs(8 * 86_400), commit_timeout: PATIENCE, max_in_flight: 1 };
    let log = Arc::clone(taken) as Arc<dyn Log>;
    let intake = Intake::new(log, limits, Arc::new(jiff::Timestamp::now), metrics.clone(), shutdown.clone());
    let reporter = DamageReporter::new(ReporterParts {
        source: "acme".into(),
        team_id: Some("team".to_owned()),
        intake: Arc::new(intake),
        state: Arc::clone(kept) as Arc<dyn State>,
        executor: Executor::default(),
        damaged: taken.damaged.subscribe(),
        metrics: metrics.clone(),
    });
    let task = tokio::spawn(reporter.run(shutdown));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while kept.damage() != json!({"through": through}) {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {:?}", kept.damage());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.fire();
    task.await.unwrap();
    crate::support::daemon::Metrics(metrics.encode().unwrap()).sum("gaps_total", "acme")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_list_it_is_a_gap_at_once_and_once() {
    let (taken, kept) = (Arc::new(Taken::default()), Arc::new(Kept::default()));
    // Samples alone, and what came again by itself.
    taken.lose(&[], Some(ago(50)), Some(ago(40)));
    taken.lose(&unlisted(1), Some(ago(50)), Some(ago(40)));
    taken.damaged.send_modify(|spans| spans[1].recovered = 1);
    assert_eq!(report(&taken, &kept, 2).await, 0.0);
    taken.lose(&unlisted(2), None, Some(ago(30)));
    assert_eq!(report(&taken, &kept, 3).await, 1.0);
    assert_eq!(report(&taken, &kept, 3).await, 0.0, "once");
    let gaps = taken.gaps();
    assert_eq!((gaps.len(), &gaps[0].1["reason"]), (1, &json!("store_damaged")));
    let from: jiff::Timestamp = gaps[0].1["from"].as_str().unwrap().parse().unwrap();
    assert_eq!(jiff::Timestamp::now().duration_since(from).as_hours(), 8 * 24);
}

/// Noted, and killed before it was in the store: whoever reads the list tells it, and whoever does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_that_was_noted_comes_after_a_kill() {
    let provider = Running::start(Options::default()).await;
    let site = rare(&provider.base);
    let (taken, kept) = (Arc::new(Taken::default()), Arc::new(Kept::default()));
    let (from, to, at) = (ago(50), ago(40), ago(1));
    let gap = json!({"from": from, "to": to, "at": at, "reason": "store_damaged"});
    let noted = json!({"through": 4, "gap": gap}).to_string();
    [&site.kept, &kept].iter().for_each(|kept| kept.keep("damage/acme", &noted).unwrap());
    let working = site.work();
    working.polls(1, "ok").await;
    assert_eq!((working.sum("gaps_total", "acme"), site.kept.damage()), (1.0, json!({"through": 4})));
    working.end().await;
    assert_eq!(report(&taken, &kept, 4).await, 1.0);
    for taken in [&site.taken, &taken] {
        let gaps: Vec<Value> = taken.gaps().into_iter().map(|(_, gap)| gap).collect();
        assert_eq!(gaps, [json!({"from": from, "to": to, "reason": "store_damaged"})]);
    }
}
