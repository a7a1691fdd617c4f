//! The section `server` of the settings: the public listener.

use crate::certificate::{self, Unusable};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The public listener: deliveries, and `GET /readyz` for load balancers. A changed key needs a restart.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port.
    pub listen: SocketAddr,
    /// Serves HTTPS (TLS 1.2 and 1.3) instead of HTTP.
    pub tls: Option<TlsSettings>,
    /// Largest body of one delivery; a larger one is answered 413.
    #[schemars(with = "String", extend("format" = "size"))]
    pub max_body: ByteSize,
    /// All bodies that are not yet verified together, 24 KiB each for their connections included. When there is no room
    /// for more, the delivery that has been arriving for longest is answered 503.
    #[schemars(with = "String", extend("format" = "size"))]
    pub max_buffered: ByteSize,
    /// Verified deliveries that may wait for the disk; above it the answer is 503.
    pub max_in_flight: usize,
    /// Open connections. Above it the one that has been waiting for longest without a complete request is closed. Each
    /// takes a file descriptor.
    pub max_connections: usize,
    /// Header and body of a request must have arrived by then, else the answer is 408. A connection without a request
    /// is closed by then.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub request_timeout: Duration,
    /// No durable answer by then: 503. The event may still land; the provider's retry is then a duplicate.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub commit_timeout: Duration,
}

/// The listener's certificate. Both files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM: the certificate, then the chain up to the root's child.
    #[schemars(with = "String", extend("format" = "path"))]
    pub cert_file: PathBuf,
    /// PEM: the certificate's private key (PKCS #8, PKCS #1 or SEC 1), without a passphrase.
    #[schemars(with = "String", extend("format" = "path"))]
    pub key_file: PathBuf,
}

impl TlsSettings {
    /// Refuses files that cannot be used. Blocks on the disk.
    pub fn check(&self) -> Result<(), Unusable> {
        certificate::pair(&self.cert_file, &self.key_file).map(drop)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            tls: None,
            max_body: ByteSize::mib(1),
            max_buffered: ByteSize::mib(64),
            max_in_flight: 4096,
            max_connections: 4096,
            request_timeout: Duration::from_secs(10),
            commit_timeout: Duration::from_secs(8),
        }
    }
}
