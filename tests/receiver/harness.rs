//! A receiver on a free port, and a client that sends exactly the bytes it is told.

use crate::support::sign;
use e2b_relay::event::{Arrival, Event};
use e2b_relay::http::{self, Listener};
use e2b_relay::intake::{Accepted, Intake, Limits, Log, Refused};
use e2b_relay::metrics::Metrics;
use e2b_relay::secret::Secret;
use e2b_relay::shutdown::{self, Trigger};
use e2b_relay::source;
use e2b_relay::source::webhook::{self, Receiver};
use e2b_relay::verify::Accept;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub(crate) const SECRET: &str = "a secret of thirty-two characters";
pub(crate) const OTHER_SECRET: &str = "another secret, of another source";
pub(crate) const TEAM: &str = "460355b3-4f64-48f9-9a16-4442817f79f5";
pub(crate) const PATH: &str = "/webhooks/e2b";

/// What the log does with the next events.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    Keep,
    Refuse(Refused),
    /// Never answers.
    Hang,
}

/// A log that keeps what it is given.
pub(crate) struct MemoryLog {
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) kept: Mutex<Vec<(Event, Arrival)>>,
    pub(crate) quarantined: Mutex<Vec<(String, Vec<u8>)>>,
    ids: Mutex<HashSet<String>>,
}

impl MemoryLog {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            behaviour: Mutex::new(Behaviour::Keep),
            kept: Mutex::default(),
            quarantined: Mutex::default(),
            ids: Mutex::default(),
        })
    }
}

impl Log for MemoryLog {
    fn accept(&self, event: Event, arrival: Arrival) -> BoxFuture<'static, Result<Accepted, Refused>> {
        let outcome = match *self.behaviour.lock().unwrap() {
            Behaviour::Hang => return Box::pin(std::future::pending()),
            Behaviour::Refuse(refused) => Err(refused),
            Behaviour::Keep if !self.ids.lock().unwrap().insert(event.id.clone()) => Ok(Accepted::Duplicate),
            Behaviour::Keep => {
                let mut kept = self.kept.lock().unwrap();
                kept.push((event, arrival));
                Ok(Accepted::New { sequence: kept.len() as u64 })
            }
        };
        Box::pin(std::future::ready(outcome))
    }

    fn quarantine(&self, source: &str, _: &str, body: &[u8]) -> std::io::Result<()> {
        self.quarantined.lock().unwrap().push((source.to_owned(), body.to_vec()));
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        match *self.behaviour.lock().unwrap() {
            Behaviour::Refuse(Refused::Full { .. }) => Err("the store is full".to_owned()),
            _ => Ok(()),
        }
    }
}

/// A running receiver with the sources `acme` at [`PATH`] and `beta` at `/beta`.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) metrics: Metrics,
    /// Makes deliveries be refused.
    pub(crate) draining: Trigger,
    /// Ends the listener.
    pub(crate) shutdown: Trigger,
    pub(crate) served: JoinHandle<()>,
}

pub(crate) fn webhook(path: Option<&str>, secret: &str, signature: Accept) -> webhook::Settings {
    webhook::Settings { path: path.map(str::to_owned), secrets: vec![Secret::new(secret)], signature }
}

impl Relay {
    pub(crate) async fn start() -> Self {
        Self::start_with(http::Settings::default()).await
    }

    pub(crate) async fn start_with(server: http::Settings) -> Self {
        Self::start_signed(server, Accept::Auto).await
    }

    pub(crate) async fn start_signed(server: http::Settings, signature: Accept) -> Self {
        let server = http::Settings { listen: ([127, 0, 0, 1], 0).into(), ..server };
        let acme = source::Settings {
            team_id: Some(TEAM.to_owned()),
            webhook: Some(webhook(None, SECRET, signature)),
            ..Default::default()
        };
        let beta =
            source::Settings { webhook: Some(webhook(Some("/beta"), OTHER_SECRET, signature)), ..Default::default() };
        let (log, metrics) = (MemoryLog::new(), Metrics::new("0", "0").unwrap());
        let (draining, is_draining) = shutdown::channel();
        let limits = Limits {
            dedupe_window: Duration::from_secs(8 * 86_400),
            commit_timeout: server.commit_timeout,
            max_in_flight: server.max_in_flight,
        };
        let clock = Arc::new(jiff::Timestamp::now);
        let intake = Arc::new(Intake::new(Arc::clone(&log) as _, limits, clock, metrics.clone(), is_draining));
        let limits = webhook::Limits {
            max_body: server.max_body.as_u64() as usize,
            max_buffered: server.max_buffered.as_u64() as usize,
            request_timeout: server.request_timeout,
        };
        let sources = [("acme", &acme), ("beta", &beta)];
        let receiver = Arc::new(Receiver::new(sources, limits, Arc::clone(&intake), metrics.clone()));
        let listener = Listener::bind(&server, None, &metrics).await.unwrap();
        let address = listener.address();
        let (shutdown, is_shutdown) = shutdown::channel();
        let served = tokio::spawn(listener.serve(http::public(receiver, Arc::clone(&intake)), is_shutdown));
        Self { address, log, intake, metrics, draining, shutdown, served }
    }

