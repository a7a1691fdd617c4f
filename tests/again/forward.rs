use super::{ask, json, source};
use crate::reload::reload;
use crate::simulate::Running;
use crate::support::brokers::{amqp, kafka, nats, unique};
use crate::support::daemon::{Daemon, Home};
use crate::support::{consume, verify};
use e2b_relay::simulator::provider::Options;
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_handed_on_to_their_own_place_on_each_broker() {
    let provider = Running::start(Options::default()).await;
    provider.happen(60, 600).await;
    let name = unique("dead");
    consume::create_topic(&kafka(), &name, 1).await;
    // For a created event it fails, since a template is no number.
    let keys = "filter: 'type.endsWith(\"created\") ? sandbox_template_id * 2 == 4 : true'";
    let home = Home::new(&format!(
        "{}sinks:\n  lake: {{type: kafka, brokers: ['{}'], topic: {name}, dead_letter_to: {name}.dead, {keys}}}\n  \
         bus: {{type: nats, servers: ['{}'], subject: '{name}.live', dead_letter_to: {name}.dead, {keys}, \
         stream: {{name: {name}, subjects: ['{name}.>'], create: true}}}}\n  \
         queue: {{type: amqp, url: '{}', exchange: {name}, declare: {{exchange_type: topic, queue: {name}}}, \
         dead_letter_to: {name}.dead, {keys}}}\n",
        source(&provider),
        kafka(),
        nats(),
        amqp(),
    ));
    let daemon = home.start().await;
    for sink in ["lake", "bus", "queue"] {
        daemon.until("all are settled", |metrics| metrics.settled(sink) == 60).await;
    }
    // The topic is not there yet: they wait, and nothing else does.
    let waiting = json(ask(&home, &daemon, &["dead-letters", "list", "--sink", "lake", "--format", "json"]).await);
    let dead: BTreeSet<String> =
        waiting.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
    assert!(dead.len() > 5, "{waiting}");
    daemon.kill().await;
    consume::create_topic(&kafka(), &format!("{name}.dead"), 1).await;
    let daemon = home.start().await;
    for sink in ["lake", "bus", "queue"] {
        daemon.until("all are handed on", |metrics| metrics.sum("sink_dead_letters", sink) == 0.0).await;
    }
    assert!(daemon.metrics().await.sum("sink_dead_letters_forwarded_total", "lake") >= dead.len() as f64);
    assert!(daemon.terminate().await.success());
    let proof = verify::sound(&home).await;
    assert!(proof["sinks"].as_array().unwrap().iter().all(|sum| sum["dead_lettered"] == dead.len()), "{proof}");

    let ids = |records: Vec<Value>| -> BTreeSet<String> {
        records.iter().map(|record| record["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(consume::kafka(&kafka(), &format!("{name}.dead")).await), dead);
    let of = |messages: Vec<(String, Value)>| -> BTreeSet<String> {
        let there = messages.into_iter().filter(|(address, _)| *address == format!("{name}.dead"));
        ids(there.map(|(_, record)| record).collect())
    };
    assert_eq!(of(consume::amqp_with_keys(&amqp(), &name).await), dead);
    let context = consume::jetstream_context(&nats()).await;
    let mut stream = context.get_stream(&name).await.unwrap();
    let last = stream.info().await.unwrap().state.last_sequence;
    let mut handed_on = BTreeSet::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let header = |name: &str| message.headers.get(name).map(ToString::to_string);
        if *message.subject == format!("{name}.dead") {
            assert_eq!(header("e2b-relay-dead-letter").as_deref(), Some("filter"));
            assert!(header("e2b-relay-error").is_some_and(|error| !error.is_empty()));
            handed_on.insert(header("e2b-event-id").unwrap());
        }
    }
    assert_eq!(handed_on, dead);
}

/// Calls by which the daemon has read from files.
fn reads(daemon: &Daemon) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", daemon.pid())).unwrap();
    text.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

/// How many more, while it answers 300 times.
async fn reads_of_300_answers(daemon: &Daemon) -> u64 {
    let before = reads(daemon);
    for _ in 0..300 {
        daemon.metrics().await;
    }
    reads(daemon) - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_cannot_be_read_is_told_while_the_others_are_handed_on() {
    let provider = Running::start(Options::default()).await;
    provider.happen(40, 600).await;
    let name = unique("unread");
    let settings = |more: &str| {
        format!(
            "{}sinks:\n  bus: {{type: nats, servers: ['{}'], subject: '{name}.live'{more}, \
             filter: 'type.endsWith(\"created\") ? sandbox_template_id * 2 == 4 : true', \
             stream: {{name: {name}, subjects: ['{name}.>'], create: true}}}}\n",
            source(&provider),
            nats(),
        )
    };
    let home = Home::new(&settings(""));
    let daemon = home.start().await;
    daemon.until("all are settled", |metrics| metrics.settled("bus") == 40).await;
    let list = ["dead-letters", "list", "--sink", "bus", "--format", "json"];
    let dead = json(ask(&home, &daemon, &list).await);
    let dead: Vec<&str> = dead.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    assert!(dead.len() > 5, "{dead:?}");
    // One byte of the second one's body, under the daemon.
    let file = home.path().join("data/dead-letters/letters.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(dead[1].len()).rposition(|window| window == dead[1].as_bytes()).unwrap();
    bytes[at] ^= 1;
    let opened = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&opened, &bytes[at..=at], at as u64).unwrap();
    let usual = reads_of_300_answers(&daemon).await;

    home.configure(&settings(&format!(", dead_letter_to: {name}.dead")));
    let seen = daemon.log().len();
    reload(&daemon).await;
    daemon.until("the others are handed on", |metrics| metrics.sum("sink_dead_letters", "bus") == 0.0).await;
    // It is lost, told and counted, and its bytes are kept for people.
    daemon.says(seen, "dead letters are damaged: these bytes are passed over").await;
    let metrics = daemon.metrics().await;
    assert_eq!(metrics.sum("sink_dead_letters_forwarded_total", "bus"), (dead.len() - 1) as f64);
    assert_eq!(metrics.sum("store_damaged_total", ""), 1.0);
    let now = reads_of_300_answers(&daemon).await;
    assert!(now < 2 * usual + 500, "{now} reads where there were {usual}: it is tried again and again");
    let retry = ["dead-letters", "retry", "--sink", "bus", "--all", "--format", "json"];
    let (code, out, err) = ask(&home, &daemon, &retry).await;
    let tally: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out}{err}"));
    assert_eq!((&tally["found"], &tally["sent"], &tally["rejected"]), (&0.into(), &0.into(), &0.into()), "{tally}");
    assert!(daemon.terminate().await.success());
}
