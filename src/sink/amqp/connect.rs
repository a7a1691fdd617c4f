//! Making a connection: the socket, TLS, the handshake within a limit, and what is to be declared.

use super::classify;
use super::settings::{Declare, ExchangeType, Settings};
use crate::sink::handover::sink_wide;
use crate::sink::{Reason, SendError};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::tcp::{AsyncTcpStream, RustlsConnector, TLSConfig};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// Makes connections.
pub(super) struct Connector {
    pub(super) settings: Settings,
    pub(super) peer: Arc<str>,
    uri: AMQPUri,
    /// `None` is the system's roots.
    tls: Option<RustlsConnector>,
}

impl Connector {
    pub(super) fn new(settings: Settings, uri: AMQPUri, tls: Option<rustls::ClientConfig>, peer: Arc<str>) -> Self {
        Self { settings, peer, uri, tls: tls.map(RustlsConnector::from) }
    }

    /// Connects and declares.
    pub(super) async fn connect(&self) -> Result<Connection, SendError> {
        let connection = self.handshake().await?;
        let Some(declare) = &self.settings.declare else { return Ok(connection) };
        let declaring = async {
            let channel = connection.create_channel().await?;
            declare_all(&channel, &self.settings.exchange, declare).await
        };
        timeout(self.settings.connect_timeout, declaring)
            .await
            .map_err(|_| sink_wide(Reason::Timeout, format!("cannot declare at {}: timed out", self.peer)))?
            .map_err(|error| classify::connecting(&error, "declare at", &self.peer))?;
        Ok(connection)
    }

    /// lapin runs a thread for each connection, and knows no limit for a handshake: against a peer that accepts and says
    /// nothing, each attempt would leave a thread behind. So we keep a handle on the socket and end it there.
    async fn handshake(&self) -> Result<Connection, SendError> {
        let failed = |error: &lapin::Error| classify::connecting(error, "connect to", &self.peer);
        let runtime = lapin::runtime::default_runtime().map_err(|error| failed(&error))?;
        let socket = Arc::new(OnceLock::new());
        let (limit, tls, handle) = (self.settings.connect_timeout, self.tls.clone(), socket.clone());
        let reactor = runtime.clone();
        let open = async move |uri: AMQPUri, _| {
            let opening = async {
                let host = uri.authority.host.clone();
                let addresses: Vec<_> = lookup_host((host.as_str(), uri.authority.port)).await?.collect();
                let stream = AsyncTcpStream::connect(&reactor, addresses).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let plain: TcpStream = plain.get_ref().as_fd().try_clone_to_owned()?.into();
                    // Opened once per connection, so it is not set yet.
                    let _ = handle.set(plain);
                }
                match (&uri.scheme, &tls) {
                    (AMQPScheme::AMQP, _) => Ok(stream),
                    (AMQPScheme::AMQPS, Some(connector)) => stream.into_rustls(connector, &host).await,
                    (AMQPScheme::AMQPS, None) => stream.into_tls(&host, TLSConfig::default()).await,
                }
            };
            let opened = timeout(limit, opening).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            opened.map_err(lapin::Error::from)
        };
        let properties = ConnectionProperties::default()
            .with_connection_name("e2b-relay".into())
            .with_client_property("product".into(), "e2b-relay".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let connecting = Connection::connector(self.uri.clone(), runtime, open, properties);
        match timeout(limit, connecting).await {
            Ok(connected) => connected.map_err(|error| failed(&error)),
            Err(_) => {
                if let Some(socket) = socket.get() {
                    // An error means that it is closed already.
                    let _ = socket.shutdown(Shutdown::Both);
                }
                Err(sink_wide(Reason::Connect, format!("cannot connect to {}: timed out", self.peer)))
            }
        }
    }
}

async fn declare_all(channel: &Channel, exchange: &str, declare: &Declare) -> lapin::Result<()> {
    let kind = match declare.exchange_type {
        ExchangeType::Topic => ExchangeKind::Topic,
        ExchangeType::Direct => ExchangeKind::Direct,
        ExchangeType::Fanout => ExchangeKind::Fanout,
        ExchangeType::Headers => ExchangeKind::Headers,
    };
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default()).await?;
    if declare.queue.is_empty() {
        return Ok(());
    }
    let mut arguments = FieldTable::default();
    if let Some(queue_type) = declare.queue_type {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from(queue_type.as_str())));
    }
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(declare.queue.as_str().into(), durable, arguments).await?;
    let (queue, key) = (declare.queue.as_str().into(), declare.binding_key.as_str().into());
    channel.queue_bind(queue, exchange.into(), key, QueueBindOptions::default(), FieldTable::default()).await
}