    pub(crate) async fn connect(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// One delivery on a connection of its own.
    pub(crate) async fn post(&self, headers: &[(&str, String)], body: &[u8]) -> Answer {
        self.connect().await.send(&post(PATH, headers, body)).await
    }

    /// One delivery of `acme`, rightly signed.
    pub(crate) async fn deliver(&self, body: &[u8]) -> Answer {
        self.post(&[sign::e2b(SECRET, body)], body).await
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.log.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn kept(&self) -> usize {
        self.log.kept.lock().unwrap().len()
    }

    /// How many deliveries of `acme` came to `outcome`.
    pub(crate) fn count(&self, outcome: &str) -> u64 {
        let series = format!("e2b_relay_deliveries_total{{outcome=\"{outcome}\",source=\"acme\"}} ");
        let text = self.metrics.encode().unwrap();
        text.lines().find_map(|line| line.strip_prefix(&series)).expect("from the start").parse().unwrap()
    }
}

/// A cloud event of now, with an id of its own.
pub(crate) fn event() -> Value {
    json!({
        "version": "v2", "id": uuid::Uuid::new_v4().to_string(), "type": "sandbox.lifecycle.created",
        "timestamp": jiff::Timestamp::now().to_string(), "event_category": "lifecycle", "event_label": "create",
        "event_data": {"sandbox_metadata": {"env": "prod"}}, "sandbox_id": "iz62km2v0zwlow3i7icxv",
        "sandbox_execution_id": "1dae9e1c", "sandbox_template_id": "rki5", "sandbox_build_id": "a979",
        "sandbox_team_id": TEAM,
    })
}

/// The event with one field replaced.
pub(crate) fn event_with(name: &str, value: Value) -> Vec<u8> {
    let mut event = event();
    event[name] = value;
    event.to_string().into_bytes()
}

/// An HTTP/1.1 request.
pub(crate) fn post(path: &str, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: relay\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    [request.as_bytes(), b"\r\n", body].concat()
}

/// How long the relay may take for anything, so that a fault is a failure and not a wait without end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub(crate) struct Client<S>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn send(&mut self, request: &[u8]) -> Answer {
        self.0.write_all(request).await.unwrap();
        self.answer().await
    }

    /// The next answer. Fails the test when the connection ends first.
    pub(crate) async fn answer(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.read_answer()).await.expect("an answer in time")
    }

    async fn read_answer(&mut self) -> Answer {
        let mut header = Vec::new();
        while !header.ends_with(b"\r\n\r\n") {
            header.push(self.0.read_u8().await.expect("an answer"));
        }
        let header = String::from_utf8(header).unwrap();
        let mut lines = header.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        Answer { status, headers, body: String::from_utf8(body).unwrap() }
    }

    /// Whatever comes until the peer ends.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("an end in time");
        rest
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The error's message, after a look at everything that an error has in common.
    #[track_caller]
    pub(crate) fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let mut json = self.json();
        assert_eq!(json["success"], json!(false), "{self:?}");
        assert_eq!(json.as_object().unwrap().len(), 2, "{self:?}");
        assert_eq!(self.header("retry-after").is_some(), status == 503, "{self:?}");
        if let Some(seconds) = self.header("retry-after") {
            assert!(seconds.parse::<u64>().unwrap() > 0);
        }
        json["error"].take().as_str().expect("a message").to_owned()
    }

    #[track_caller]
    pub(crate) fn accepted(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let json = self.json();
        assert_eq!(json, json!({"success": true, "id": json["id"]}));
        json["id"].as_str().expect("an id").to_owned()
    }
}
