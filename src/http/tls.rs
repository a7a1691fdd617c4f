//! The listener's certificate, read again when its files change.

use super::settings::TlsSettings;
use crate::certificate::{self, Unusable};
use crate::metrics::Metrics;
use rustls::ServerConfig;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Where the settings name the certificate.
const SECTION: &str = "server.tls";

/// Serves TLS with the certificate that stands in the files now.
pub(super) struct Tls {
    settings: TlsSettings,
    metrics: Metrics,
    current: Mutex<Current>,
}

struct Current {
    seen: [Option<Fingerprint>; 2],
    acceptor: TlsAcceptor,
}

/// Differs when a file was written or replaced, also through the symbolic links that Kubernetes swaps.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Tls {
    pub(super) fn load(settings: &TlsSettings, metrics: &Metrics) -> Result<Self, Unusable> {
        let seen = fingerprints(settings);
        let acceptor = acceptor(settings, metrics)?;
        Ok(Self {
            settings: settings.clone(),
            metrics: metrics.clone(),
            current: Mutex::new(Current { seen, acceptor }),
        })
    }

    /// The handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.current().accept(stream).await
    }

    /// Two looks at the file system per handshake, which costs a thousand times as much: so a new certificate counts
    /// from the next connection on, without a clock. Files that cannot be used leave the last good ones in place.
    fn current(&self) -> TlsAcceptor {
        let seen = fingerprints(&self.settings);
        {
            let mut current = self.lock();
            if seen == current.seen {
                return current.acceptor.clone();
            }
            current.seen = seen;
        }
        // Not with the lock: the others go on with the old one meanwhile.
        let read = acceptor(&self.settings, &self.metrics);
        let mut current = self.lock();
        match read {
            // Changed again, and read by somebody else.
            Ok(_) if current.seen != seen => {}
            Ok(acceptor) => {
                current.acceptor = acceptor;
                tracing::info!("server.tls: the certificate was read again");
            }
            Err(error) => tracing::error!(%error, "server.tls: the new certificate cannot be used, the old one stays"),
        }
        current.acceptor.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprints(settings: &TlsSettings) -> [Option<Fingerprint>; 2] {
    [&settings.cert_file, &settings.key_file].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    })
}

/// What the files hold now; when it ends is told once it can be used.
fn acceptor(settings: &TlsSettings, metrics: &Metrics) -> Result<TlsAcceptor, Unusable> {
    let pair = certificate::pair(&settings.cert_file, &settings.key_file)?;
    let end = certificate::expiry(&pair.cert);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Unusable { key: "cert_file", message: error.to_string() })?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    metrics.certificate(SECTION, end);
    Ok(TlsAcceptor::from(Arc::new(config)))
}
