//! The dashboard: each panel's query, in a real Prometheus that scrapes a real daemon, against what the test sent.

use super::alerts::store::last_seen_a_week_ago;
use super::read;
use super::server::Prometheus;
use crate::simulate::{KEY, Running};
use crate::support::consume;
use crate::support::daemon::{Home, Metrics};
use crate::support::load::{self, Plan, SECRET, body_of, post};
use crate::support::tls::Certificates;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// For `$__rate_interval`: more than the test takes, so that a rate is that of all that was counted.
const WINDOW: f64 = 3600.0;
const EVENTS: usize = 300;
const LISTED: usize = 40;
const GB10: f64 = 10.0 * 1024.0 * 1024.0 * 1024.0;

struct Panel {
    title: String,
    unit: String,
    queries: Vec<String>,
}

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana/e2b-relay.json")).unwrap()
}

/// Rows aside.
fn panels() -> Vec<Panel> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let panel = |panel: &Value| Panel {
        title: text(&panel["title"]),
        unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
        queries: panel["targets"].as_array().unwrap().iter().map(|target| text(&target["expr"])).collect(),
    };
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let panels: Vec<_> = panels.iter().filter(|panel| panel["type"] != "row").map(panel).collect();
    assert!(panels.len() > 20, "the panels were not found");
    panels
}

/// As Grafana does it where everything is chosen.
fn substituted(query: &str) -> String {
    let all = ["$instance", "$source", "$sink"];
    let query = all.iter().fold(query.to_owned(), |query, variable| query.replace(variable, ".*"));
    let query = query.replace("$__rate_interval", &format!("{WINDOW}s"));
    assert!(!query.contains('$'), "{query}");
    query
}

/// What one series has to show.
#[derive(Debug, Clone, Copy)]
enum Shows {
    /// Just that.
    Is(f64),
    /// A rate that comes to so many; Prometheus extrapolates over the part of a scrape's interval.
    Counted(usize),
    /// Something that no count of the test's tells.
    Positive,
}

use Shows::{Counted, Is, Positive};

impl Shows {
    fn holds(self, value: f64) -> bool {
        match self {
            Is(wanted) => value == wanted,
            Counted(0) => value == 0.0,
            Counted(wanted) => (value * WINDOW / wanted as f64 - 1.0).abs() < 0.05,
            Positive => value > 0.0 && value.is_finite(),
        }
    }
}

/// Panel, number of the query, labels of the series, and what it shows.
type Row = (&'static str, usize, &'static [(&'static str, &'static str)], Shows);

#[test]
fn every_panel_has_a_unit_a_source_and_a_place_of_its_own() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance", "source", "sink"]);
    let titles: BTreeSet<String> = panels().into_iter().map(|panel| panel.title).collect();
    assert_eq!(titles.len(), panels().len(), "two panels have one title");
    assert!(panels().iter().all(|panel| !panel.unit.is_empty() && !panel.queries.is_empty()));
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(place("x") + x < 24 && places.insert((place("x") + x, place("y") + y)), "{panel} lies on another");
        }
        let source = json!({"type": "prometheus", "uid": "${datasource}"});
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(targets.iter().all(|target| target["datasource"] == source), "{panel}");
    }
}

/// Text for every fourth, which the filter of `picky` fails at; it takes half of the numbers or more.
fn kind(number: usize) -> Value {
    [json!("text"), json!(0), json!(2), json!(3)][number % 4].clone()
}

