//! Sinks come, change, go, come back and get other names, and what is not theirs to change stays as it is.

use super::{SECRET, deliver, ids, reload};
use crate::relay::sinks::until_caught_up;
use crate::support::brokers::{self, unique};
use crate::support::consume;
use crate::support::daemon::{Daemon, Home};
use crate::support::oracle::Got;
use crate::support::tls::Certificates;
use crate::support::verify;
use std::fmt::Write;

const PATH: &str = "/webhooks/e2b";

/// One source, and these sinks.
fn with(sinks: &[(&str, &str)]) -> String {
    let mut text =
        format!("store: {{path: ./data}}\nsources: {{acme: {{webhook: {{secrets: [{SECRET}]}}}}}}\nsinks:\n");
    for (name, keys) in sinks {
        writeln!(text, "  {name}: {{{keys}}}").unwrap();
    }
    text
}

const FIRST: (&str, &str) = ("first", "type: file, path: ./first.ndjson");
const SECOND: (&str, &str) = ("second", "type: file, path: ./second.ndjson");

async fn accept(daemon: &Daemon, ids: &[&str]) {
    for id in ids {
        assert_eq!(deliver(daemon, PATH, SECRET, id).await, 200);
    }
}

/// What a file sink has, once it has all that it is to have.
async fn got(home: &Home, daemon: &Daemon, sink: &str, expected: &[&str]) {
    daemon.until(&format!("{sink} has {expected:?}"), |_| ids(file(home, sink)).len() >= expected.len()).await;
    assert_eq!(ids(file(home, sink)), expected, "{sink}");
}

