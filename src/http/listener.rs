//! The accept loop.

use super::activity::Activity;
use super::connection::{self, App};
use super::connections::Connections;
use super::settings::Settings;
use super::tls::Tls;
use crate::certificate::Unusable;
use crate::logging::Occasional;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long accepting pauses when the system does not give us a connection (no file descriptor left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Open connections on the admin listener.
const ADMIN_CONNECTIONS: usize = 256;

/// What the peers of one listener may cost.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Open connections.
    pub(super) max_connections: usize,
    /// Without a complete header for this long, a connection is closed.
    pub(super) request_timeout: Duration,
}

/// Why a listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}: {source}")]
    Address {
        /// From the settings.
        listen: SocketAddr,
        /// The system's word for it.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("server.tls.{0}")]
    Tls(#[from] Unusable),
}

/// A bound address, not yet served.
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    limits: Limits,
}

impl Listener {
    /// Binds the public listener, unless it is bound already; `metrics` are told when its certificate ends.
    pub async fn bind(
        settings: &Settings,
        bound: Option<std::net::TcpListener>,
        metrics: &Metrics,
    ) -> Result<Self, BindError> {
        let limits = Limits { max_connections: settings.max_connections, request_timeout: settings.request_timeout };
        let tls = settings.tls.as_ref().map(|tls| Tls::load(tls, metrics)).transpose()?;
        Self::bind_with(settings.listen, bound, tls, limits).await
    }

    /// Binds the admin listener, unless it is bound already.
    pub async fn bind_admin(listen: SocketAddr, bound: Option<std::net::TcpListener>) -> Result<Self, BindError> {
        let limits =
            Limits { max_connections: ADMIN_CONNECTIONS, request_timeout: Settings::default().request_timeout };
        Self::bind_with(listen, bound, None, limits).await
    }

    async fn bind_with(
        listen: SocketAddr,
        bound: Option<std::net::TcpListener>,
        tls: Option<Tls>,
        limits: Limits,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Address { listen, source };
        let tcp = match bound {
            Some(bound) => bound.set_nonblocking(true).and_then(|()| TcpListener::from_std(bound)),
            None => TcpListener::bind(listen).await,
        };
        let tcp = tcp.map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        Ok(Self { tcp, address, tls, limits })
    }

    /// The address; tells the port where the settings say 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `app` until `shutdown`, then lets every request end that has begun. Each of those is bounded by
    /// `request_timeout` and `commit_timeout`; a caller with less patience drops the future.
    pub async fn serve(self, app: impl App, mut shutdown: Shutdown) {
        let connections = Connections::new(self.limits.max_connections);
        let tls = self.tls.map(Arc::new);
        let mut tasks = JoinSet::new();
        let refused = Occasional::default();
        loop {
            let accepted = tokio::select! {
                () = shutdown.requested() => break,
                Some(ended) = tasks.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = self.tcp.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(suppressed) = refused.pass(Instant::now()) {
                        tracing::warn!(%error, listen = %self.address, suppressed, "cannot accept a connection");
                    }
                    connections.close_oldest();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = tokio::select! {
                () = shutdown.requested() => break,
                place = connections.place() => place,
            };
            let handled = handle(
                stream,
                peer,
                tls.clone(),
                app.clone(),
                Activity::new(place),
                self.limits.clone(),
                shutdown.clone(),
            );
            tasks.spawn(handled);
        }
        drop(self.tcp);
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    }
}

async fn handle(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    app: impl App,
    activity: Arc<Activity>,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    // An answer is one small packet, not to be held back for more. A socket that refuses this is gone already.
    let _ = stream.set_nodelay(true);
    // What only some connections need is boxed, so that the others do not have room for it too.
    let Some(tls) = tls else {
        return Box::pin(connection::serve(stream, peer, app, activity, limits, shutdown)).await;
    };
    let encrypted = tokio::select! {
        encrypted = Box::pin(tls.accept(stream)) => encrypted,
        () = activity.idle_for(limits.request_timeout) => return,
        () = activity.evicted() => return,
        () = async {
            shutdown.requested().await;
            tokio::time::sleep(connection::FIRST_REQUEST).await;
        } => return,
    };
    match encrypted {
        Ok(stream) => Box::pin(connection::serve(stream, peer, app, activity, limits, shutdown)).await,
        Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task panicked");
    }
}
