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

/// An authority of the test's own; by it a server's certificate for `127.0.0.1` and `localhost`, one for another host, and
/// a client's.
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(dir.path(), &format!("req -x509 {new_key} -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem"));
        for (name, hosts) in [
            ("server", "IP:127.0.0.1,DNS:localhost"),
            ("elsewhere", "DNS:elsewhere.example"),
            ("client", "DNS:client.example"),
        ] {
            std::fs::write(dir.path().join("san"), format!("subjectAltName={hosts}\n")).expect("written");
            openssl(dir.path(), &format!("req -new {new_key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
            let signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san";
            openssl(dir.path(), &format!("x509 -req -in {name}.csr {signed} -out {name}.pem"));
        }
        Self { dir }
    }

    /// Where `ca`, `server`, `elsewhere` and `client` lie, each as `.pem` and `.key`.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
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

pub(crate) fn openssl(folder: &Path, command: &str) {
    let output = Command::new("openssl").args(command.split(' ')).current_dir(folder).output();
    let output = output.expect("the openssl command; tests/run installs it");
    assert!(output.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&output.stderr));
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
