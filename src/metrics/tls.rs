//! When certificates end.

use super::{Error, Metrics, int_gauges};
use prometheus::{IntGaugeVec, Registry};

#[derive(Clone)]
pub(super) struct Tls(IntGaugeVec);

impl Tls {
    pub(super) fn new(r: &Registry) -> Result<Self, Error> {
        Ok(Self(int_gauges(
            r,
            "tls_certificate_expiry_timestamp_seconds",
            "Unix time at which the certificate in use ends, or the first of its chain, in seconds; by the section that names \
             its file.",
            &["section"],
        )?))
    }
}

impl Metrics {
    /// The certificate that a section of the settings names (`server.tls`, `sinks.lake`) ends at `unix_seconds`; `None`:
    /// there is none there any more.
    pub fn certificate(&self, section: &str, unix_seconds: Option<i64>) {
        match unix_seconds {
            Some(end) => self.tls.0.with_label_values(&[section]).set(end),
            // That there was none is no error.
            None => drop(self.tls.0.remove_label_values(&[section])),
        }
    }
}
