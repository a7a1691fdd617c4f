//! What the brokers' sinks share about their peers: names without credentials, TLS, and what is wrong with a setting.

use super::InvalidSetting;
use crate::certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
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

/// The message, and what it probably means where rustls' own words do not tell.
pub(super) fn hinted(message: String) -> String {
    let is_tls = ["amqps://", "tls://"].iter().any(|scheme| message.contains(scheme));
    let is_cut = ["Connection reset", "Broken pipe", "close_notify"].iter().any(|words| message.contains(words));
    if message.contains("InvalidContentType") {
        // What a peer answers in plain text is no TLS record.
        message + " (perhaps it speaks no TLS there)"
    } else if is_tls && is_cut {
        // With TLS 1.3 our certificate is judged after the handshake, and the alert that says so may be lost.
        message + " (perhaps it wants a certificate, or another one: cert_file)"
    } else {
        message
    }
}

/// A sink's keys about TLS.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tls<'a> {
    /// Trusted *instead* of the system's roots: who names an authority means that one.
    pub(super) ca_file: Option<&'a Path>,
    /// What the peer is shown of us: the certificate, then its chain.
    pub(super) cert_file: Option<&'a Path>,
    /// The key of the first.
    pub(super) key_file: Option<&'a Path>,
    pub(super) insecure_skip_verify: bool,
}

impl<'a> Tls<'a> {
    /// The two files of a client's certificate; neither goes without the other.
    pub(super) fn identity(&self) -> Result<Option<(&'a Path, &'a Path)>, InvalidSetting> {
        match (self.cert_file, self.key_file) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(InvalidSetting::new("cert_file", "is of no use without its key; give key_file")),
            (None, Some(_)) => {
                Err(InvalidSetting::new("key_file", "is of no use without its certificate; give cert_file"))
            }
        }
    }
}

/// How the peer's certificate is judged, and what it is shown; `None` is the client's default: the system's roots, and
/// nothing.
pub(super) fn tls(settings: &Tls<'_>) -> Result<Option<ClientConfig>, InvalidSetting> {
    let has_identity = settings.identity()?.is_some();
    if settings.ca_file.is_none() && !has_identity && !settings.insecure_skip_verify {
        return Ok(None);
    }
    client_config(settings).map(Some)
}

/// The same, the default included.
pub(super) fn client_config(settings: &Tls<'_>) -> Result<ClientConfig, InvalidSetting> {
    let identity = settings.identity()?;
    // rustls' other provider is never built; see Cargo.toml.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidSetting::new("ca_file", error.to_string()))?;
    // Read even where nothing is verified by them: a key that names a file names one that can be used.
    let roots = settings.ca_file.map(certificate::roots).transpose()?;
    let builder = match (settings.insecure_skip_verify, roots) {
        (true, _) => builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerification(provider))),
        (false, Some(roots)) => builder.with_root_certificates(roots),
        (false, None) => builder.with_root_certificates(system_roots()?),
    };
    let Some((cert_file, key_file)) = identity else { return Ok(builder.with_no_client_auth()) };
    let pair = certificate::pair(cert_file, key_file)?;
    Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))))
}

fn system_roots() -> Result<RootCertStore, InvalidSetting> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(InvalidSetting::new("ca_file", "is required: this system has no authorities of its own"));
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
    fn what_rustls_and_the_socket_say_is_explained() {
        for (message, hint) in [
            ("cannot connect to tls://n: received corrupt message of type InvalidContentType", "speaks no TLS"),
            ("cannot connect to amqps://r: Connection reset by peer (os error 104)", "wants a certificate"),
            ("cannot connect to amqp://r: Connection reset by peer (os error 104)", "error 104)"),
            ("cannot connect to tls://n: Connection refused", "refused"),
        ] {
            let hinted = hinted(message.to_owned());
            assert!(hinted.starts_with(message) && hinted.contains(hint), "{hinted}");
            assert_eq!(hinted.len() > message.len(), !message.contains(hint), "{hinted}");
        }
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_named() {
        let nowhere = Some(Path::new("/nowhere/x.pem"));
        let error = tls(&Tls { ca_file: nowhere, ..Tls::default() }).expect_err("no such file");
        assert!(error.to_string().starts_with("ca_file: cannot read /nowhere/x.pem: No such file"), "{error}");
        assert!(tls(&Tls::default()).expect("the default").is_none());
        let insecure = Tls { insecure_skip_verify: true, ..Tls::default() };
        assert!(tls(&insecure).expect("no verification").is_some());
        for (settings, key) in [
            (Tls { cert_file: nowhere, ..insecure }, "cert_file"),
            (Tls { key_file: nowhere, ..insecure }, "key_file"),
            (Tls { cert_file: nowhere, key_file: nowhere, ..insecure }, "cert_file"),
        ] {
            assert_eq!(tls(&settings).expect_err("half a certificate, or none").key, key);
        }
    }
}
