//! The status page: what it shows, what it lets a browser do, and whom it lets.
#![cfg(test)]

mod browser;
mod hostile;
mod signing_in;
mod streams;

use crate::support::daemon::{Daemon, Home, Metrics, reqwest_client};
use crate::support::load::{Plan, SECRET, send};
use std::path::PathBuf;

/// A daemon with one source and these sinks, as YAML.
fn home(sinks: &str) -> Home {
    Home::new(&format!(
        "sources: {{acme: {{webhook: {{path: /webhooks/e2b, secrets: ['{SECRET}']}}}}}}\nsinks: {sinks}\n"
    ))
}

const TO_A_FILE: &str = "{audit: {type: file, path: ./audit.ndjson}}";
/// Beside it, a broker that nobody is at.
const ONE_DOWN: &str = "{audit: {type: file, path: ./audit.ndjson}, lake: {type: nats, servers: ['nats://127.0.0.1:1'], subject: e2b.events, jetstream: false}}";

fn url(daemon: &Daemon, path: &str) -> String {
    format!("http://{}{path}", daemon.admin)
}

fn token_file(home: &Home) -> PathBuf {
    home.path().join("data/admin-token")
}

fn token(home: &Home) -> String {
    std::fs::read_to_string(token_file(home)).unwrap().trim_end().to_owned()
}

/// A page, after its status, its size and its headers were looked at.
async fn page(daemon: &Daemon, path: &str) -> String {
    let answer = reqwest_client().get(url(daemon, path)).send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let html = answer.text().await.unwrap();
    assert_eq!(status, 200, "{html}");
    assert_guarded(&headers);
    assert!(html.len() <= 100_000, "{} bytes", html.len());
    html
}

/// Nothing but what is in the response and the binary is ever shown or run.
fn assert_guarded(headers: &reqwest::header::HeaderMap) {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let policy = header("content-security-policy");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for directive in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"]
    {
        assert!(policy.split("; ").any(|one| one == directive), "{directive}: {policy}");
    }
    assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff".into(), "no-store".into()));
    assert_eq!(header("referrer-policy"), "same-origin");
}

/// What stands at a figure's place.
fn figure(html: &str, name: &str) -> String {
    let place = html.split(&format!("data-figure=\"{name}\"")).nth(1).unwrap_or_else(|| panic!("no {name}"));
    let text = place.split_once('>').unwrap().1.split('<').next().unwrap();
    text.to_owned()
}

fn number(html: &str, name: &str) -> u64 {
    figure(html, name).replace(',', "").parse().unwrap_or_else(|_| panic!("{name}: {}", figure(html, name)))
}

