//! A TCP proxy before a broker: it delays, holds back and cuts.

#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What of the broker's answers a hold keeps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Everything.
    Everything,
    /// AMQP frames with `basic.ack`; whatever else comes after them overtakes them.
    AmqpConfirmations,
}

/// Listens on a loopback port of its own; ends with the test's runtime.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<String>,
    holds: Holds,
    delay: Mutex<Duration>,
    sighting: Mutex<Sighting>,
    held: watch::Sender<bool>,
    cuts: watch::Sender<u64>,
    refusing: watch::Sender<bool>,
    /// What an answer is to be cut in the middle of, and how many answers with it go through before.
    tear: Mutex<Option<(Vec<u8>, usize)>>,
    torn: watch::Sender<u64>,
}

/// Counts how often the clients have sent a text.
#[derive(Default)]
struct Sighting {
    needle: Vec<u8>,
    wanted: usize,
    seen: usize,
    /// Sightings that no confirmation has gone back for, and how many those were at most.
    open: usize,
    most_open: usize,
}

impl Proxy {
    /// To `host:port`.
    pub(crate) async fn start(target: &str, holds: Holds) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            holds,
            delay: Mutex::default(),
            sighting: Mutex::default(),
            held: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
            refusing: watch::Sender::new(false),
            tear: Mutex::default(),
            torn: watch::Sender::new(0),
        });
        tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared }
    }

    /// To the host and port of a broker's URL with a user; returns the URL that leads through here, too.
    pub(crate) async fn before(url: &str, holds: Holds) -> (Self, String) {
        let (_, host) = url.rsplit_once('@').expect("a URL with a user");
        let host = host.split('/').next().expect("a host");
        let proxy = Self::start(host, holds).await;
        let through = url.replace(host, &proxy.address().to_string());
        (proxy, through)
    }

    /// New connections go to `host:port`.
    pub(crate) fn aim_at(&self, target: &str) {
        *self.shared.target.lock().expect("not poisoned") = target.to_owned();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Each of the broker's answers comes this much later; they do not wait for one another.
    pub(crate) fn delay_answers(&self, delay: Duration) {
        *self.shared.delay.lock().expect("not poisoned") = delay;
    }

    /// Keeps the broker's answers back until the clients have sent `needle` `times` times, counted from now.
    pub(crate) fn hold_answers_until(&self, needle: &[u8], times: usize) {
        *self.shared.sighting.lock().expect("not poisoned") =
            Sighting { needle: needle.to_vec(), wanted: times, ..Sighting::default() };
        self.shared.held.send_replace(true);
    }

    /// Until then the calls are answered by nobody.
    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// How often the clients have sent what [`Self::hold_answers_until`] named.
    pub(crate) fn seen(&self) -> usize {
        self.shared.sighting.lock().expect("not poisoned").seen
    }

    /// How many publishes were unconfirmed at most since then, each confirmation being that of one.
    pub(crate) fn most_unconfirmed(&self) -> usize {
        self.shared.sighting.lock().expect("not poisoned").most_open
    }

    /// Returns once the clients have sent it `times` times.
    pub(crate) async fn sent(&self, times: usize) {
        let mut held = self.shared.held.subscribe();
        while self.seen() < times {
            held.changed().await.expect("the proxy lives");
        }
    }

    /// Ends all connections, what is held back included.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
        self.shared.held.send_replace(false);
    }

    /// Lets so many of the broker's answers with `needle` through and ends the connection in the middle of the next one: the
    /// half of it is lost.
    pub(crate) fn tear(&self, needle: &[u8], after: usize) {
        *self.shared.tear.lock().expect("not poisoned") = Some((needle.to_vec(), after));
    }

    /// Returns once so many answers are torn in all.
    pub(crate) async fn torn(&self, times: u64) {
        self.shared.torn.subscribe().wait_for(|torn| *torn >= times).await.expect("the proxy lives");
    }

    /// Whether new connections are closed at once.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.shared.refusing.send_replace(refusing);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if *shared.refusing.borrow() {
            continue;
        }
        tokio::spawn(relay(client, shared.clone()));
    }
}

async fn relay(client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let target = shared.target.lock().expect("not poisoned").clone();
    let Ok(broker) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (client_reader, client_writer) = client.into_split();
    let (broker_reader, broker_writer) = broker.into_split();
    let (answers, scheduled) = mpsc::unbounded_channel();
    tokio::select! {
        () = upstream(client_reader, broker_writer, &shared) => {}
        () = downstream(broker_reader, answers, &shared) => {}
        () = write_scheduled(client_writer, scheduled) => {}
        _ = cuts.changed() => {}
    }
}

