//! What an operator, or the broker itself, does beside the relay: queues and exchanges deleted, connections closed,
//! publishers blocked, servers away.

use super::*;
use crate::support::daemon::{Home, reqwest_client};
use crate::support::load::{self, Plan, SECRET};
use e2b_relay::sink::amqp::ExchangeType;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use serde_json::Value;

/// For what a broker may take its time with.
const STEP: Duration = Duration::from_millis(50);

#[tokio::test]
async fn what_was_deleted_by_hand_is_declared_again() {
    let url = amqp();
    let (settings, name) = declaring(&url);
    let sink = sink(Settings { unroutable: Unroutable::DeadLetter, ..settings });
    let records = records(|sandbox| format!("key.{sandbox}"), 300, 1);
    let (first, rest) = records.split_at(100);
    let (second, third) = rest.split_at(100);
    let (_connection, channel) = channel(&url).await;
    assert_eq!(deliver_all(&sink, first).await, 100);
    assert_eq!(taken_ids(&url, &name).await.len(), 100);

    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    // Not one is a dead letter, and none has to be sent again.
    for sent in join_all(second.iter().map(|record| outcome(sink.send(record.clone())))).await {
        sent.expect("delivered");
    }
    assert_each_once_in_order(&taken_ids(&url, &name).await, second);

    channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default()).await.expect("deleted");
    for sent in join_all(third.iter().map(|record| outcome(sink.send(record.clone())))).await {
        sent.expect("delivered");
    }
    assert_each_once_in_order(&taken_ids(&url, &name).await, third);
}

#[tokio::test]
async fn a_queue_that_was_declared_otherwise_meanwhile_halts_the_sink() {
    let url = amqp();
    let (settings, name) = declaring(&url);
    let sink = sink(settings);
    outcome(sink.send(record("key", "sbx", 0))).await.expect("delivered");
    let (_connection, channel) = channel(&url).await;
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.expect("deleted");
    let transient = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), transient, FieldTable::default()).await.expect("declared");
    let sent = outcome(sink.send(record("key", "sbx", 1))).await;
    let message = assert_retry(&sent, Scope::Sink, Reason::Rejected);
    assert!(message.contains(&name), "{message}");
}

#[tokio::test]
async fn of_several_servers_the_first_that_takes_us_is_taken() {
    let url = amqp();
    let proxy = Proxy::start(host(&url), Holds::AmqpConfirmations).await;
    // Bound and dropped: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let (settings, name) = declaring("");
    let urls = |logins: [&str; 3]| {
        let [nobody, proxied, direct] = logins;
        [nobody, proxied, direct].map(Secret::new).to_vec()
    };
    let [away, near] = [nobody, proxy.address()].map(|address| by_way_of(&url, "amqp", address));
    let several = sink(Settings { urls: urls([&away, &near, &url]), ..settings.clone() });
    assert_eq!(
        several.peer(),
        format!("amqp://{nobody}/%2f, amqp://{}/%2f, amqp://{}/%2f", proxy.address(), host(&url))
    );
    let records = records(|sandbox| format!("key.{sandbox}"), 20, 2);
    let (early, late) = records.split_at(20);
    proxy.hold_answers_until(PUBLISH, 20);
    deliver_all(&several, early).await;
    assert_eq!(proxy.seen(), 20, "the second server was not the one");
    // It goes away: the third, at once.
    proxy.refuse(true);
    proxy.cut();
    deliver_all(&several, late).await;
    assert_eq!(proxy.seen(), 20);
    assert_each_once_in_order(&taken_ids(&url, &name).await, &records);

    let denied = format!("amqp://relay:canary@{}/%2f", host(&url));
    let none = sink(Settings { urls: urls([&away, &denied, &away]), ..settings });
    let message = assert_retry(&outcome(none.send(record("key", "sbx", 0))).await, Scope::Sink, Reason::Auth);
    assert_eq!(message.matches("cannot connect to").count(), 3, "{message}");
    assert!(!message.contains("canary"), "{message}");
}

/// The names of the relay's connections, as the management API has them.
async fn connections(client: &reqwest::Client, api: &str) -> Vec<String> {
    let answer = client.get(format!("{api}/api/connections")).send().await.expect("the management API");
    let listed: Vec<Value> = serde_json::from_slice(&answer.bytes().await.expect("an answer")).expect("a list");
    let ours = listed.iter().filter(|one| one["client_properties"]["connection_name"] == "e2b-relay");
    ours.filter_map(|one| one["name"].as_str()).map(str::to_owned).collect()
}