/// The cells of a table's rows, as text.
fn rows(html: &str, table: &str) -> Vec<Vec<String>> {
    let body = html.split(&format!("data-table=\"{table}\">")).nth(1).unwrap().split("</tbody>").next().unwrap();
    let cell = |cell: &str| {
        let (_, inner) = cell.split_once('>').unwrap();
        let inner = inner.rsplit_once("</svg>").map_or(inner, |(_, text)| text);
        inner.split('<').next().unwrap().trim().to_owned()
    };
    body.split("<tr").skip(1).map(|row| row.split("<td").skip(1).map(cell).collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_figures_are_those_of_metrics_and_those_of_an_independent_count() {
    let home = home(ONE_DOWN);
    let daemon = home.start().await;
    let idle = page(&daemon, "/").await;
    assert_eq!((number(&idle, "outcome.accepted"), figure(&idle, "p99")), (0, "none".to_owned()));
    let plan = Plan { events: 1_500, repeated: 0.1, forged: 0.05, ..Plan::default() };
    let webhook = daemon.webhook();
    let sent = send(plan, move || webhook.clone()).await;
    daemon.until_settled("audit", 1_500).await;
    daemon.until("they are counted", |metrics| metrics.sum("store_events", "") == 1_500.0).await;
    // The lag is told once a second.
    let lag = |metrics: &Metrics, sink: &str| metrics.sum("sink_lag_events", sink);
    daemon
        .until("the lag is told", |metrics| lag(metrics, "\"lake\"") == 1_500.0 && lag(metrics, "\"audit\"") == 0.0)
        .await;

    let (html, metrics) = (page(&daemon, "/").await, daemon.metrics().await);
    let counted = [
        ("outcome.accepted", sent.ledger.acknowledged(), metrics.sum("deliveries_total", "\"accepted\"")),
        ("outcome.duplicate", sent.duplicates, metrics.sum("deliveries_total", "\"duplicate\"")),
        ("outcome.bad_signature", sent.forged, metrics.sum("deliveries_total", "\"bad_signature\"")),
        (
            "refused",
            sent.forged,
            metrics.sum("deliveries_total", "")
                - metrics.sum("deliveries_total", "\"accepted\"")
                - metrics.sum("deliveries_total", "\"duplicate\""),
        ),
        ("waiting", 1_500, metrics.sum("sink_lag_events", "\"lake\"")),
        ("letters", 0, metrics.sum("sink_dead_letters", "")),
        ("store.events", 1_500, metrics.sum("store_events", "")),
    ];
    for (name, oracle, exported) in counted {
        assert_eq!((number(&html, name), exported as usize), (oracle as u64, oracle), "{name}");
    }
    for state in ["running", "paused", "other"] {
        let exported = metrics.sum("sandboxes", &format!("state=\"{state}\""));
        assert_eq!(number(&html, &format!("sandboxes.{state}")), exported as u64, "{state}");
    }
    assert!(sent.duplicates > 50 && sent.forged > 20, "{} {}", sent.duplicates, sent.forged);
    let sinks = rows(&html, "sinks");
    assert_eq!(sinks[0][..3], ["lake", "down", "1,500"], "what is in trouble comes first");
    assert_eq!(
        (sinks[1][..3].to_vec(), sinks[1][5].as_str()),
        (vec!["audit".into(), "up".into(), "0".into()], "1,500")
    );
    let told = ["acme", "1,500", &sent.duplicates.to_string(), &sent.forged.to_string()];
    assert_eq!(rows(&html, "sources")[0][..4], told);
    assert!(figure(&html, "status").contains("Down: lake"), "{}", figure(&html, "status"));

    // The newest events, as the API tells them.
    let listed: serde_json::Value =
        reqwest_client().get(url(&daemon, "/api/events?limit=20")).send().await.unwrap().json().await.unwrap();
    let ids: Vec<String> =
        listed["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(rows(&html, "events").iter().map(|row| row[6].clone()).collect::<Vec<_>>(), ids);

    // The accept latency, by the same buckets.
    let bucket = |bound: &str| metrics.sum("delivery_duration_seconds_bucket", &format!("le=\"{bound}\""));
    let p99 = figure(&html, "p99");
    let (value, unit) = p99.split_once(' ').unwrap();
    let seconds = value.parse::<f64>().unwrap() * if unit == "ms" { 1e-3 } else { 1.0 };
    let bounds =
        ["0.0005", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10"];
    let rank = 0.99 * bucket("+Inf");
    let upper = bounds.iter().find(|bound| bucket(bound) >= rank).unwrap().parse::<f64>().unwrap();
    assert!(seconds <= upper * 1.06 && seconds >= upper / 2.7, "{p99} of a bucket up to {upper} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_response_paints_it_and_nothing_is_fetched_from_elsewhere() {
    let home = home(
        "{audit: {type: file, path: ./audit.ndjson}, odd: {type: nats, servers: ['tls://127.0.0.1:1'], subject: e2b.events, insecure_skip_verify: true, jetstream: false}}",
    );
    let daemon = home.start().await;
    let html = page(&daemon, "/").await;
    assert!(html.contains("<noscript>") && html.contains("prefers-color-scheme: dark"));
    assert!(html.contains("Sink odd: any certificate is taken for its peer"), "insecure_skip_verify is shown");
    let scripts: Vec<&str> = html.split("<script").skip(1).map(|rest| rest.split('>').next().unwrap()).collect();
    assert_eq!(scripts, [" src=\"page.js\" defer"]);
    for attribute in [" style=", " onclick=", " onload=", " onerror=", "javascript:"] {
        assert!(!html.contains(attribute), "{attribute}");
    }
    let (_, body) = html.split_once("</style>").unwrap();
    assert!(!body.contains("http://") && !body.contains("https://") && !body.contains("//"), "an address in the page");
    let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert!(!style.contains("@import") && !style.replace("url(\"data:", "").contains("url("), "a style from elsewhere");

    let script = reqwest_client().get(url(&daemon, "/page.js")).send().await.unwrap();
    assert_eq!(script.headers()["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(script.headers()["x-content-type-options"], "nosniff");
    let script = script.text().await.unwrap();
    for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser"]
    {
        assert!(!script.contains(way), "{way}");
    }
    assert_eq!(reqwest_client().post(url(&daemon, "/")).send().await.unwrap().status(), 405);
}
