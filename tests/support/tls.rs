//! TLS before a broker that has none: certificates by the openssl command, and a proxy that ends TLS.

#![allow(dead_code)]

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// An authority of the test's own, and a server's certificate by it for `127.0.0.1` and `localhost`.
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("written");
        for command in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem",
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=broker -keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem",
        ] {
            let output = Command::new("openssl").args(command.split(' ')).current_dir(dir.path()).output();
            let output = output.expect("the openssl command; tests/run installs it");
            assert!(output.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Self { dir }
    }

    /// PEM file of the authority.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn acceptor(&self) -> TlsAcceptor {
        let file = |name: &str| self.dir.path().join(name);
        let certificate = CertificateDer::from_pem_file(file("server.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(Path::new(&file("server.key"))).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        TlsAcceptor::from(Arc::new(config))
    }

    /// Listens with TLS and passes on to `host:port` without. A NATS server (`greets`) speaks first, one line in plain.
    pub(crate) async fn before(&self, target: &str, greets: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("bound");
        let (acceptor, target) = (self.acceptor(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(terminate(client, target.clone(), acceptor.clone(), greets));
            }
        });
        address
    }
}

/// An error is the client's to report: it sees the connection end.
async fn terminate(mut client: TcpStream, target: String, acceptor: TlsAcceptor, greets: bool) -> std::io::Result<()> {
    let mut broker = TcpStream::connect(target).await?;
    if greets {
        let mut greeting = Vec::new();
        while !greeting.ends_with(b"\r\n") {
            greeting.push(broker.read_u8().await?);
        }
        client.write_all(&greeting).await?;
    }
    let mut client = acceptor.accept(client).await?;
    copy_bidirectional(&mut client, &mut broker).await.map(|_| ())
}
