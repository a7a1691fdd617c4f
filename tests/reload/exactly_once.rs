//! A sink that writes its position together with the records is renamed and changed under load: nothing comes twice.

use super::reload;
use crate::support::brokers::{self, unique};
use crate::support::consume;
use crate::support::daemon::{Home, PATIENCE};
use crate::support::load::{Ongoing, SECRET};
use crate::support::oracle::{self, Got, Terms};
use crate::support::verify;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;

const ROUNDS: usize = 5;

/// What is committed in a topic of one partition: its offsets have gaps, so that the end tells that it is all.
fn committed(brokers: &str, topic: &str) -> Vec<Got> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "tests").set("enable.auto.commit", "false");
    config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let mut records = Vec::new();
    loop {
        match consumer.poll(PATIENCE).expect("an end") {
            Ok(message) => records.push(serde_json::from_slice(message.payload().unwrap()).unwrap()),
            Err(KafkaError::PartitionEOF(_)) => return records,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_with_transactions_goes_on_under_new_names_without_a_loss_or_a_copy() {
    let (kafka, topic) = (brokers::kafka(), unique("reload"));
    consume::create_topic(&kafka, &topic, 1).await;
    let with = |round: usize| {
        let renamed = round.checked_sub(1).map(|before| format!(", renamed_from: lake_{before}")).unwrap_or_default();
        format!(
            "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks:\n  lake_{round}: {{type: kafka, brokers: \
             ['{kafka}'], topic: {topic}, exactly_once: true, max_in_flight: {}{renamed}}}\n",
            500 + round
        )
    };
    let home = Home::new(&with(0));
    let daemon = home.start().await;
    let load = Ongoing::begin("reloads with transactions", |_| json!("usual"));
    for round in 1..=ROUNDS {
        load.top_up(daemon.webhook(), 1_500);
        let sent = format!("sink=\"lake_{}\"", round - 1);
        daemon.until("some of it is sent", |metrics| metrics.sum("sink_sent_total", &sent) > 100.0).await;
        home.configure(&with(round));
        let (begun, gone) = reload(&daemon).await;
        assert_eq!((begun, gone), (vec![format!("lake_{round}")], vec![format!("lake_{}", round - 1)]));
    }
    let ledger = load.end().await;
    let last = format!("lake_{ROUNDS}");
    let label = format!("sink=\"{last}\"");
    daemon.until("all of it is sent", |metrics| metrics.sum("sink_lag_events", &label) == 0.0).await;
    assert!(daemon.terminate().await.success());
    let proof = verify::sound(&home).await;
    let remains = verify::remains(&home, &proof, &last);
    let got = tokio::task::spawn_blocking(move || committed(&kafka, &topic)).await.unwrap();
    let verdict = oracle::judge(&last, &got, &remains, &ledger, Terms::default());
    verdict.assert_kept();
    assert_eq!(verdict.delivered, ledger.acknowledged(), "{verdict:?}");
}
