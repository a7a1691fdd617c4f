//! A configuration that is no good changes nothing, and is told of; nor does what only a restart can change.

use super::{NEWER, SECRET, deliver, ids, refused, reload};
use crate::support::daemon::Home;

const PATH: &str = "/webhooks/e2b";

fn with(source: &str, sinks: &str) -> String {
    format!("sources: {{acme: {{webhook: {{{source}}}}}}}\nsinks: {{{sinks}}}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_fault_is_told_with_its_place_and_the_old_one_goes_on() {
    let (sound, audit) = (format!("secrets: [{SECRET}]"), "audit: {type: file, path: ./audit.ndjson}");
    let home = Home::new(&with(&sound, audit));
    let daemon = home.start().await;
    let loaded_at = daemon.metrics().await.sum("config_last_reload_success_timestamp_seconds", "");
    assert!(loaded_at > 1e9);
    std::fs::write(home.path().join("not-a-certificate.pem"), "no").unwrap();
    let newer = format!("secrets: [{NEWER}]");
    // Line 3 is `sources`, line 4 `sinks`; the new secret in each must not count.
    let cases = [
        (format!("sources: {{acme: {{webhook: {{{newer}}}"), "e2b-relay.yaml"),
        (
            with(&newer, "audit: {type: file, pth: ./x}"),
            "e2b-relay.yaml:4: sinks.audit.pth: unknown key; did you mean `path`?",
        ),
        (with(&newer, "audit: {type: file, path: ./x, filter: 'a +'}"), "e2b-relay.yaml:4: sinks.audit.filter"),
        (with("secrets_file: ./absent", audit), "e2b-relay.yaml:3: sources.acme.webhook.secrets_file"),
        (with("secrets: [short]", audit), "e2b-relay.yaml:3: sources.acme.webhook.secrets[0]"),
        (with(&newer, "lake: {type: kafka, brokers: ['h:1'], librdkafka: {acks: '1'}}"), "sinks.lake.librdkafka.acks"),
        (
            with(
                &newer,
                "bus: {type: nats, servers: ['tls://h:1'], ca_file: ./not-a-certificate.pem, stream: {name: s}}",
            ),
            "sinks.bus.ca_file",
        ),
    ];
    for (number, (text, told)) in cases.iter().enumerate() {
        home.configure(text);
        let said = refused(&daemon).await;
        assert!(said.contains(told), "{told} is not in: {said}");
        assert!(!said.contains(NEWER), "a secret is told: {said}");
        assert_eq!(deliver(&daemon, PATH, SECRET, &format!("old-{number}")).await, 200, "the old secret");
        assert_eq!(deliver(&daemon, PATH, NEWER, &format!("new-{number}")).await, 401, "the new one");
        let at = daemon.metrics().await.sum("config_last_reload_success_timestamp_seconds", "");
        assert_eq!(at, loaded_at);
    }
    daemon.until_settled("audit", cases.len() as u64).await;
    // And a sound one is taken after all of them.
    home.configure(&with(&newer, audit));
    assert_eq!(reload(&daemon).await, (vec![], vec![]), "the sink has not changed at all");
    assert_eq!(deliver(&daemon, PATH, NEWER, "last").await, 200);
    assert!(daemon.metrics().await.sum("config_last_reload_success_timestamp_seconds", "") > loaded_at);
    daemon.until_settled("audit", cases.len() as u64 + 1).await;
    assert_eq!(ids(home.path().join("audit.ndjson")).len(), cases.len() + 1);
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_store_can_refuse_leaves_everything_as_it_is_too() {
    let (one, other) = ("audit: {type: file, path: ./audit.ndjson}", "copy: {type: file, path: ./copy.ndjson}");
    let sound = with(&format!("secrets: [{SECRET}]"), one);
    let home = Home::new(&sound);
    let daemon = home.start().await;
    assert_eq!(deliver(&daemon, PATH, SECRET, "first").await, 200);
    home.configure(&with(&format!("secrets: [{SECRET}]"), &format!("{one}, {other}")));
    reload(&daemon).await;
    // Both have a position of their own.
    home.configure(&with(&format!("secrets: [{NEWER}]"), &other.replace('}', ", renamed_from: audit}")));
    let said = refused(&daemon).await;
    assert!(said.contains("renamed_from"), "{said}");
    assert_eq!(deliver(&daemon, PATH, SECRET, "second").await, 200, "the old secret");
    assert_eq!(deliver(&daemon, PATH, NEWER, "third").await, 401, "the new one");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_restart_can_change_is_named_and_the_rest_is_taken() {
    let sinks = "audit: {type: file, path: ./audit.ndjson}";
    let home = Home::new(&with(&format!("secrets: [{SECRET}]"), sinks));
    let daemon = home.start().await;
    let moved = with(&format!("secrets: [{NEWER}]"), sinks);
    let seen = daemon.log().len();
    home.configure(&format!("{moved}store: {{path: ./elsewhere, retention: 1d}}\n"));
    reload(&daemon).await;
    let said = daemon.log()[seen..].join("\n");
    for key in ["store.path", "store.retention"] {
        let line = said.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{key} is not in {said}"));
        assert!(line.contains("needs a restart"), "{line}");
    }
    assert!(!said.contains("server."), "{said}");
    assert_eq!(daemon.metrics().await.sum("config_needs_restart", ""), 2.0);
    assert_eq!(deliver(&daemon, PATH, NEWER, "a").await, 200);
    daemon.until_settled("audit", 1).await;
    assert!(!home.path().join("elsewhere").exists());
    home.configure(&moved);
    reload(&daemon).await;
    assert_eq!(daemon.metrics().await.sum("config_needs_restart", ""), 0.0, "it is as it was");
    assert!(daemon.terminate().await.success());
}