async fn closed_by_the_management_api(broker: &Broker) {
    let (url, api, client) = (broker.address(), broker.api(), reqwest_client());
    let (settings, name) = declaring(&url);
    let sink = sink(settings);
    let records = records(|sandbox| format!("key.{sandbox}"), 10, 2);
    let (early, late) = records.split_at(10);
    deliver_all(&sink, early).await;
    let closed = async {
        loop {
            let names = connections(&client, &api).await;
            for name in &names {
                let name = name.replace(' ', "%20").replace('>', "%3E").replace(':', "%3A");
                let closing = client.delete(format!("{api}/api/connections/{name}"));
                closing.send().await.expect("the management API").error_for_status().expect("closed");
            }
            if !names.is_empty() {
                return;
            }
            tokio::time::sleep(STEP).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("the connection is listed");
    deliver_all(&sink, late).await;
    assert_each_once_in_order(&first_copies(&taken_ids(&url, &name).await), &records);
}

/// RabbitMQ counts what it uses anew every second or so.
async fn until_blocked(sink: &Amqp) -> String {
    let blocked = async {
        loop {
            if let Some((reason, message)) = sink.trouble() {
                assert_eq!(reason, Reason::Rejected);
                return message;
            }
            tokio::time::sleep(STEP).await;
        }
    };
    timeout(PATIENCE, blocked).await.expect("the broker blocks publishers")
}

async fn blocked_and_unblocked(broker: &Broker) {
    let url = broker.address();
    let (settings, name) = declaring(&url);
    // Shorter than the block: a blocked broker is not one that is late.
    let sink = sink(Settings { ack_timeout: Duration::from_secs(3), ..settings });
    let records = records(|sandbox| format!("key.{sandbox}"), 400, 1);
    let (early, late) = records.split_at(10);
    deliver_all(&sink, early).await;
    assert_eq!(sink.trouble(), None);

    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
    // More than may be unconfirmed at once.
    let sends = join_all(late.iter().map(|record| outcome(sink.send(record.clone()))));
    let sends = tokio::spawn(sends);
    let message = until_blocked(&sink).await;
    assert!(message.contains("blocks publishers (low on memory)"), "{message}");
    let probed = sink.probe().await.expect_err("blocked").to_string();
    assert!(probed.contains("low on memory"), "{probed}");
    // Twice the time that a confirmation may take: by now each would have been given up.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!sends.is_finished());

    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
    for sent in sends.await.expect("no panic") {
        sent.expect("delivered at the first attempt");
    }
    assert_eq!(sink.trouble(), None);
    // Each once: what waited was not sent a second time.
    assert_each_once_in_order(&taken_ids(&url, &name).await, &records);
}

async fn closed_while_blocked(broker: &Broker) {
    let url = broker.address();
    let (settings, _) = declaring(&url);
    let sink = sink(Settings { ack_timeout: NEVER, ..settings });
    deliver_all(&sink, &[record("key", "sbx", 0)]).await;
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
    let records = records(|sandbox| format!("key.{sandbox}"), 400, 1);
    let sends =
        tokio::spawn(join_all(records.iter().map(|record| outcome(sink.send(record.clone()))).collect::<Vec<_>>()));
    until_blocked(&sink).await;
    timeout(PATIENCE, sink.close()).await.expect("a sink can be closed");
    for sent in sends.await.expect("no panic") {
        assert_retry(&sent, Scope::Sink, Reason::Connect);
    }
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
}

/// A daemon shows it as a sink that is down, takes deliveries as ever, and goes on when it is over.
async fn a_daemon_tells_of_it(broker: &Broker) {
    let (url, name) = (broker.address(), unique("blocked"));
    let home = Home::new(&format!(
        r#"
sources: {{acme: {{webhook: {{secrets: ["{SECRET}"]}}}}}}
sinks:
  queue: {{type: amqp, url: "{url}", exchange: {name}, declare: {{queue: {name}}}}}
"#
    ));
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    let send = |events: usize, seed: u64| {
        let webhook = webhook.clone();
        let plan = Plan { events, seed, ..Plan::default() };
        async move { load::send(plan, move || webhook.clone()).await.ledger.acknowledged() }
    };
    assert_eq!(send(10, 1).await, 10);
    daemon.until_settled("queue", 10).await;
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
    assert_eq!(send(500, 2).await, 500);
    let down = |metrics: &crate::support::daemon::Metrics| metrics.sum("sink_up", "sink=\"queue\"") == 0.0;
    daemon.until("the sink is shown as down", down).await;
    assert!(daemon.metrics().await.sum("sink_errors_total", "reason=\"rejected\",sink=\"queue\"") >= 1.0);
    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
    daemon.until_settled("queue", 510).await;
    let up = |metrics: &crate::support::daemon::Metrics| metrics.sum("sink_up", "sink=\"queue\"") == 1.0;
    daemon.until("the sink is shown as up", up).await;
    assert!(daemon.terminate().await.success());
    assert_eq!(taken(&url, &name).await.len(), 510, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_close_connections_and_a_broker_may_block_publishers() {
    let broker = Broker::start(Kind::RabbitMq).await;
    closed_by_the_management_api(&broker).await;
    blocked_and_unblocked(&broker).await;
    closed_while_blocked(&broker).await;
    a_daemon_tells_of_it(&broker).await;
}

#[tokio::test]
async fn an_oversized_record_is_told_apart_from_those_beside_it() {
    // The limit of 4 MiB is the private ones', see tests/brokers/rabbitmq.
    let broker = Broker::start(Kind::RabbitMq).await;
    let url = broker.address();
    let (mut settings, name) = declaring(&url);
    settings.declare.as_mut().expect("declaring").exchange_type = ExchangeType::Fanout;
    let sink = sink(settings);
    let mut records = records(|sandbox| format!("key.{sandbox}"), 100, 1);
    let large = Outgoing { payload: vec![b'x'; 5 << 20].into(), ..(*records[50]).clone() };
    records[50] = Arc::new(large);
    let outcomes = join_all(records.iter().map(|record| outcome(sink.send(record.clone())))).await;
    for (number, sent) in outcomes.iter().enumerate() {
        match number {
            50 => assert!(matches!(sent, Err(SendError::Reject { reason: Reason::TooLarge, .. })), "{sent:?}"),
            _ => assert_eq!(*sent, Ok(()), "{number}"),
        }
    }
    assert_eq!(taken(&url, &name).await.len(), 99, "each but that one, and each once");
}
