//! A sink gets another's position by `renamed_from`, whatever its name stood for before: whole, or not at all.

use super::{IN_FORCE, SECRET, deliver, ids, refused, reload};
use crate::admin::{asking, command, run};
use crate::support::brokers::{kafka, unique};
use crate::support::daemon::{Daemon, Home, Metrics, PATIENCE};
use crate::support::{consume, seed, verify};
use serde_json::Value;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// No broker is there.
const DOWN: &str =
    r#"type: nats, servers: ["nats://127.0.0.1:1"], subject: "e2b.{{ type }}", stream: {name: E2B}, start: earliest"#;

/// One source, and these sinks.
fn with(sinks: &[(&str, &str)]) -> String {
    let mut text = format!("sources: {{acme: {{webhook: {{secrets: [{SECRET}]}}}}}}\nsinks:\n");
    for (name, keys) in sinks {
        writeln!(text, "  {name}: {{{keys}}}").unwrap();
    }
    text
}

/// How a new configuration comes into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Hangup,
    Restart,
    /// SIGKILL at once after the reload.
    Kill,
}

const ALL: [How; 3] = [How::Hangup, How::Restart, How::Kill];

/// The daemon with that configuration in force, and what its log said on the way there.
async fn apply(how: How, home: &Home, daemon: Daemon, configuration: &str) -> (Daemon, String) {
    match how {
        How::Hangup | How::Kill => {
            home.configure(configuration);
            let seen = daemon.log().len();
            reload(&daemon).await;
            let said = daemon.log()[seen..].join("\n");
            if how == How::Hangup {
                return (daemon, said);
            }
            daemon.kill().await;
            (home.start().await, said)
        }
        How::Restart => {
            assert!(daemon.terminate().await.success());
            home.configure(configuration);
            let daemon = home.start().await;
            let said = daemon.log().join("\n");
            (daemon, said)
        }
    }
}

fn names(numbers: RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| format!("event-{number}")).collect()
}

/// Each is one more in the log.
async fn accept(daemon: &Daemon, numbers: RangeInclusive<u32>) {
    for id in names(numbers) {
        assert_eq!(deliver(daemon, "/webhooks/e2b", SECRET, &id).await, 200);
    }
}

/// What that file of a sink has: these, in their order, and each once.
async fn has(home: &Home, daemon: &Daemon, sink: &str, file: &str, numbers: RangeInclusive<u32>) {
    let (file, expected, label) = (home.path().join(file), names(numbers), format!("sink=\"{sink}\""));
    let done =
        |metrics: &Metrics| metrics.sum("sink_lag_events", &label) == 0.0 && ids(file.clone()).len() >= expected.len();
    daemon.until(&format!("{sink} has {} records", expected.len()), done).await;
    assert_eq!(ids(file), expected, "sink {sink}");
}

/// The same, where a kill may have come between: then first copies count.
async fn has_since(how: How, home: &Home, daemon: &Daemon, [sink, file]: [&str; 2], numbers: RangeInclusive<u32>) {
    if how != How::Kill {
        return has(home, daemon, sink, file, numbers).await;
    }
    let (file, expected, label) = (home.path().join(file), names(numbers), format!("sink=\"{sink}\""));
    let first_copies = || {
        let mut seen = std::collections::HashSet::new();
        ids(file.clone()).into_iter().filter(|id| seen.insert(id.clone())).collect::<Vec<_>>()
    };
    let done =
        |metrics: &Metrics| metrics.sum("sink_lag_events", &label) == 0.0 && first_copies().len() >= expected.len();
    daemon.until("what is to come has come", done).await;
    assert_eq!(first_copies(), expected, "sink {sink}");
}

async fn sinks(home: &Home, daemon: &Daemon) -> Value {
    run(asking(home, daemon, &["sinks", "list", "--format", "json"])).await.json()
}

/// Name and position of each that was taken out.
async fn removed(home: &Home, daemon: &Daemon) -> Vec<(String, u64)> {
    let sinks = sinks(home, daemon).await;
    let removed = sinks["removed"].as_array().unwrap().iter();
    removed.map(|sink| (sink["name"].as_str().unwrap().to_owned(), sink["position"].as_u64().unwrap())).collect()
}