async fn upstream(mut client: OwnedReadHalf, mut broker: OwnedWriteHalf, shared: &Shared) {
    let mut tail = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = client.read(&mut buffer).await else { return };
        if broker.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        tail.extend_from_slice(&buffer[..length]);
        look(&mut tail, shared);
    }
}

/// Counts the needle in `tail` and leaves what may be the beginning of another one.
fn look(tail: &mut Vec<u8>, shared: &Shared) {
    let mut sighting = shared.sighting.lock().expect("not poisoned");
    let needle = sighting.needle.clone();
    if needle.is_empty() {
        return tail.clear();
    }
    let before = sighting.seen;
    while let Some(at) = tail.windows(needle.len()).position(|window| window == needle) {
        sighting.seen += 1;
        sighting.open += 1;
        sighting.most_open = sighting.most_open.max(sighting.open);
        tail.drain(..at + needle.len());
    }
    tail.drain(..tail.len().saturating_sub(needle.len() - 1));
    if sighting.seen > before {
        let all = sighting.seen >= sighting.wanted;
        // Wakes who waits for sightings, whether or not the hold ends.
        shared.held.send_modify(|held| *held &= !all);
    }
}

async fn downstream(mut broker: OwnedReadHalf, answers: mpsc::UnboundedSender<(Instant, Vec<u8>)>, shared: &Shared) {
    let mut held = shared.held.subscribe();
    let (mut kept, mut input, mut buffer) = (Vec::new(), Vec::new(), vec![0; 64 * 1024]);
    let schedule = |bytes: Vec<u8>| {
        let delay = *shared.delay.lock().expect("not poisoned");
        if shared.holds == Holds::AmqpConfirmations && is_confirmation(&bytes) {
            let mut sighting = shared.sighting.lock().expect("not poisoned");
            sighting.open = sighting.open.saturating_sub(1);
        }
        let _ = answers.send((Instant::now() + delay, bytes));
    };
    loop {
        tokio::select! {
            biased;
            Ok(()) = held.changed() => {
                if !*held.borrow() {
                    kept.drain(..).for_each(&schedule);
                }
            }
            read = broker.read(&mut buffer) => {
                let Ok(length @ 1..) = read else { return };
                input.extend_from_slice(&buffer[..length]);
                while let Some(unit) = next_unit(&mut input, shared.holds) {
                    if let Some(half) = torn(&unit, shared) {
                        schedule(half.to_vec());
                        // Closed when this is written.
                        drop(answers);
                        return std::future::pending().await;
                    }
                    let holds = shared.holds == Holds::Everything || is_confirmation(&unit);
                    if holds && *shared.held.borrow() { kept.push(unit) } else { schedule(unit) }
                }
            }
        }
    }
}

/// What of an answer still goes out where it is to be torn.
fn torn<'a>(unit: &'a [u8], shared: &Shared) -> Option<&'a [u8]> {
    let mut tear = shared.tear.lock().expect("not poisoned");
    let (needle, before) = tear.as_mut()?;
    let at = unit.windows(needle.len()).position(|window| window == needle.as_slice())?;
    if *before > 0 {
        *before -= 1;
        return None;
    }
    let half = unit.get(..at + needle.len() / 2);
    *tear = None;
    shared.torn.send_modify(|torn| *torn += 1);
    half
}

/// Takes the next AMQP frame out of `input`, or all of it where frames do not matter.
fn next_unit(input: &mut Vec<u8>, holds: Holds) -> Option<Vec<u8>> {
    let length = match holds {
        Holds::Everything => input.len(),
        // AMQP 0.9.1, 4.2.3: type (1), channel (2), size (4), payload, end (1).
        Holds::AmqpConfirmations => 8 + u32::from_be_bytes(input.get(3..7)?.try_into().ok()?) as usize,
    };
    (length > 0 && input.len() >= length).then(|| input.drain(..length).collect())
}

/// A method frame (1) of class `basic` (60), method `ack` (80).
fn is_confirmation(frame: &[u8]) -> bool {
    frame.first() == Some(&1) && frame.get(7..11) == Some(&[0, 60, 0, 80])
}

async fn write_scheduled(mut client: OwnedWriteHalf, mut answers: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>) {
    while let Some((at, bytes)) = answers.recv().await {
        tokio::time::sleep_until(at).await;
        if client.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