fn configuration(api: &str, certificates: &Certificates) -> String {
    let file = |name: &str| certificates.path().join(name).display().to_string();
    format!(
        "sources:\n  acme:\n    webhook: {{secrets: ['{SECRET}']}}\n    api: {{url: '{api}', api_key: {KEY}}}\n    \
         backfill: {{interval: 1s, overlap: 1s}}\n    metrics: {{interval: 1s}}\n    reconcile: {{interval: 1s}}\n    \
         verify_kills: true\n\
         sinks:\n  audit: {{type: file, path: ./audit.ndjson, types: ['sandbox.lifecycle.*']}}\n  \
         picky: {{type: file, path: ./picky.ndjson, types: ['sandbox.lifecycle.*'], \
         filter: 'event_data.sandbox_metadata.kind > 1'}}\n  \
         broken: {{type: amqp, url: 'amqps://127.0.0.1:1', exchange: a, cert_file: {}, key_file: {}}}\n",
        file("client.pem"),
        file("client.key")
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_panel_shows_what_has_happened() {
    let prometheus = Prometheus::start().await;
    let certificates = Certificates::new();
    let provider = Running::start(Options { sandboxes: 2, ..Options::default() }).await;
    let home = Home::new(&configuration(&provider.base, &certificates));
    last_seen_a_week_ago(&home);
    let daemon = home.start().await;
    prometheus.scrape("shown", &daemon.admin);
    let is_scraped = async || (!prometheus.query("e2b_relay_build_info").await.is_empty()).then_some(());
    prometheus.until("it is scraped", is_scraped).await;

    let webhook = daemon.webhook();
    let plan = Plan { events: EVENTS, repeated: 0.1, forged: 0.05, kind, ..Plan::default() };
    let sent = load::send(plan, move || webhook.clone()).await;
    assert_eq!(sent.ledger.acknowledged(), EVENTS);
    provider.happen(LISTED, 5).await;
    // One more, of a sandbox that lives on.
    let listed = |metrics: &Metrics| metrics.sum("sandboxes", "state=\"running\"") >= 1.0;
    daemon.until("the sandboxes are known", listed).await;
    let list: Value = provider.reply("/v2/sandboxes").await.json().await.unwrap();
    let lives = list.as_array().unwrap().iter().find(|one| one["state"] == "running").unwrap();
    let sandbox = lives["sandboxID"].as_str().unwrap();
    let killed = body_of("dash-killed", sandbox, 4, true, &json!("text"), jiff::Timestamp::now());
    let answered = post(&crate::support::daemon::reqwest_client(), &daemon.webhook(), SECRET, &killed).await;
    assert_eq!(answered.unwrap().0, 200);
    let unconfirmed = |metrics: &Metrics| metrics.sum("kills_unconfirmed_total", "") == 1.0;
    daemon.until("the kill does not come true", unconfirmed).await;
    daemon.until_settled("audit", (EVENTS + LISTED + 1) as u64).await;
    let in_the_file = consume::file::<Value>(&home.path().join("audit.ndjson")).len();
    assert_eq!(in_the_file, EVENTS + LISTED + 1);

    let list: Value = provider.reply("/v2/sandboxes").await.json().await.unwrap();
    let running = list.as_array().unwrap().iter().filter(|one| one["state"] == "running").count() as f64;
    let dead = EVENTS / 4 + 1;
    let rows: Vec<Row> = vec![
        ("Oldest unsent", 0, &[("sink", "broken")], Positive),
        ("Oldest unsent", 0, &[("sink", "audit")], Is(0.0)),
        ("Dead letters", 0, &[("sink", "picky")], Is(dead as f64)),
        ("Not accounted for", 0, &[("sink", "audit")], Is(0.0)),
        ("Not accounted for", 0, &[("sink", "picky")], Is(0.0)),
        ("Gaps", 0, &[("source", "acme")], Is(1.0)),
        ("Store in use", 0, &[], Positive),
        ("Lag", 0, &[("sink", "broken")], Positive),
        ("Store", 0, &[], Positive),
        ("Store", 1, &[], Is(GB10)),
        ("Events kept", 0, &[], Positive),
        ("Deliveries", 0, &[("outcome", "accepted")], Counted(EVENTS + 1)),
        ("Deliveries", 0, &[("outcome", "duplicate")], Counted(sent.duplicates)),
        ("Deliveries", 0, &[("outcome", "bad_signature")], Counted(sent.forged)),
        ("Deliveries", 0, &[("outcome", "store_full")], Counted(0)),
        ("Time to the durable answer", 0, &[], Positive),
        ("Time to the durable answer", 1, &[], Positive),
        ("Since the last delivery", 0, &[("source", "acme")], Positive),
        ("New events", 0, &[("origin", "webhook")], Counted(EVENTS + 1)),
        ("New events", 0, &[("origin", "backfill")], Counted(LISTED)),
        ("New events", 0, &[("origin", "metrics")], Positive),
        ("Events by type", 0, &[("type", "sandbox.kill_unconfirmed")], Counted(1)),
        ("Events by type", 0, &[("type", "sandbox.lifecycle.created")], Positive),
        ("Commits", 0, &[], Positive),
        ("Commits", 1, &[], Positive),
        ("Time of a commit", 0, &[], Positive),
        ("Time of a commit", 1, &[], Positive),
        ("Verified through", 0, &[("source", "acme")], Positive),
        ("Recovered", 0, &[("source", "acme")], Counted(LISTED)),
        ("Sweeps", 0, &[("outcome", "ok")], Positive),
        ("Requests to the API", 0, &[("endpoint", "events"), ("code", "200")], Positive),
        ("Up", 0, &[("sink", "audit")], Is(1.0)),
        ("Up", 0, &[("sink", "broken")], Is(0.0)),
        ("Sent", 0, &[("sink", "audit")], Counted(EVENTS + LISTED + 1)),
        ("Sent", 0, &[("sink", "picky")], Counted(EVENTS / 2)),
        ("Errors", 0, &[("sink", "broken"), ("reason", "connect")], Positive),
        ("Not wanted", 0, &[("sink", "picky"), ("reason", "filter")], Counted(EVENTS / 4)),
        ("Not wanted", 0, &[("sink", "picky"), ("reason", "filter_absent")], Counted(LISTED)),
        ("Passed as damaged", 0, &[("sink", "audit")], Is(0.0)),
        ("New dead letters", 0, &[("sink", "picky"), ("reason", "filter")], Counted(dead)),
        ("Sandboxes", 0, &[("state", "running")], Is(running)),
        ("CPU in use", 0, &[], Positive),
        ("Memory in use", 0, &[], Positive),
        ("Memory in use", 1, &[], Positive),
        ("Kills that did not come true", 0, &[("source", "acme")], Is(1.0)),
        ("CPU", 0, &[], Positive),
        ("Resident memory", 0, &[], Positive),
        ("Open files", 0, &[], Positive),
        ("Open files", 1, &[], Positive),
        ("Running since", 0, &[], Positive),
        ("Version", 0, &[], Is(1.0)),
        ("Configuration", 0, &[], Is(1.0)),
        ("Certificate", 0, &[], Positive),
        ("Alerts", 0, &[("alertname", "E2bRelaySinkDown")], Is(1.0)),
    ];
    let panels = panels();
    for panel in &panels {
        for number in 0..panel.queries.len() {
            let is_its = |row: &&Row| row.0 == panel.title && row.1 == number;
            assert!(rows.iter().any(|row| is_its(&row)), "{}: nothing is said about its query {number}", panel.title);
        }
    }
    for (title, number, labels, shows) in rows {
        let panel = panels.iter().find(|panel| panel.title == title).unwrap_or_else(|| panic!("no panel {title}"));
        let query = substituted(&panel.queries[number]);
        let found = async || {
            let all = prometheus.query(&query).await;
            let is_it = |have: &std::collections::BTreeMap<String, String>| {
                labels.iter().all(|(name, value)| have.get(*name).is_some_and(|have| have == value))
            };
            let holds = all.iter().any(|(have, value)| is_it(have) && shows.holds(*value));
            holds.then_some(())
        };
        prometheus.until(&format!("{title} {labels:?} shows {shows:?}: {query}"), found).await;
    }
    println!("{} panels show what has happened", panels.len());
}
