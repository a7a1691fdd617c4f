//! Whether the answer to the provider is as quick while somebody reads `/metrics` with the gauges of 10,000 sandboxes.

use crate::client;
use crate::subject::{self, Places};
use anyhow::{Context, bail};
use axum::extract::Query;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::Instant;

const CONNECTIONS: usize = 64;
const SANDBOXES: usize = 10_000;
/// Of the API's list.
const PAGE: usize = 100;
/// The sandboxes are all seen by then, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    places: Places,
    /// Deliveries per second.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    #[arg(long, default_value = "5s")]
    duration: humantime::Duration,
    /// Between two scrapes.
    #[arg(long, default_value = "1s")]
    every: humantime::Duration,
    /// Of both, in turn.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let api = format!("http://{}", listener.local_addr()?);
    let serving = Router::new().route("/v2/sandboxes", get(list)).route("/sandboxes/metrics", get(samples));
    let serving = tokio::spawn(async move { axum::serve(listener, serving).await });
    let source = json!({
        "api": {"url": api, "api_key": "e2b_0123456789abcdef0123456789abcdef01234567"},
        "backfill": {"enabled": false},
        // The samples are read at the start, when no sandbox is known yet, then after this, and not again while it is
        // measured: what is measured is the scrape of the relay, and not by it.
        "metrics": {"interval": "45s", "records": false, "max_series": SANDBOXES},
    });
    let sink = json!({"out": {"type": "file", "path": "./out.ndjson"}});
    let subject = subject::relay_with(&options.places.relay, &json!({}), &source, &sink, None).await?;
    let metrics = format!("http://{}/metrics", subject.admin()?);
    let bytes = until_all_are_shown(&metrics).await?;
    println!(
        "Open loop at {} a second, {} each, file sink, gauges of {SANDBOXES} sandboxes ({bytes} bytes) read every {}.\n",
        options.rate, options.duration, options.every
    );
    println!("| scrapes | accepted/s | refused | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|---|");
    let mut ratios = Vec::new();
    for _ in 0..options.repeats {
        let [without, with] =
            [row(&subject.url, None, options).await?, row(&subject.url, Some(&metrics), options).await?];
        ratios.push(with / without);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).context("no repeats")?;
    println!("\np99 with scrapes to p99 without, median: {median:.2}");
    serving.abort();
    Ok(())
}

/// The p99 in milliseconds.
async fn row(url: &str, metrics: Option<&str>, options: &Options) -> anyhow::Result<f64> {
    let events = (options.rate * options.duration.as_secs_f64()) as usize;
    let load = client::Options {
        connections: CONNECTIONS,
        rate: Some(options.rate),
        duration: options.duration,
        ..client::Options::few(url, events)
    };
    let load = client::Load::prepare(&load)?;
    let scraping = async {
        let Some(metrics) = metrics else { return std::future::pending::<anyhow::Result<()>>().await };
        let mut ticks = tokio::time::interval(*options.every);
        loop {
            ticks.tick().await;
            scrape(metrics).await?;
        }
    };
    let figures = tokio::select! {
        figures = load.send() => figures?,
        Err(error) = scraping => return Err(error),
    };
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| figures.milliseconds(part));
    let (accepted, refused) = (figures.per_second(), figures.refused);
    let scrapes = if metrics.is_some() { "yes" } else { "no" };
    println!("| {scrapes} | {accepted:.0} | {refused} | {p50:.2} | {p99:.2} | {p999:.2} |");
    Ok(p99)
}

/// By a process of its own: the generator's thread has a schedule to keep.
async fn scrape(url: &str) -> anyhow::Result<usize> {
    let mut curl = Command::new("curl");
    curl.args(["-sSf", "-o", "/dev/null", "-w", "%{size_download}", url]).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = curl.output().await.context("curl")?;
    if !output.status.success() {
        bail!("{url} cannot be read");
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

async fn until_all_are_shown(metrics: &str) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let bytes = scrape(metrics).await?;
        // Seven lines each, of at least 50 bytes.
        if bytes > SANDBOXES * 7 * 50 {
            return Ok(bytes);
        }
        if Instant::now() >= deadline {
            bail!("the sandboxes are not shown: {bytes} bytes");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The provider's list of sandboxes; the token is where the next page begins.
async fn list(Query(query): Query<BTreeMap<String, String>>) -> impl IntoResponse {
    let first: usize = query.get("nextToken").and_then(|token| token.parse().ok()).unwrap_or(0);
    let page: Vec<Value> = (first..SANDBOXES.min(first + PAGE)).map(sandbox).collect();
    let next = first + PAGE;
    let token = if next < SANDBOXES { next.to_string() } else { String::new() };
    ([("x-next-token", token)], Json(page))
}

fn sandbox(number: usize) -> Value {
    json!({
        "sandboxID": format!("iz62km2v0zwlow3i{number:05}"), "templateID": "rki5dems9wqfm4r03t7g", "clientID": "c",
        "startedAt": "2026-08-21T10:00:00Z", "endAt": "2036-08-21T10:00:00Z", "state": "running",
        "cpuCount": 2, "memoryMB": 512, "diskSizeMB": 1024, "envdVersion": "0.2.0",
    })
}

/// The latest sample of each that is asked for.
async fn samples(Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let now = jiff::Timestamp::now();
    let sample = json!({
        "timestamp": now, "timestampUnix": now.as_second(), "cpuCount": 2, "cpuUsedPct": 12.5, "memUsed": 268_435_456,
        "memTotal": 536_870_912, "memCache": 0, "diskUsed": 104_857_600, "diskTotal": 1_073_741_824,
    });
    let ids = query.get("sandbox_ids").map(String::as_str).unwrap_or_default().split(',');
    Json(json!({"sandboxes": ids.map(|id| (id.to_owned(), sample.clone())).collect::<BTreeMap<_, _>>()}))
}
