//! Every Prometheus family of the contract, held against a daemon with one of everything.

use super::exposition::{Family, parse, promtool};
use crate::relay::sinks::{NAMES, Sinks};
use crate::simulate::{KEY, Running};
use crate::support::brokers;
use crate::support::daemon::{Home, PATIENCE, reqwest_client};
use crate::support::load::{SECRET, body, post};
use crate::support::tls::Certificates;
use e2b_relay::simulator::TEAM_ID;
use e2b_relay::simulator::provider::Options;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Type, name without `e2b_relay_`, labels; `late`: there is nothing to be shown at the start.
const CONTRACT: &str = "
counter deliveries_total outcome source
histogram delivery_duration_seconds
gauge last_delivery_timestamp_seconds source late
counter events_total origin source type
histogram store_commit_duration_seconds
histogram store_commit_events
gauge store_size_bytes
gauge store_max_size_bytes
gauge store_events
counter store_damaged_total
counter quarantined_total source
counter sink_sent_total sink
counter sink_filtered_total reason sink
counter sink_errors_total reason sink
gauge sink_lag_events sink
gauge sink_oldest_unsent_age_seconds sink
gauge sink_dead_letters sink
counter sink_dead_letters_total reason sink
gauge sink_up sink
gauge sink_unaccounted_events sink
counter sink_damaged_total sink
counter api_requests_total code endpoint source
counter backfill_polls_total outcome source
counter backfill_recovered_total source
gauge backfill_verified_through_timestamp_seconds source late
counter gaps_total source
counter registration_repairs_total source
counter kills_unconfirmed_total source
gauge sandboxes source state
gauge config_last_reload_successful
gauge config_last_reload_success_timestamp_seconds
gauge tls_certificate_expiry_timestamp_seconds section
gauge build_info revision version
counter log_lines_dropped_total
gauge metrics_series_omitted source
gauge =e2b_sandbox_info sandbox_id source template_id late
gauge =e2b_sandbox_cpus sandbox_id source late
gauge =e2b_sandbox_cpu_used_ratio sandbox_id source late
gauge =e2b_sandbox_memory_used_bytes sandbox_id source late
gauge =e2b_sandbox_memory_limit_bytes sandbox_id source late
gauge =e2b_sandbox_disk_used_bytes sandbox_id source late
gauge =e2b_sandbox_disk_size_bytes sandbox_id source late
counter =process_cpu_seconds_total
gauge =process_resident_memory_bytes
gauge =process_start_time_seconds
gauge =process_open_fds
gauge =process_max_fds
";

/// Label values that are there from the start, at zero, for whatever else the family tells apart.
const FROM_THE_START: [(&str, &str, &str); 7] = [
    (
        "deliveries_total",
        "outcome",
        "accepted duplicate bad_signature wrong_team malformed stale future too_large timeout store_full overloaded draining",
    ),
    ("events_total", "origin", "webhook backfill metrics reconcile relay"),
    ("sink_filtered_total", "reason", "type source filter filter_absent unroutable already_sent"),
    ("sink_errors_total", "reason", REASONS),
    ("sink_dead_letters_total", "reason", REASONS),
    ("backfill_polls_total", "outcome", "ok unauthorized rate_limited unavailable not_offered invalid"),
    ("sandboxes", "state", "running paused other"),
];
const REASONS: &str = "connect auth timeout rejected too_large unroutable filter template other";

struct Expected<'a> {
    kind: &'a str,
    name: String,
    labels: Vec<&'a str>,
    late: bool,
}

fn contract() -> Vec<Expected<'static>> {
    let lines = CONTRACT.lines().filter(|line| !line.is_empty());
    let families = lines.map(|line| {
        let mut words = line.split(' ');
        let (kind, name) = (words.next().unwrap(), words.next().unwrap());
        let mut labels: Vec<&str> = words.collect();
        let late = labels.pop_if(|last| *last == "late").is_some();
        let name = name.strip_prefix('=').map_or_else(|| format!("e2b_relay_{name}"), str::to_owned);
        Expected { kind, name, labels, late }
    });
    families.collect()
}

/// What of the contract is not as it should be.
fn faults(shown: &BTreeMap<String, Family>, at_the_start: bool) -> Vec<String> {
    let mut faults = Vec::new();
    for Expected { kind, name, labels, late } in contract() {
        let Some(family) = shown.get(&name) else {
            faults.extend((!late || !at_the_start).then(|| format!("{name} is missing")));
            continue;
        };
        if family.kind != kind {
            faults.push(format!("{name} is a {}", family.kind));
        }
        if family.labels() != BTreeSet::from([labels]) {
            faults.push(format!("{name} has labels {:?}", family.labels()));
        }
    }
    for (name, family) in shown {
        for unit in ["seconds", "bytes"].iter().filter(|unit| name.contains(&format!("_{unit}"))) {
            if !family.help.contains(unit) {
                faults.push(format!("the help of {name} does not name its unit: {}", family.help));
            }
        }
        if family.kind == "counter" && !name.ends_with("_total") {
            faults.push(format!("{name} is a counter by another name"));
        }
    }
    faults
}

