//! Files with certificates and keys, as PEM: read and judged alike by whoever uses them and by whoever checks the settings
//! that name them. And when a certificate ends.

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A file that cannot be used as the setting that names it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Unusable {
    /// The setting's key within its section.
    pub key: &'static str,
    /// Which file, what is wrong with it, and what to do; nothing of what is in it.
    pub message: String,
}

/// The keys of the settings, the same in every section.
const CA: &str = "ca_file";
const CERTIFICATE: &str = "cert_file";
const KEY: &str = "key_file";

/// Reads a certificate and the chain behind it.
///
/// Blocks on the disk.
pub fn chain(cert_file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    certificates(CERTIFICATE, cert_file)
}

/// Reads a certificate, the chain behind it, and its key, which is proven to be the one.
///
/// Blocks on the disk.
pub fn pair(cert_file: &Path, key_file: &Path) -> Result<CertifiedKey, Unusable> {
    let chain = chain(cert_file)?;
    let key = private_key(key_file)?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => foreign_key(cert_file, key_file),
        other => unusable(KEY, key_file, &format!("cannot be used: {other}"), "give the key of cert_file"),
    })
}

/// Reads a key that has no passphrase.
///
/// Blocks on the disk.
pub fn private_key(key_file: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let locked_or_none = |_| {
        let what = "no private key in it that can be read without a passphrase";
        unusable(KEY, key_file, what, "give a PEM file with the key of cert_file (PKCS #8, PKCS #1 or SEC 1)")
    };
    PrivateKeyDer::from_pem_slice(&key_text(key_file)?).map_err(locked_or_none)
}

/// The same, for those who unlock it by other means.
///
/// Blocks on the disk.
pub fn key_text(key_file: &Path) -> Result<Vec<u8>, Unusable> {
    read(KEY, key_file)
}

/// That the one is not the other's.
pub fn foreign_key(cert_file: &Path, key_file: &Path) -> Unusable {
    let what = format!("it is the key of another certificate than {}", cert_file.display());
    unusable(KEY, key_file, &what, "give the two that belong together")
}

/// Reads the authorities that are to be trusted.
///
/// Blocks on the disk.
pub fn roots(ca_file: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities(ca_file)? {
        let refused = |error| {
            let what = format!("a certificate in it is no authority's: {error}");
            unusable(CA, ca_file, &what, "give a PEM file with the authorities' certificates")
        };
        roots.add(certificate).map_err(refused)?;
    }
    Ok(roots)
}

/// The same, for those who judge by other means whether they can be trusted.
///
/// Blocks on the disk.
pub fn authorities(ca_file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    certificates(CA, ca_file)
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, Unusable> {
    std::fs::read(file).map_err(|error| {
        let message = format!("cannot read {}: {error}; check the path and who may read it", file.display());
        Unusable { key, message }
    })
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let text = read(key, file)?;
    let what_to_give = "give a PEM file: text with `BEGIN CERTIFICATE` and `END CERTIFICATE`";
    // The parser's own words quote what is in the file.
    let damaged = |_: pem::Error| unusable(key, file, "a certificate in it is damaged", what_to_give);
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>().map_err(damaged)?;
    if found.is_empty() {
        return Err(unusable(key, file, "no certificate in it", what_to_give));
    }
    if found.iter().any(|der| X509Certificate::from_der(der).is_err()) {
        return Err(unusable(key, file, "a certificate in it is damaged", what_to_give));
    }
    Ok(found)
}

fn unusable(key: &'static str, file: &Path, what: &str, remedy: &str) -> Unusable {
    Unusable { key, message: format!("{}: {what}; {remedy}", file.display()) }
}

/// When the first of a chain ends, as Unix time in seconds: with it the chain is no good any more. `None` if none of them
/// can be read, which whoever uses it says with more words.
pub fn expiry<'c>(chain: impl IntoIterator<Item = &'c CertificateDer<'c>>) -> Option<i64> {
    let ends = chain.into_iter().filter_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    ends.min()
}

/// The same of a PEM file.
///
/// Blocks on the disk.
pub fn expiry_of_file(path: &Path) -> Option<i64> {
    expiry(&chain(path).ok()?)
}
