//! A bad day: deliveries dropped and repeated, pages that shift, an API that fails, and a relay that is killed. In the
//! end every event that the provider ever told of is in JetStream once.

use crate::simulate::{KEY, Running};
use crate::support::brokers::{self, unique};
use crate::support::consume::{self, Records};
use crate::support::daemon::{Home, Metrics, PATIENCE};
use crate::support::forward::Forwarder;
use crate::support::load::SECRET;
use crate::support::verify;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

const EVENTS: usize = 4_000;
const KILLS: usize = 3;
/// Of a sink: what a kill may have it send again.
const IN_FLIGHT: usize = 1_000;

const FAULTS: [(Fault, f64); 9] = [
    (Fault::DropDeliveries, 0.3),
    (Fault::RepeatDeliveries, 0.1),
    (Fault::ShiftingPages, 0.3),
    // Longer than deliveries take, so that the log of those that failed is sometimes the first to tell.
    (Fault::LateRows, 0.1),
    // Together 5 % of the replies.
    (Fault::RateLimit, 0.01),
    (Fault::RateLimitHtml, 0.01),
    (Fault::HtmlErrors, 0.01),
    (Fault::SlowReplies, 0.01),
    (Fault::TruncatedReplies, 0.01),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_ever_told_is_in_jetstream_once_and_in_the_file_over_a_bad_day() {
    let seed = std::env::var("E2B_RELAY_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("everything: E2B_RELAY_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let front = Forwarder::start("http://127.0.0.1:1").await;
    let provider = Running::start(Options {
        seed,
        deliver_to: Some((format!("{}/webhooks/e2b", front.url), SECRET.to_owned().into())),
        // Shorter than a restart takes, so that some are given up.
        retry_pause: Duration::from_millis(20),
        slow_by: Duration::from_secs(3),
        late_by: Duration::from_secs(10),
        ..Options::default()
    })
    .await;
    let (api, _) = crate::e2b::api_at(&provider.base);
    let webhook = api.webhooks().await.unwrap().value.remove(0).id;
    for (fault, part) in FAULTS {
        provider.faults.set(fault, part).unwrap();
    }
    let (nats, stream) = (brokers::nats(), unique("everything"));
    let home = Home::new(&format!(
        "sources:\n  acme:\n    webhook: {{secrets: ['{SECRET}']}}\n    \
         api: {{url: '{}', api_key: {KEY}, timeout: 1s}}\n    \
         backfill: {{interval: 1s, overlap: 20s, webhook_id: {webhook}}}\n\
         sinks:\n  audit: {{type: file, path: ./audit.ndjson}}\n  \
         bus: {{type: nats, servers: ['{nats}'], subject: '{stream}.{{{{ type }}}}.{{{{ sandbox_id }}}}', \
         stream: {{name: {stream}, subjects: ['{stream}.>'], create: true}}}}\n",
        provider.base
    ));
    let mut daemon = home.start().await;
    front.retarget(&format!("http://{}", daemon.public));
    let mut kill_at: Vec<usize> = (0..KILLS).map(|_| random.usize(EVENTS / 10..EVENTS)).collect();
    kill_at.sort_unstable();
    for told in (0..EVENTS).step_by(20) {
        provider.happen(20, 0).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        while kill_at.first().is_some_and(|at| *at <= told) {
            kill_at.remove(0);
            daemon.kill().await;
            // Nobody takes these.
            provider.happen(40, 0).await;
            verify::sound(&home).await;
            daemon = home.start().await;
            front.retarget(&format!("http://{}", daemon.public));
        }
    }
    // From here on nothing happens any more; the API goes on failing.
    provider.faults.set(Fault::ShiftingPages, 0.0).unwrap();
    let told: HashSet<String> = provider.told().into_iter().collect();
    let file = home.path().join("audit.ndjson");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(&file).unwrap();
        let missing = told.iter().filter(|id| !text.contains(id.as_str())).count();
        if missing == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{missing} of {} are still missing", told.len());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    daemon.until("JetStream has caught up", |metrics: &Metrics| metrics.sum("sink_lag_events", "") == 0.0).await;
    let requests = daemon.metrics().await.of("e2b_relay_api_requests_total{");
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
    let bus = consume::jetstream(&nats, &stream).await;
    let audit = consume::file(&file);
    println!("{KILLS} kills; {}", provider.ledger.summary());
    println!("came by {:?}; calls since the last start:", by_way(&bus));
    requests.lines().filter(|line| !line.ends_with(" 0")).for_each(|line| println!("  {line}"));
    for (name, records, allowed) in [("JetStream", &bus, 0), ("file", &audit, KILLS * IN_FLIGHT)] {
        let ids: HashSet<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
        let missing = told.iter().filter(|id| !ids.contains(id.as_str())).count();
        let doubled = records.len() - ids.len();
        println!("{name}: {} told, {missing} missing, {doubled} doubled", told.len());
        assert_eq!((missing, ids.len()), (0, told.len()), "{name}");
        assert!(doubled <= allowed, "{name}: {doubled} doubled");
    }
    assert!(by_way(&bus)["backfill"] > EVENTS / 5, "the poll had little to do");
}

/// How many came by which way: what only the log of failed deliveries told names the attempt.
fn by_way(records: &Records) -> BTreeMap<&str, usize> {
    let mut ways = BTreeMap::new();
    for record in records {
        let way = match (record["relay"]["origin"].as_str().unwrap(), &record["relay"]["delivery_id"]) {
            ("backfill", serde_json::Value::String(_)) => "failed deliveries",
            (origin, _) => origin,
        };
        *ways.entry(way).or_default() += 1;
    }
    ways
}
