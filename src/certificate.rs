//! When a certificate ends.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};

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
    let chain = CertificateDer::pem_file_iter(path).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
    expiry(&chain)
}
