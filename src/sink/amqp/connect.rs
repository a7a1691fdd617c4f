//! Making a connection: the socket, TLS, and the handshake within a limit.

use super::classify;
use super::settings::Settings;
use crate::sink::handover::sink_wide;
use crate::sink::{Reason, SendError};
use lapin::tcp::{AsyncTcpStream, RustlsConnector, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
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

    /// lapin runs a thread for each connection, and knows no limit for a handshake: against a peer that accepts and says
    /// nothing, each attempt would leave a thread behind. So we keep a handle on the socket and end it there.
    pub(super) async fn connect(&self) -> Result<Connection, SendError> {
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
