//! HTTPS, with certificates made for the test.

use super::harness::{Client, PATH, Relay, SECRET, event, post};
use crate::support::sign;
use e2b_relay::http::{BindError, Listener, Settings, TlsSettings};
use e2b_relay::metrics::Metrics;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A self-signed pair for `localhost` in `folder`.
fn make_pair(folder: &Path, name: &str) -> TlsSettings {
    let pair =
        TlsSettings { cert_file: folder.join(format!("{name}.crt")), key_file: folder.join(format!("{name}.key")) };
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&pair.key_file)
        .arg("-out")
        .arg(&pair.cert_file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    pair
}

/// A connection that trusts `certificate` alone.
async fn connect(
    relay: &Relay,
    certificate: &Path,
    protocol: &[u8],
) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, relay.connect().await.0).await
}

async fn deliver(relay: &Relay, certificate: &Path) -> std::io::Result<u16> {
    let stream = connect(relay, certificate, b"http/1.1").await?;
    let body = event().to_string();
    let request = post(PATH, &[sign::e2b(SECRET, body.as_bytes())], body.as_bytes());
    Ok(Client(stream).send(&request).await.status)
}

#[tokio::test]
async fn a_new_certificate_counts_from_the_next_connection_on() {
    let folder = tempfile::tempdir().unwrap();
    let (served, next) = (make_pair(folder.path(), "served"), make_pair(folder.path(), "next"));
    let first = folder.path().join("first.crt");
    std::fs::copy(&served.cert_file, &first).unwrap();
    let relay = Relay::start_with(Settings { tls: Some(served.clone()), ..Settings::default() }).await;
    assert_eq!(deliver(&relay, &first).await.unwrap(), 200);
    assert!(deliver(&relay, &next.cert_file).await.is_err(), "not served yet");
    let both = connect(&relay, &first, b"h2").await.unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    // Half a change does not fit together, and leaves what was there.
    std::fs::copy(&next.cert_file, &served.cert_file).unwrap();
    assert_eq!(deliver(&relay, &first).await.unwrap(), 200);
    std::fs::rename(&next.key_file, &served.key_file).unwrap();
    assert_eq!(deliver(&relay, &next.cert_file).await.unwrap(), 200);
    assert!(deliver(&relay, &first).await.is_err(), "no longer served");
}

#[tokio::test]
async fn plain_http_is_not_spoken_where_tls_is() {
    let folder = tempfile::tempdir().unwrap();
    let pair = make_pair(folder.path(), "served");
    let relay = Relay::start_with(Settings { tls: Some(pair), ..Settings::default() }).await;
    let mut client = relay.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut client.0, &post(PATH, &[], b"{}")).await.unwrap();
    assert!(!client.rest().await.starts_with(b"HTTP"));
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_at_the_start_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (make_pair(folder.path(), "one"), make_pair(folder.path(), "two"));
    let metrics = Metrics::new("0", "0").unwrap();
    let missing = folder.path().join("missing.pem");
    for (cert_file, key_file, expected) in [
        (&missing, &one.key_file, "missing.pem: No such file"),
        (&one.cert_file, &missing, "missing.pem: No such file"),
        (&one.key_file, &one.key_file, "one.key: no certificate in it"),
        (&one.cert_file, &one.cert_file, "one.crt: no private key in it"),
        (&one.cert_file, &two.key_file, "two.key: it is the key of another certificate than "),
    ] {
        let tls = TlsSettings { cert_file: cert_file.clone(), key_file: key_file.clone() };
        let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), tls: Some(tls), ..Settings::default() };
        let Err(error @ BindError::Tls(_)) = Listener::bind(&settings, None, &metrics).await else {
            panic!("{expected}")
        };
        let message = error.to_string();
        assert!(message.starts_with("server.tls.") && message.contains(expected), "{message}");
    }
}