fn at_zero(shown: &BTreeMap<String, Family>) {
    for (name, label, values) in FROM_THE_START {
        let family = &shown[&format!("e2b_relay_{name}")];
        assert_eq!(family.values(label), values.split(' ').collect(), "{name}");
        let apart = family.series.iter().map(|(labels, _)| {
            let mut labels = labels.clone();
            labels.remove(label);
            labels
        });
        let apart: BTreeSet<_> = apart.collect();
        assert_eq!(family.series.len(), apart.len() * values.split(' ').count(), "{name}: each with each");
    }
    let counters = shown.iter().filter(|(name, one)| one.kind == "counter" && name.starts_with("e2b_relay_"));
    for (name, family) in counters {
        // The API is asked, and sinks fail, from the first moment on.
        let is_at_work = ["api_requests", "backfill_polls", "sink_errors"].iter().any(|part| name.contains(part));
        let zero = family.series.iter().all(|(_, value)| *value == 0.0);
        assert!(is_at_work || zero, "{name}: {:?}", family.series);
    }
}

#[tokio::test]
async fn every_family_of_the_contract_is_there_from_the_start_and_under_load() {
    let provider = Running::start(Options::default()).await;
    let certificates = Certificates::new();
    let sinks = Sinks::new(brokers::kafka(), brokers::nats(), brokers::amqp()).await;
    let acme = format!(
        "{{team_id: {TEAM_ID}, webhook: {{path: /acme, secrets: [\"{SECRET}\"]}}, api: {{url: '{}', api_key: {KEY}}}, \
         backfill: {{interval: 1s}}, metrics: {{interval: 1s, max_series: 5}}, \
         reconcile: {{interval: 1s, emit: true}}, usage: true, verify_kills: true}}",
        provider.base
    );
    let beta = "{webhook: {path: /beta, secrets: [fedcba9876543210fedcba9876543210]}}";
    let rest = sinks.configuration_of(&format!("{{acme: {acme}, beta: {beta}}}"), "");
    let home = Home::new("");
    let (pem, key) = (certificates.path().join("server.pem"), certificates.path().join("server.key"));
    let listeners = format!(
        "server: {{listen: '127.0.0.1:0', tls: {{cert_file: {}, key_file: {}}}}}\nadmin: {{listen: '127.0.0.1:0'}}\n",
        pem.display(),
        key.display()
    );
    let printed = "  said: {type: stdout, types: [relay.gap]}\n";
    std::fs::write(home.configuration(), format!("{listeners}{rest}{printed}")).unwrap();
    let daemon = home.start().await;

    let text = daemon.metrics().await.0;
    let shown = parse(&text);
    assert_eq!(faults(&shown, true), Vec::<String>::new());
    at_zero(&shown);
    let sink_names = BTreeSet::from_iter(NAMES.into_iter().chain(["said"]));
    for family in ["sink_up", "sink_lag_events", "sink_sent_total", "sink_unaccounted_events", "sink_damaged_total"] {
        assert_eq!(shown[&format!("e2b_relay_{family}")].values("sink"), sink_names, "{family}");
    }
    assert_eq!(shown["e2b_relay_deliveries_total"].values("source"), BTreeSet::from(["acme", "beta"]));
    for family in ["delivery_duration_seconds", "store_commit_duration_seconds"] {
        let buckets = shown[&format!("e2b_relay_{family}")].values("le");
        assert!(buckets.contains("0.0005") && buckets.contains("10") && buckets.contains("+Inf"), "{buckets:?}");
    }
    assert_eq!(promtool(&text).await, "", "at the start");

    provider.happen(60, 60).await;
    let ca = reqwest::Certificate::from_pem(&std::fs::read(certificates.ca_file()).unwrap()).unwrap();
    reqwest_client();
    let client = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
    let url = format!("https://{}/acme", daemon.public);
    let event = |id: &str| body(id, "sbx-1", 1, true);
    let strange = event("a").replace("sandbox.lifecycle.", "sandbox.strange.");
    for (secret, body, status) in [
        (SECRET, event("one"), 200),
        (SECRET, event("one"), 200),
        (SECRET, strange, 200),
        ("not the secret, but also 32 bytes", event("two"), 401),
        (SECRET, "no event".to_owned(), 400),
    ] {
        let (answered, said) = post(&client, &url, secret, &body).await.unwrap();
        assert_eq!(answered, status, "{said}");
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let faults = faults(&parse(&daemon.metrics().await.0), false);
        if faults.is_empty() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{faults:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let metrics = daemon.metrics().await;
    let outcome = |name: &str| metrics.sum("deliveries_total", &format!("outcome=\"{name}\",source=\"acme\""));
    assert_eq!(["accepted", "duplicate", "bad_signature", "malformed"].map(outcome), [2.0, 1.0, 1.0, 1.0]);
    assert_eq!(metrics.sum("quarantined_total", "acme"), 1.0);
    let other = metrics.sum("events_total", "origin=\"webhook\",source=\"acme\",type=\"other\"");
    assert_eq!(other, 1.0, "a stranger's type makes no label");
    assert!(!metrics.0.contains("sandbox.strange"), "{}", metrics.of("e2b_relay_events_total"));
    let series = parse(&metrics.0);
    assert!(series["e2b_sandbox_cpus"].values("sandbox_id").len() <= 5, "max_series");
    assert_eq!(promtool(&metrics.0).await, "", "under load");
}
