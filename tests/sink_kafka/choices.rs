//! What can be chosen of how records are sent: a fallback topic, no idempotence.

use super::*;

/// Sends as `deliver` does: all at once, and those that failed again in their order, until each is confirmed.
async fn send_as_deliver_does(sink: &Kafka, mut records: Vec<Arc<Outgoing>>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !records.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "{} records were never taken", records.len());
        let mut sent = Vec::new();
        for records in records.chunks(50) {
            sent.extend(records.iter().map(|record| sink.send(Arc::clone(record))));
            // Reports are served meanwhile.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let outcomes = tokio::time::timeout(PATIENCE, join_all(sent)).await.expect("records without a report");
        let failed = records.into_iter().zip(outcomes).filter(|(record, outcome)| match outcome {
            Ok(()) => false,
            Err(SendError::Retry { .. }) => true,
            Err(error) => panic!("{}: {error:?}", record.id),
        });
        records = failed.map(|(record, _)| record).collect();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_nobody_has_goes_to_the_fallback_topic_in_order_and_says_which_it_was() {
    let brokers = kafka();
    let (known, missing, fallback) = (unique("e2b-known"), unique("e2b-missing"), unique("e2b-rest"));
    for topic in [&known, &fallback] {
        create_topic(&brokers, topic, &[]).await;
    }
    // Soon known to be missing, so that the records lie on both sides of that moment.
    let soon = [("topic.metadata.propagation.max.ms", "30")];
    let settings =
        Settings { fallback_topic: Some(fallback.clone()), ..settings(&brokers, "e2b-{{ event_data.x }}", &soon) };
    settings.check().unwrap();
    let sink = Kafka::new(&settings).unwrap();
    let (sandboxes, each) = (20, 500);
    let records = interleaved(&missing, sandboxes, 0..each);
    let others = interleaved(&known, sandboxes, 0..each);
    let mixed = records.into_iter().zip(others).flat_map(|(one, other)| [one, other]).collect();
    send_as_deliver_does(&sink, mixed).await;
    sink.close().await;

    let found = read(&brokers, &fallback).await;
    assert_complete(&found, sandboxes, each);
    assert!(found.iter().all(|found| found.headers["e2b-relay-topic"] == missing));
    let found = read(&brokers, &known).await;
    assert_complete(&found, sandboxes, each);
    assert!(found.iter().all(|found| !found.headers.contains_key("e2b-relay-topic")));
}

#[tokio::test]
async fn a_fallback_topic_that_is_missing_too_halts_the_sink_until_it_is_there() {
    let (brokers, missing, fallback) = (kafka(), unique("e2b-missing"), unique("e2b-rest"));
    let soon = [("topic.metadata.propagation.max.ms", "30")];
    let settings = Settings { fallback_topic: Some(fallback.clone()), ..settings(&brokers, "e2b-{{ id }}", &soon) };
    let sink = Kafka::new(&settings).unwrap();
    for outcome in send(&sink, &interleaved(&missing, 2, 0..3)).await {
        assert_eq!(retry_reason(&outcome), Reason::Unroutable);
        assert!(outcome.unwrap_err().to_string().contains("fallback_topic"));
    }
    match sink.probe().await {
        Err(SendError::Retry { reason: Reason::Unroutable, message, .. }) => assert!(message.contains(&fallback)),
        other => panic!("{other:?}"),
    }
    create_topic(&brokers, &fallback, &[]).await;
    send_as_deliver_does(&sink, interleaved(&missing, 2, 0..3)).await;
    assert_complete(&read(&brokers, &fallback).await, 2, 3);
}

#[tokio::test]
async fn without_idempotence_no_right_to_it_is_needed_and_the_order_is_kept() {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic("mock", PARTITIONS, 3).unwrap();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied; 100]);
    // Many requests, so that those behind a failed one would overtake it.
    let one_each = settings(&cluster.bootstrap_servers(), "mock", &[("batch.num.messages", "1")]);
    let sink = Kafka::new(&Settings { idempotence: false, ..one_each }).unwrap();
    let timed_out = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT;
    cluster.request_errors(RDKafkaApiKey::Produce, &[timed_out; 5]);
    for outcome in send(&sink, &interleaved("mock", 10, 0..20)).await {
        outcome.unwrap();
    }
    assert_complete(&read(&cluster.bootstrap_servers(), "mock").await, 10, 20);
}
