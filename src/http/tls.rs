//! The listener's certificate, read again when its files change.

use super::settings::TlsSettings;
use crate::certificate;
use crate::metrics::Metrics;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why the certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's word for it.
        source: std::io::Error,
    },
    /// A file is not what its key in the settings says.
    #[error("{path}: {message}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong; never the content.
        message: String,
    },
    /// The two do not belong together, or rustls does not take them.
    #[error("certificate and key: {0}")]
    Pair(rustls::Error),
}

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
    pub(super) fn load(settings: &TlsSettings, metrics: &Metrics) -> Result<Self, TlsError> {
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
fn acceptor(settings: &TlsSettings, metrics: &Metrics) -> Result<TlsAcceptor, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(&settings.cert_file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(&settings.cert_file, error.to_string()))?;
    if chain.is_empty() {
        return Err(content(&settings.cert_file, "no certificate in it".to_owned()));
    }
    let end = certificate::expiry(&chain);
    let key = PrivateKeyDer::from_pem_slice(&read(&settings.key_file)?).map_err(|_| {
        content(&settings.key_file, "no private key in it that can be read without a passphrase".to_owned())
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pair = CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::Pair)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    metrics.certificate(SECTION, end);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn content(path: &Path, message: String) -> TlsError {
    TlsError::Content { path: path.to_owned(), message }
}