fn file(home: &Home, sink: &str) -> std::path::PathBuf {
    home.path().join(format!("{sink}.ndjson"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_is_added_changed_taken_out_and_put_back_beside_one_that_is_not_touched() {
    let home = Home::new(&with(&[FIRST]));
    let daemon = home.start().await;
    accept(&daemon, &["a"]).await;
    // Written before the second is there to look.
    got(&home, &daemon, "first", &["a"]).await;

    home.configure(&with(&[FIRST, SECOND]));
    assert_eq!(reload(&daemon).await, (vec!["second".to_owned()], vec![]));
    accept(&daemon, &["b"]).await;
    got(&home, &daemon, "second", &["b"]).await;

    home.configure(&with(&[FIRST, ("second", "type: file, path: ./second.ndjson, types: [none.*]")]));
    assert_eq!(reload(&daemon).await, (vec!["second".to_owned()], vec![]));
    accept(&daemon, &["c"]).await;
    daemon.until("the second does not want it", |m| m.sum("sink_filtered_total", "second") == 1.0).await;

    home.configure(&with(&[FIRST]));
    assert_eq!(reload(&daemon).await, (vec![], vec!["second".to_owned()]));
    assert_eq!(daemon.metrics().await.of("e2b_relay_sink_lag_events").lines().count(), 1, "the second's series end");
    accept(&daemon, &["d"]).await;

    // Its position was kept; whatever its file was asked for meanwhile it gets now, and nothing twice.
    home.configure(&with(&[FIRST, SECOND]));
    assert_eq!(reload(&daemon).await, (vec!["second".to_owned()], vec![]));
    accept(&daemon, &["e"]).await;
    got(&home, &daemon, "second", &["b", "d", "e"]).await;
    got(&home, &daemon, "first", &["a", "b", "c", "d", "e"]).await;
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_sink_may_begin_with_the_oldest_event_and_a_renamed_one_takes_its_dead_letters_along() {
    let rejecting = r#"type: file, path: ./first.ndjson, filter: "1 / 0 == 1""#;
    let home = Home::new(&with(&[("first", rejecting)]));
    let daemon = home.start().await;
    accept(&daemon, &["a", "b"]).await;
    daemon.until("two dead letters", |m| m.sum("sink_dead_letters", "sink=\"first\"") == 2.0).await;
    let renamed = "type: file, path: ./other.ndjson, renamed_from: first";
    let all = "type: file, path: ./second.ndjson, start: earliest";
    home.configure(&with(&[("other", renamed), ("second", all)]));
    let (begun, gone) = reload(&daemon).await;
    assert_eq!((begun, gone), (vec!["other".to_owned(), "second".to_owned()], vec!["first".to_owned()]));
    accept(&daemon, &["c"]).await;
    got(&home, &daemon, "other", &["c"]).await;
    got(&home, &daemon, "second", &["a", "b", "c"]).await;
    assert_eq!(daemon.metrics().await.sum("sink_dead_letters", "sink=\"other\""), 2.0);
    // The line with the old name may go: that is no change.
    home.configure(&with(&[("other", "type: file, path: ./other.ndjson"), ("second", all)]));
    assert_eq!(reload(&daemon).await, (vec![], vec![]));
    assert!(daemon.terminate().await.success());
    let proof = verify::sound(&home).await;
    let names: Vec<&str> = proof["sinks"].as_array().unwrap().iter().map(|sum| sum["sink"].as_str().unwrap()).collect();
    assert_eq!(names, ["other", "second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_right_after_a_renaming_the_sink_has_its_position_still() {
    let home = Home::new(&with(&[FIRST]));
    let daemon = home.start().await;
    accept(&daemon, &["a", "b"]).await;
    daemon.until_settled("first", 2).await;
    home.configure(&with(&[("other", "type: file, path: ./other.ndjson, renamed_from: first")]));
    let seen = daemon.log().len();
    daemon.hang_up();
    daemon.says(seen, super::IN_FORCE).await;
    daemon.kill().await;
    let daemon = home.start().await;
    accept(&daemon, &["c"]).await;
    got(&home, &daemon, "other", &["c"]).await;
    assert!(daemon.terminate().await.success());
    verify::sound(&home).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_was_given_a_wrong_address_has_everything_once_it_is_set_right() {
    let (nats, name) = (brokers::nats(), unique("reload"));
    let sink = |server: &str| {
        format!(
            r#"type: nats, servers: ["{server}"], subject: "{name}.{{{{ type }}}}", stream: {{name: {name}, subjects: ["{name}.>"], create: true}}"#
        )
    };
    let home = Home::new(&with(&[("bus", &sink("nats://127.0.0.1:1")), FIRST]));
    let daemon = home.start().await;
    accept(&daemon, &["a", "b"]).await;
    got(&home, &daemon, "first", &["a", "b"]).await;
    home.configure(&with(&[("bus", &sink(&nats)), FIRST]));
    assert_eq!(reload(&daemon).await.0, ["bus"]);
    accept(&daemon, &["c"]).await;
    daemon.until_settled("bus", 3).await;
    let records: Vec<Got> = consume::jetstream(&nats, &name).await;
    assert_eq!(records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_in_the_file_of_the_same_name_counts_after_a_reload() {
    let (nats, name) = (brokers::nats(), unique("reload"));
    let (trusted, other) = (Certificates::new(), Certificates::new());
    let host = nats.rsplit_once('@').map_or(nats.as_str(), |(_, host)| host);
    let address = trusted.before(host, true).await;
    let server = nats.replace(host, &address.to_string()).replace("nats://", "tls://");
    let sink = format!(
        r#"type: nats, servers: ["{server}"], ca_file: ./ca.pem, subject: "{name}.{{{{ type }}}}", stream: {{name: {name}, subjects: ["{name}.>"], create: true}}"#
    );
    let home = Home::new(&with(&[("bus", &sink), FIRST]));
    std::fs::copy(other.ca_file(), home.path().join("ca.pem")).unwrap();
    let daemon = home.start().await;
    accept(&daemon, &["a"]).await;
    daemon.says(0, "the sink is halted").await;
    std::fs::copy(trusted.ca_file(), home.path().join("ca.pem")).unwrap();
    assert_eq!(reload(&daemon).await.0, ["bus"], "only what rests on the file");
    daemon.until_settled("bus", 1).await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_moved_away_is_made_anew_at_once() {
    let home = Home::new(&with(&[FIRST]));
    let daemon = home.start().await;
    accept(&daemon, &["a"]).await;
    got(&home, &daemon, "first", &["a"]).await;
    std::fs::rename(file(&home, "first"), home.path().join("first.ndjson.1")).unwrap();
    assert_eq!(reload(&daemon).await, (vec![], vec![]), "the sink itself goes on");
    daemon.until("the new file is there", |_| file(&home, "first").exists()).await;
    accept(&daemon, &["b"]).await;
    got(&home, &daemon, "first", &["b"]).await;
    until_caught_up(&daemon, "first").await;
    assert!(daemon.terminate().await.success());
}
