//! Keep-alive connections that send prepared requests, in a closed loop or on a schedule.

use crate::deliveries;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A run ends after this whatever happens.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    /// `http://HOST:PORT/PATH`.
    #[arg(long)]
    pub(crate) url: String,
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Most deliveries; all are made before the first is sent, at 1 KB of memory each.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) events: usize,
    /// Ends earlier than all are sent.
    #[arg(long, default_value = "60s")]
    pub(crate) duration: humantime::Duration,
    /// Open loop: so many per second on a schedule, whatever the answers do, and a latency counts from the time that was
    /// scheduled. Without it each connection sends its next when the last is answered. Timers tick in milliseconds.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// How long ago the events happened.
    #[arg(long, default_value = "0s")]
    pub(crate) age: humantime::Duration,
}

/// What came of a run. Latencies are of the answers 200 and in microseconds.
pub(crate) struct Figures {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Histogram<u64>,
}

impl Figures {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // It grows by itself, but only in `record`: `saturating_record` would cut at what it has room for at first, 2 ms.
        let latency = Histogram::new(3).context("a histogram")?;
        Ok(Self { accepted: 0, refused: 0, elapsed: Duration::ZERO, latency })
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.accepted as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn milliseconds(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} accepted, {} refused, {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
            self.accepted,
            self.refused,
            self.per_second(),
            self.milliseconds(0.5),
            self.milliseconds(0.99),
            self.milliseconds(0.999)
        )
    }
}

/// What the connections share.
struct Run {
    host: String,
    requests: Vec<Bytes>,
    next: AtomicUsize,
    started: Instant,
    until: Instant,
    /// Between two deliveries of the schedule.
    interval: Option<Duration>,
    figures: Mutex<Figures>,
}

impl Options {
    /// So many deliveries by 64 connections, however long they take.
    pub(crate) fn few(url: &str, events: usize) -> Self {
        Self {
            url: url.to_owned(),
            connections: 64,
            events,
            duration: LONGEST.into(),
            rate: None,
            age: Duration::ZERO.into(),
        }
    }
}

/// Makes the deliveries, then sends them.
pub(crate) async fn send(options: &Options) -> anyhow::Result<Figures> {
    Load::prepare(options)?.send().await
}

/// Deliveries that are made and not yet sent, so that making them counts for nothing.
pub(crate) struct Load {
    options: Options,
    host: String,
    requests: Vec<Bytes>,
}

impl Load {
    pub(crate) fn prepare(options: &Options) -> anyhow::Result<Self> {
        let rest = options.url.strip_prefix("http://").context("only http:// is spoken")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let requests = deliveries::requests(host, &format!("/{path}"), options.events, options.age.into());
        Ok(Self { options: options.clone(), host: host.to_owned(), requests })
    }

    pub(crate) async fn send(self) -> anyhow::Result<Figures> {
        let started = Instant::now();
        let run = Arc::new(Run {
            host: self.host,
            requests: self.requests,
            next: AtomicUsize::new(0),
            started,
            until: started + Duration::from(self.options.duration).min(LONGEST),
            interval: self.options.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            figures: Mutex::new(Figures::new()?),
        });
        let mut connections = tokio::task::JoinSet::new();
        for _ in 0..self.options.connections {
            connections.spawn(connection(Arc::clone(&run)));
        }
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        let elapsed = started.elapsed();
        let run = Arc::into_inner(run).context("every connection has ended")?;
        let mut figures = run.figures.into_inner().unwrap_or_else(PoisonError::into_inner);
        figures.elapsed = elapsed;
        Ok(figures)
    }
}

async fn connection(run: Arc<Run>) -> anyhow::Result<()> {
    let mut figures = Figures::new()?;
    let mut stream = open(&run.host).await?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let number = run.next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = run.requests.get(number) else { break };
        let due = match run.interval {
            None => Instant::now(),
            Some(interval) => {
                let due = run.started + interval.mul_f64(number as f64);
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        // By the schedule, not by the clock: what was due in time and is late must be sent, or the worst latencies of all
        // would be the ones left out.
        if due >= run.until {
            break;
        }
        if run.started.elapsed() > LONGEST {
            bail!("the receiver does not follow the schedule: {number} sent after {} s", LONGEST.as_secs());
        }
        stream.write_all(request).await?;
        let (status, closes) = answer(&mut stream, &mut buffer).await?;
        if status == 200 {
            figures.accepted += 1;
            figures.latency.record(u64::try_from(due.elapsed().as_micros())?)?;
        } else {
            figures.refused += 1;
        }
        if closes {
            stream = open(&run.host).await?;
        }
    }
    let mut all = run.figures.lock().unwrap_or_else(PoisonError::into_inner);
    all.accepted += figures.accepted;
    all.refused += figures.refused;
    all.latency.add(&figures.latency)?;
    Ok(())
}

async fn open(host: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(host).await.with_context(|| format!("cannot connect to {host}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The body that is there.
pub(crate) async fn get(host: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = open(host).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await?;
    let mut buffer = Vec::new();
    let (status, _) = answer(&mut stream, &mut buffer).await?;
    let text = String::from_utf8(buffer)?;
    let (_, body) = text.split_once("\r\n\r\n").context("an answer without an end of its header")?;
    if status != 200 {
        bail!("{path} was answered {status}: {body}");
    }
    Ok(body.to_owned())
}

/// Reads one answer into `buffer`: its status, and whether the connection ends with it.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<(u16, bool)> {
    buffer.clear();
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, body) = buffer.split_at(end + 4);
            let head = std::str::from_utf8(head)?.to_ascii_lowercase();
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let length: usize = field("content-length:").context("an answer without a length")?.parse()?;
            if body.len() >= length {
                let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
                return Ok((status, field("connection:") == Some("close")));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            bail!("the connection was closed in the middle of an answer");
        }
    }
}
