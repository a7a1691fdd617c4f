//! A broker that is far away: each confirmation takes its time, and the sandboxes do not wait for one another.

use crate::support::brokers::{self, unique};
use crate::support::consume;
use crate::support::daemon::Home;
use crate::support::load::{self, Plan, SECRET};
use crate::support::oracle::{Remains, Terms, judge};
use crate::support::proxy::{Holds, Proxy};
use std::time::Duration;
use tokio::time::Instant;

const DELAY: Duration = Duration::from_millis(50);
const EVENTS: usize = 10_000;

/// A proxy that adds the delay to whatever the broker says, and the broker's address by way of it.
async fn far_away(url: &str) -> (Proxy, String) {
    let (proxy, url) = Proxy::before(url, Holds::Everything).await;
    proxy.delay_answers(DELAY);
    (proxy, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmations_50_ms_late_take_a_twentieth_of_what_they_would_one_by_one() {
    let (_nats, nats) = far_away(&brokers::nats()).await;
    let (_amqp, amqp) = far_away(&brokers::amqp()).await;
    let name = unique("slow");
    let source = format!("sources: {{acme: {{webhook: {{secrets: [\"{SECRET}\"]}}}}}}\nsinks:\n");
    let audit = "  audit: {type: file, path: ./audit.ndjson}\n";
    // All of it is in the log before these two begin, so that the deliveries are no part of what is measured.
    let far = format!(
        r#"
  bus: {{type: nats, servers: ["{nats}"], subject: "{name}.{{{{ sandbox_id }}}}", stream: {{name: {name}, subjects: ["{name}.>"], create: true}}, start: earliest}}
  queue: {{type: amqp, url: "{amqp}", exchange: {name}, declare: {{queue: {name}}}, start: earliest}}
"#
    );
    let home = Home::new(&format!("{source}{audit}"));
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    let plan = Plan { events: EVENTS, sandboxes: 1_000, workers: 50, ..Plan::default() };
    let ledger = load::send(plan, move || webhook.clone()).await.ledger;
    assert_eq!(ledger.acknowledged(), EVENTS);
    assert!(daemon.terminate().await.success());

    home.configure(&format!("{source}{audit}{far}"));
    let began = Instant::now();
    let daemon = home.start().await;
    let settled = async |sink| {
        daemon.until_settled(sink, EVENTS as u64).await;
        began.elapsed()
    };
    let (bus_took, queue_took) = tokio::join!(settled("bus"), settled("queue"));
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("sink_sent_total", "sink=\"bus\""), EVENTS as f64);
    assert_eq!(metrics.sum("sink_sent_total", "sink=\"queue\""), EVENTS as f64);
    assert!(daemon.terminate().await.success());
    let (bus, queue) =
        (consume::jetstream(&brokers::nats(), &name).await, consume::amqp(&brokers::amqp(), &name).await);
    for (sink, got) in [("bus", bus), ("queue", queue)] {
        judge(sink, &got, &Remains::default(), &ledger, Terms::default()).assert_kept();
    }

    let one_by_one = DELAY * EVENTS as u32;
    let longest = ledger.sandboxes().map(|(_, ids)| ids.len()).max().expect("sandboxes");
    println!(
        "{EVENTS} events, each confirmed 50 ms late: NATS {bus_took:?}, AMQP {queue_took:?}; one by one {one_by_one:?}"
    );
    for (sink, took) in [("NATS", bus_took), ("AMQP", queue_took)] {
        assert!(took < one_by_one / 20, "{sink} took {took:?}");
        // Within a sandbox each waits for the one before: less than this would mean that nothing was delayed.
        assert!(took > DELAY * longest as u32, "{sink} took {took:?} for {longest} in a row");
    }
}