/// Of a sink that is in the settings.
async fn position(home: &Home, daemon: &Daemon, name: &str) -> u64 {
    let sinks = sinks(home, daemon).await;
    let sink = sinks["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == name).unwrap();
    sink["position"].as_u64().unwrap()
}

/// Whether it holds each of these as a number of its own.
fn tells(text: &str, numbers: &[u64]) -> bool {
    let is_there = |number: u64| text.split(|c: char| !c.is_ascii_digit()).any(|word| word == number.to_string());
    numbers.iter().all(|number| is_there(*number))
}

/// The line of that level that names all of these positions.
fn line<'t>(said: &'t str, level: &str, numbers: &[u64]) -> &'t str {
    let level = format!("\"level\":\"{level}\"");
    let found = said.lines().find(|line| line.contains(&level) && tells(line, numbers));
    found.unwrap_or_else(|| panic!("no {level} tells of {numbers:?}: {said}"))
}

/// Ends it in good order; the names of which its store knows.
async fn known(home: &Home, daemon: Daemon) -> Vec<String> {
    assert!(daemon.terminate().await.success());
    let proof = verify::sound(home).await;
    proof["sinks"].as_array().unwrap().iter().map(|sum| sum["sink"].as_str().unwrap().to_owned()).collect()
}

/// `a` had 40 events and was taken out; `b` took its place with the oldest that are kept.
async fn replaced(how: How, home: &Home, b: &str) -> (Daemon, u64) {
    home.configure(&with(&[("a", "type: file, path: ./a.ndjson")]));
    let daemon = home.start().await;
    accept(&daemon, 1..=40).await;
    has(home, &daemon, "a", "a.ndjson", 1..=40).await;
    let (daemon, _) = apply(how, home, daemon, &with(&[("b", b)])).await;
    accept(&daemon, 41..=60).await;
    let [(name, had)] = &removed(home, &daemon).await[..] else { panic!("`a` is not kept") };
    assert_eq!(name, "a");
    let had = *had;
    (daemon, had)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_used_before_stands_for_the_position_that_it_is_given() {
    for how in ALL {
        println!("{how:?}, and b is down");
        let home = Home::new("");
        let (daemon, had) = replaced(how, &home, DOWN).await;
        let b = position(&home, &daemon, "b").await;
        let again = with(&[("a", "type: file, path: ./second.ndjson, renamed_from: b")]);
        let (daemon, said) = apply(how, &home, daemon, &again).await;
        line(&said, "WARN", &[had, b]);
        accept(&daemon, 61..=65).await;
        has_since(how, &home, &daemon, ["a", "second.ndjson"], 1..=65).await;
        assert_eq!(removed(&home, &daemon).await, [("a_2".to_owned(), had)], "{how:?}");
        // What was done once is not done at the next start, nor at the next reload.
        let (daemon, _) = apply(How::Restart, &home, daemon, &again).await;
        let (daemon, _) = apply(How::Hangup, &home, daemon, &again).await;
        accept(&daemon, 66..=66).await;
        has_since(how, &home, &daemon, ["a", "second.ndjson"], 1..=66).await;
        assert_eq!(known(&home, daemon).await, ["a", "a_2"], "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_that_nothing_comes_twice_that_the_old_name_had() {
    for how in ALL {
        println!("{how:?}, and b is up");
        let home = Home::new("");
        let (daemon, had) = replaced(how, &home, "type: file, path: ./b.ndjson, start: earliest").await;
        has_since(how, &home, &daemon, ["b", "b.ndjson"], 1..=60).await;
        let again = with(&[("a", "type: file, path: ./second.ndjson, renamed_from: b")]);
        let (daemon, _) = apply(how, &home, daemon, &again).await;
        accept(&daemon, 61..=65).await;
        has(&home, &daemon, "a", "second.ndjson", 61..=65).await;
        assert_eq!(removed(&home, &daemon).await, [("a_2".to_owned(), had)], "{how:?}");
        assert_eq!(known(&home, daemon).await, ["a", "a_2"], "{how:?}");
    }
}

/// Such a sink has its position at the broker, too, under its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_is_it_otherwise_where_the_broker_knows_the_name_from_before() {
    consume::create_positions(&kafka()).await;
    for is_up in [false, true] {
        let topics = [unique("renamed"), unique("renamed")];
        for topic in &topics {
            consume::create_topic(&kafka(), topic, 1).await;
        }
        let sink = |brokers: &str, topic: &str, more: &str| {
            format!("type: kafka, brokers: ['{brokers}'], topic: {topic}, exactly_once: true{more}")
        };
        let home = Home::new(&with(&[("a", &sink(&kafka(), &topics[0], ""))]));
        let daemon = home.start().await;
        accept(&daemon, 1..=40).await;
        daemon.until("a has all", |metrics| metrics.sum("sink_sent_total", "sink=\"a\"") == 40.0).await;
        let brokers = if is_up { kafka() } else { "127.0.0.1:1".to_owned() };
        let b = sink(&brokers, &topics[1], ", start: earliest");
        let (daemon, _) = apply(How::Hangup, &home, daemon, &with(&[("b", &b)])).await;
        accept(&daemon, 41..=60).await;
        if is_up {
            daemon.until("b has all", |metrics| metrics.sum("sink_sent_total", "sink=\"b\"") == 60.0).await;
        }
        let a = sink(&kafka(), &topics[1], ", renamed_from: b");
        let (daemon, _) = apply(How::Hangup, &home, daemon, &with(&[("a", &a)])).await;
        accept(&daemon, 61..=65).await;
        daemon.until("a has all", |metrics| metrics.sum("sink_lag_events", "sink=\"a\"") == 0.0).await;
        assert_eq!(known(&home, daemon).await, ["a", "a_2"]);
        let committed = consume::kafka_committed(&kafka(), &topics[1]).await;
        let records = committed.iter().map(|(_, bytes)| serde_json::from_slice::<Value>(bytes).unwrap());
        let ids: Vec<String> = records.map(|record| record["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, names(1..=65), "b up: {is_up}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_under_the_name_can_be_had_under_the_one_that_it_got() {
    let home = Home::new("");
    let (daemon, had) = replaced(How::Restart, &home, DOWN).await;
    let a = ("a", "type: file, path: ./second.ndjson, renamed_from: b");
    let (daemon, _) = apply(How::Hangup, &home, daemon, &with(&[a])).await;
    assert_eq!(removed(&home, &daemon).await, [("a_2".to_owned(), had)]);
    let first = ("first", "type: file, path: ./a.ndjson, renamed_from: a_2");
    let (daemon, _) = apply(How::Hangup, &home, daemon, &with(&[a, first])).await;
    accept(&daemon, 61..=65).await;
    has(&home, &daemon, "a", "second.ndjson", 1..=65).await;
    has(&home, &daemon, "first", "a.ndjson", 1..=65).await;
    assert_eq!(known(&home, daemon).await, ["a", "first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sinks_change_their_names_in_one_step() {
    for how in ALL {
        let home = Home::new(&with(&[("a", "type: file, path: ./x.ndjson"), ("b", DOWN)]));
        let daemon = home.start().await;
        accept(&daemon, 1..=20).await;
        has(&home, &daemon, "a", "x.ndjson", 1..=20).await;
        let swapped = [
            ("a", format!("{DOWN}, renamed_from: b")),
            ("b", "type: file, path: ./x.ndjson, renamed_from: a".to_owned()),
        ];
        let swapped = swapped.each_ref().map(|(name, keys)| (*name, keys.as_str()));
        let (daemon, _) = apply(how, &home, daemon, &with(&swapped)).await;
        accept(&daemon, 21..=25).await;
        has(&home, &daemon, "b", "x.ndjson", 1..=25).await;
        // Again: they are not changed back.
        let (daemon, _) = apply(How::Restart, &home, daemon, &with(&swapped)).await;
        accept(&daemon, 26..=26).await;
        has(&home, &daemon, "b", "x.ndjson", 1..=26).await;
        let up = ("a", "type: file, path: ./y.ndjson, renamed_from: b");
        let (daemon, _) = apply(How::Hangup, &home, daemon, &with(&[up, swapped[1]])).await;
        has(&home, &daemon, "a", "y.ndjson", 1..=26).await;
        assert_eq!(removed(&home, &daemon).await, [], "{how:?}");
        assert_eq!(known(&home, daemon).await, ["a", "b"], "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_runs_does_not_take_over_anothers_position() {
    let home = Home::new(&with(&[("a", "type: file, path: ./a.ndjson"), ("b", DOWN)]));
    let daemon = home.start().await;
    accept(&daemon, 1..=30).await;
    has(&home, &daemon, "a", "a.ndjson", 1..=30).await;
    let b = position(&home, &daemon, "b").await;
    home.configure(&with(&[("a", "type: file, path: ./a.ndjson, renamed_from: b")]));
    let said = refused(&daemon).await;
    // Each event is one more in the log.
    let told = line(&said, "ERROR", &[30, b]);
    assert!(told.contains("renamed_from"), "{told}");
    accept(&daemon, 31..=31).await;
    has(&home, &daemon, "a", "a.ndjson", 1..=31).await;
    assert!(daemon.terminate().await.success());

    let starting = command(&["run", "--config", home.configuration().to_str().unwrap()]).output();
    let ended = tokio::time::timeout(PATIENCE / 4, starting).await.expect("it starts with it").unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(78), "{said}");
    assert!(said.contains("renamed_from") && tells(&said, &[31, b]), "{said}");
    // Nothing of it has happened.
    home.configure(&with(&[("a", "type: file, path: ./a.ndjson"), ("b", DOWN)]));
    let daemon = home.start().await;
    assert_eq!(position(&home, &daemon, "b").await, b);
    has(&home, &daemon, "a", "a.ndjson", 1..=31).await;
    assert_eq!(known(&home, daemon).await, ["a", "b"]);
}

/// Waits for the last event; by kills some may have come twice.
async fn came(home: &Home, daemon: &Daemon, number: u32) {
    let last = format!("event-{number}");
    let came = |metrics: &Metrics| {
        metrics.sum("sink_lag_events", "") == 0.0 && ids(home.path().join("all.ndjson")).contains(&last)
    };
    daemon.until(&format!("{last} comes"), came).await;
}

/// The dead letter and the position go along, whenever it is killed: both are under the old name, or under the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_renaming_it_has_happened_or_it_has_not() {
    let rounds = if seed::soak() { 200 } else { 40 };
    let mut random = seed::random("when to kill whoever renames a sink");
    let keys = "type: file, path: ./all.ndjson";
    let name = |number: u32| format!("sink_{number}");
    let renamed = |from: u32, to: u32| {
        let keys = format!("{keys}, renamed_from: {}", name(from));
        with(&[(&name(to), &keys)])
    };
    let home = Home::new(&with(&[(&name(0), &format!(r#"{keys}, filter: "1 / 0 == 1""#))]));
    let daemon = home.start().await;
    accept(&daemon, 0..=0).await;
    daemon.until("a dead letter", |metrics| metrics.sum("sink_dead_letters", "") == 1.0).await;
    let (daemon, _) = apply(How::Hangup, &home, daemon, &with(&[(&name(0), keys)])).await;
    // How long one takes.
    home.configure(&renamed(0, 1));
    let seen = daemon.log().len();
    let begun = Instant::now();
    daemon.hang_up();
    daemon.says(seen, IN_FORCE).await;
    let takes = begun.elapsed();
    let (mut daemon, mut current, mut happened) = (daemon, 1, 0);
    for round in 1..=rounds {
        accept(&daemon, round..=round).await;
        came(&home, &daemon, round).await;
        let next = current + 1;
        home.configure(&renamed(current, next));
        daemon.hang_up();
        tokio::time::sleep(takes.mul_f64(random.f64() * 1.2).max(Duration::from_micros(100))).await;
        daemon.kill().await;

        let proof = verify::sound(&home).await;
        let sums = proof["sinks"].as_array().unwrap();
        let [sum] = &sums[..] else { panic!("round {round}: there are several: {sums:?}") };
        let of = |count: &str| sum[count].as_u64().unwrap();
        assert!(sum["sink"] == name(current) || sum["sink"] == name(next), "round {round}: {sum}");
        assert_eq!((of("dead_lettered"), of("accepted")), (1, u64::from(round) + 1), "round {round}: {sum}");
        happened += u32::from(sum["sink"] == name(next));
        current = next;
        daemon = home.start().await;
        assert_eq!(daemon.metrics().await.sum("sink_dead_letters", &format!("sink=\"{}\"", name(current))), 1.0);
    }
    println!("{happened} of {rounds} had happened; one takes {takes:?}");
    came(&home, &daemon, rounds).await;
    assert_eq!(known(&home, daemon).await, [name(current)]);
    let mut all = ids(home.path().join("all.ndjson"));
    all.sort();
    all.dedup();
    let mut expected = names(1..=rounds);
    expected.sort();
    assert_eq!(all, expected);
}
