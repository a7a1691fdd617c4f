use super::deliver::{Answer, Headers, NoAnswer};
use super::*;
use crate::shutdown;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// Answers 200 to what is signed with the secret's headers as they stood in an honest delivery, and keeps everything.
#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<(Headers, Bytes)>>,
}

impl Transport for Receiver {
    fn post(&self, headers: Headers, body: Bytes) -> BoxFuture<'_, Result<Answer, NoAnswer>> {
        let honest = sign::headers(Dialect::E2b, &Secret::new(SECRET), &body);
        let genuine = headers.ends_with(&honest);
        self.got.lock().unwrap().push((headers, body));
        let status = if genuine { 200 } else { 401 };
        Box::pin(std::future::ready(Ok(Answer { status, body: String::new() })))
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn options() -> Options {
    Options { events_per_second: 1000.0, ..Options::new("http://127.0.0.1:1/", SECRET) }
}

async fn run(options: Options) -> (Arc<Receiver>, Ledger, Summary) {
    let receiver = Arc::new(Receiver::default());
    let simulator = Simulator::with_transport(options, Arc::clone(&receiver) as Arc<dyn Transport>).expect("valid");
    let ledger = simulator.ledger();
    let (_trigger, shutdown) = shutdown::channel();
    let summary = simulator.run(shutdown).await;
    (receiver, ledger, summary)
}

#[tokio::test(start_paused = true)]
async fn it_makes_events_at_the_rate_for_the_time_and_delivers_each_once() {
    let options = Options { events_per_second: 10.0, duration: Some(Duration::from_secs(10)), ..options() };
    let (receiver, ledger, summary) = run(options).await;
    assert!((99..=101).contains(&summary.made), "{summary:?}");
    assert_eq!(summary, Summary { made: summary.made, delivered: summary.made, ..Summary::default() });
    let sent: BTreeSet<Bytes> = receiver.got.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    let said: BTreeSet<Bytes> = ledger.entries().into_iter().map(|entry| entry.body).collect();
    assert_eq!(sent, said);
    assert_eq!(receiver.got.lock().unwrap().len() as u64, summary.made);
}

#[tokio::test(start_paused = true)]
async fn withheld_repeated_and_forged_events_are_told_apart() {
    let options = Options {
        duration: Some(Duration::from_secs(5)),
        withhold: 0.1,
        repeat: 0.1,
        forge: 0.1,
        shapes: vec![Shape::V1, Shape::V2],
        ..options()
    };
    let (receiver, ledger, summary) = run(options).await;
    assert_eq!(summary.made, summary.delivered + summary.withheld + summary.forged);
    for part in [summary.withheld, summary.repeated, summary.forged] {
        assert!((300..700).contains(&part), "{summary:?}");
    }
    let mut times: BTreeMap<Bytes, u32> = BTreeMap::new();
    for (_, body) in receiver.got.lock().unwrap().iter() {
        *times.entry(body.clone()).or_default() += 1;
    }
    let mut versions = BTreeSet::new();
    for entry in ledger.entries() {
        let expected = match entry.fate {
            Fate::Withheld => 0,
            Fate::Forged(status) => {
                assert_eq!(status, Some(401));
                1
            }
            Fate::Delivered { times, attempts } => {
                assert_eq!(times, attempts);
                times
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(times.get(&entry.body).copied().unwrap_or(0), expected);
        let body: serde_json::Value = serde_json::from_slice(&entry.body).expect("json");
        assert_eq!(body["id"].as_str(), entry.id.as_deref());
        versions.insert(body["version"].to_string());
    }
    assert_eq!(versions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_never_accepted_is_given_up_after_three_retries() {
    let receiver = Arc::new(Receiver::default());
    let options = Options { duration: Some(Duration::from_millis(1)), secret: Secret::new("another"), ..options() };
    let simulator = Simulator::with_transport(options, Arc::clone(&receiver) as Arc<dyn Transport>).expect("valid");
    let ledger = simulator.ledger();
    let (_trigger, shutdown) = shutdown::channel();
    let summary = simulator.run(shutdown).await;
    assert!(summary.made > 0 && summary.given_up == summary.made, "{summary:?}");
    for entry in ledger.entries() {
        assert_eq!(entry.fate, Fate::GivenUp { attempts: 4, problem: "answered 401".to_owned() });
    }
}

#[tokio::test(start_paused = true)]
async fn told_to_end_it_ends_though_no_duration_was_given() {
    let simulator = Simulator::with_transport(options(), Arc::new(Receiver::default())).expect("valid");
    let (trigger, shutdown) = shutdown::channel();
    let running = tokio::spawn(simulator.run(shutdown));
    tokio::time::advance(Duration::from_millis(100)).await;
    trigger.fire();
    running.await.expect("ended");
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    for (options, name) in [
        (Options { events_per_second: 0.0, ..options() }, "events-per-second"),
        (Options { events_per_second: f64::NAN, ..options() }, "events-per-second"),
        (Options { withhold: 1.5, ..options() }, "drop-deliveries"),
        (Options { repeat: -0.1, ..options() }, "repeat"),
        (Options { shapes: Vec::new(), ..options() }, "shape"),
    ] {
        match Simulator::new(options).err() {
            Some(SimulatorError::Option { name: named, .. }) => assert_eq!(named, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(Simulator::new(Options::new("nowhere", SECRET)), Err(SimulatorError::DeliverTo(_))));
}
