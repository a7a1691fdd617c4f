//! Making a connection: the servers in turn; the socket, TLS, and the handshake within a limit.

use super::classify;
use super::flow::Flow;
use super::link::Link;
use super::settings::{Server, Settings};
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
    servers: Vec<Server>,
    /// `None` is the system's roots.
    tls: Option<RustlsConnector>,
    /// Of the newest connection, for whoever asks what the trouble is.
    flow: Arc<Flow>,
}

impl Connector {
    pub(super) fn new(
        settings: Settings,
        servers: Vec<Server>,
        tls: Option<rustls::ClientConfig>,
        flow: Arc<Flow>,
    ) -> Self {
        Self { settings, servers, tls: tls.map(RustlsConnector::from), flow }
    }

    /// To the first server that takes us.
    pub(super) async fn connect(&self) -> Result<Link, SendError> {
        let mut failures = Vec::new();
        for server in &self.servers {
            match self.connect_to(server).await {
                Ok((connection, socket)) => {
                    let (settings, server) = (self.settings.clone(), server.clone());
                    return Ok(Link::new(connection, socket, settings, server, &self.flow));
                }
                Err(failure) => failures.push(failure),
            }
        }
        Err(classify::all_of(failures))
    }

    /// lapin runs a thread for each connection, and knows no limit for a handshake: against a peer that accepts and says
    /// nothing, each attempt would leave a thread behind. So we keep a handle on the socket and end it there.
    async fn connect_to(&self, server: &Server) -> Result<(Connection, Socket), SendError> {
        let Server { uri, peer } = server;
        let failed = |error: &lapin::Error| classify::connecting(error, "connect to", peer);
        let runtime = lapin::runtime::default_runtime().map_err(|error| failed(&error))?;
        let socket = Socket::default();
        let (limit, tls, handle) = (self.settings.connect_timeout, self.tls.clone(), socket.0.clone());
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
        let connecting = Connection::connector(uri.clone(), runtime, open, properties);
        match timeout(limit, connecting).await {
            Ok(connected) => connected.map(|connection| (connection, socket)).map_err(|error| failed(&error)),
            Err(_) => {
                socket.end();
                Err(sink_wide(Reason::Connect, format!("cannot connect to {peer}: timed out")))
            }
        }
    }
}

/// A handle on a connection's socket.
#[derive(Default)]
pub(super) struct Socket(Arc<OnceLock<TcpStream>>);

impl Socket {
    /// Ends the connection where it does not end in good order.
    pub(super) fn end(&self) {
        if let Some(socket) = self.0.get() {
            // An error means that it is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
