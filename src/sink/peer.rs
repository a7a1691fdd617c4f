//! What the brokers' sinks share about their peers: names without credentials, TLS, and what is wrong with a setting.

use super::InvalidSetting;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// The URL for people to read: user-info and query, both of which may bear a password, are left out.
///
/// Cut at the *last* `@`: a password with an unescaped `/` or `@` in it makes a URL that no parser takes, and it must not
/// show up in the message that says so.
pub(super) fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

/// How the peer's certificate is judged; `None` is the client's default, the system's roots.
///
/// `ca_file` is trusted *instead* of the system's roots: who names an authority means that one.
pub(super) fn tls(ca_file: Option<&Path>, insecure_skip_verify: bool) -> Result<Option<ClientConfig>, InvalidSetting> {
    // rustls' other provider is never built; see Cargo.toml.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidSetting::new("ca_file", error.to_string()))?;
    if insecure_skip_verify {
        let verifier = Arc::new(NoVerification(provider));
        return Ok(Some(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()));
    }
    let Some(ca_file) = ca_file else { return Ok(None) };
    Ok(Some(builder.with_root_certificates(roots(ca_file)?).with_no_client_auth()))
}

fn roots(ca_file: &Path) -> Result<RootCertStore, InvalidSetting> {
    let invalid = |problem: String| InvalidSetting::new("ca_file", format!("{}: {problem}", ca_file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(|error| invalid(error.to_string()))? {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// Takes any certificate: what `insecure_skip_verify` asks for.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // The peer must still own the key of the certificate it shows, or the handshake is not one.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_name_holds_no_credential_however_the_url_is_spelled() {
        for (url, shown) in [
            ("amqp://guest:canary@127.0.0.1:5672/%2f", "amqp://127.0.0.1:5672/%2f"),
            ("amqps://rabbit/vhost?password=canary", "amqps://rabbit/vhost"),
            ("nats://canary@nats:4222", "nats://nats:4222"),
            ("relay:canary@nats:4222", "nats:4222"),
            ("amqp://u:can/ary@rabbit/v", "amqp://rabbit/v"),
            ("amqp://u:can@ary@rabbit/v", "amqp://rabbit/v"),
            ("nats://[::1]:4222", "nats://[::1]:4222"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_named() {
        let error = tls(Some(Path::new("/nowhere/ca.pem")), false).expect_err("no such file");
        assert!(error.to_string().starts_with("ca_file: /nowhere/ca.pem"), "{error}");
        assert!(tls(None, false).expect("the default").is_none());
        assert!(tls(None, true).expect("no verification").is_some());
    }
}
