//! Batches that are committed together with the position, at the sink and a real broker.

use super::*;
use crate::support::consume;
use e2b_relay::sink::{CommitError, Transactions};

fn exactly_once(topic: &str) -> Settings {
    Settings { exactly_once: true, ..settings(&kafka(), topic, &[]) }
}

async fn topic(config: &[(&str, &str)]) -> String {
    let topic = unique("sink-kafka-tx");
    consume::create_positions(&kafka()).await;
    create_topic(&kafka(), &topic, config).await;
    topic
}

fn transactions(sink: &Kafka) -> &dyn Transactions {
    sink.transactions().expect("exactly_once is asked for")
}

/// A position's name that no other test has.
fn name() -> [String; 1] {
    [format!("{}/lake", unique("store"))]
}

async fn open(sink: &Kafka, names: &[String]) -> Option<String> {
    tokio::time::timeout(PATIENCE, transactions(sink).open(names)).await.expect("not opened in time").unwrap()
}

async fn commit(sink: &Kafka, records: &[Arc<Outgoing>], position: &str) -> Result<(), CommitError> {
    let committing = transactions(sink).commit(records, position.to_owned());
    tokio::time::timeout(PATIENCE, committing).await.expect("not committed in time")
}

/// What a consumer sees that reads what is committed, by sandbox.
async fn committed(topic: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for (key, payload) in consume::kafka_committed(&kafka(), topic).await {
        found.entry(key).or_default().push(String::from_utf8(payload).unwrap().trim().to_owned());
    }
    found
}

fn records(topic: &str, numbers: std::ops::Range<usize>) -> Vec<Arc<Outgoing>> {
    numbers.map(|number| record(topic, "sandbox-0", number)).collect()
}

fn numbers(numbers: impl Iterator<Item = usize>) -> BTreeMap<String, Vec<String>> {
    BTreeMap::from([("sandbox-0".to_owned(), numbers.map(|number| number.to_string()).collect())])
}

#[tokio::test]
async fn a_batch_and_its_position_are_there_together_and_who_comes_later_shuts_out_who_came_before() {
    let topic = topic(&[]).await;
    let names = name();
    let [first, second] = [(); 2].map(|()| Kafka::new(&exactly_once(&topic)).unwrap());
    assert_eq!(open(&first, &names).await, None);
    assert_eq!(commit(&first, &records(&topic, 1..4), "three").await, Ok(()));
    assert_eq!(commit(&first, &records(&topic, 4..6), "five").await, Ok(()));

    assert_eq!(open(&second, &names).await, Some("five".to_owned()));
    let late = commit(&first, &records(&topic, 6..8), "seven").await;
    assert!(matches!(late, Err(CommitError::Unknown(_))), "{late:?}");
    assert_eq!(commit(&second, &records(&topic, 6..7), "six").await, Ok(()));
    assert_eq!(committed(&topic).await, numbers(1..7));

    // The first asks, and is told.
    assert_eq!(open(&first, &names).await, Some("six".to_owned()));
    assert_eq!(commit(&first, &records(&topic, 7..8), "seven").await, Ok(()));
    assert_eq!(committed(&topic).await, numbers(1..8));

    // Under a new name what stands under the old one counts, until there is something under the new one.
    let renamed = [format!("{}-new", names[0]), names[0].clone()];
    assert_eq!(open(&second, &renamed).await, Some("seven".to_owned()));
    assert_eq!(commit(&second, &records(&topic, 8..9), "eight").await, Ok(()));
    assert_eq!(open(&second, &renamed).await, Some("eight".to_owned()));
    assert_eq!(open(&first, &names).await, Some("seven".to_owned()));
}

#[tokio::test]
async fn two_names_do_not_disturb_each_other() {
    let topic = topic(&[]).await;
    let sinks = [(); 2].map(|()| (Kafka::new(&exactly_once(&topic)).unwrap(), name()));
    for (sink, names) in &sinks {
        assert_eq!(open(sink, names).await, None);
    }
    for number in 0..10 {
        for (sink, _) in &sinks {
            assert_eq!(commit(sink, &records(&topic, number..number + 1), "some").await, Ok(()));
        }
    }
    assert_eq!(committed(&topic).await, numbers((0..10).flat_map(|number| [number, number])));
}

#[tokio::test]
async fn a_record_that_is_refused_takes_nothing_along_and_is_named() {
    let topic = topic(&[("max.message.bytes", "3000")]).await;
    let settings = Settings { compression: e2b_relay::sink::kafka::Compression::None, ..exactly_once(&topic) };
    let sink = Kafka::new(&settings).unwrap();
    open(&sink, &name()).await;
    let mut batch = records(&topic, 1..20);
    batch.insert(7, sized(&topic, "sandbox-0", 1_000, 4_000));
    let mut tries = 0;
    let refused = loop {
        tries += 1;
        match commit(&sink, &batch, "twenty").await {
            Err(CommitError::Aborted(error)) => assert!(tries < 3, "{error:?}"),
            Err(CommitError::Refused(refused)) => break refused,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        matches!(&refused[..], [(1_000, SendError::Reject { reason: Reason::TooLarge, .. })]),
        "one record is guilty: {refused:?}"
    );
    assert!(committed(&topic).await.is_empty(), "part of an aborted batch is visible");
    batch.remove(7);
    let mut tries = 0;
    while let Err(error) = commit(&sink, &batch, "twenty").await {
        tries += 1;
        assert!(tries < 3 && matches!(error, CommitError::Aborted(_)), "{error:?}");
    }
    assert_eq!(committed(&topic).await, numbers(1..20));
}

#[tokio::test]
async fn a_topic_that_a_record_made_is_refused_or_replaced_within_a_transaction() {
    let known = topic(&[]).await;
    let missing = unique("sink-kafka-tx-missing");
    let batch = [record(&known, "sandbox-0", 1), record(&missing, "sandbox-0", 2), record(&known, "sandbox-0", 3)];
    let soon = Properties::from_iter([("topic.metadata.propagation.max.ms", "30")]);
    let templated = Settings { librdkafka: soon, ..exactly_once("sink-{{ id }}") };
    let sink = Kafka::new(&templated).unwrap();
    open(&sink, &name()).await;
    match commit(&sink, &batch, "three").await {
        Err(CommitError::Refused(refused)) => {
            assert!(matches!(&refused[..], [(2, SendError::Reject { reason: Reason::Unroutable, .. })]), "{refused:?}");
        }
        other => panic!("{other:?}"),
    }
    let fallback = topic(&[]).await;
    let sink = Kafka::new(&Settings { fallback_topic: Some(fallback.clone()), ..templated }).unwrap();
    open(&sink, &name()).await;
    let mut tries = 0;
    while let Err(error) = commit(&sink, &batch, "three").await {
        tries += 1;
        assert!(tries < 3 && matches!(error, CommitError::Aborted(_)), "{error:?}");
    }
    assert_eq!(committed(&known).await, numbers([1, 3].into_iter()));
    assert_eq!(committed(&fallback).await, numbers([2].into_iter()));
}

#[tokio::test]
async fn what_is_sent_outside_of_a_transaction_arrives_too() {
    let topic = topic(&[]).await;
    let sink = Kafka::new(&exactly_once(&topic)).unwrap();
    open(&sink, &name()).await;
    assert_eq!(commit(&sink, &records(&topic, 1..2), "one").await, Ok(()));
    for outcome in send(&sink, &records(&topic, 2..4)).await {
        assert_eq!(outcome, Ok(()));
    }
    assert_eq!(committed(&topic).await, numbers(1..4));
}
