//! The files that a Kafka sink's settings name, judged before anything is connected. What is PEM and what is not we see
//! ourselves, in the words of all other sinks; the rest (keys with a passphrase, key stores, what only OpenSSL knows) is
//! asked of a client that has no broker.

use super::client::Batching;
use super::elsewhere::Elsewhere;
use super::settings::{Settings, Tls};
use crate::certificate::{self, Unusable};
use crate::sink::InvalidSetting;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, DefaultProducerContext};

/// librdkafka's names, as its messages have them, and those of `tls`.
const NAMES: [(&str, &str); 8] = [
    ("ssl.ca.location", "ca_file"),
    ("ssl.certificate.location", "cert_file"),
    ("ssl.key.location", "key_file"),
    ("ssl.keystore.location", ""),
    ("ssl.crl.location", ""),
    ("ssl.ca.pem", ""),
    ("ssl.certificate.pem", ""),
    ("ssl.key.pem", ""),
];
/// Of librdkafka's own words.
const MAX_SAID: usize = 200;

impl Settings {
    /// Refuses files that cannot be used. Blocks on the disk, and until the client has ended.
    pub fn check_files(&self) -> Result<(), InvalidSetting> {
        if let Some(tls) = &self.tls {
            tls.check_files().map_err(below_tls)?;
        }
        if !self.protocol().ends_with("ssl") {
            return Ok(());
        }
        let mut config = self.client_config(Batching::Full);
        config.remove("bootstrap.servers");
        config.set("security.protocol", "ssl").set("enable.idempotence", "false");
        config.set_log_level(RDKafkaLogLevel::Emerg);
        // A thread without a runtime, in which it may be waited.
        let tried = std::thread::spawn(move || {
            let (client, ended) = Elsewhere::<BaseProducer>::start(&config, DefaultProducerContext)?;
            drop(client);
            // An error means that it has ended, too.
            let _ = ended.blocking_recv();
            Ok::<_, KafkaError>(())
        });
        match tried.join() {
            Ok(Err(KafkaError::ClientCreation(said))) => Err(self.refused(&said)),
            // Other errors are about single properties, which have been checked.
            Ok(Ok(()) | Err(_)) | Err(_) => Ok(()),
        }
    }

    /// The setting that librdkafka's complaint is about.
    fn refused(&self, said: &str) -> InvalidSetting {
        let is_foreign = said.contains("mismatch") || said.contains("Private key check failed");
        let unnamed = if is_foreign { ("ssl.key.location", "key_file") } else { ("", "") };
        let named = NAMES.into_iter().find(|(name, _)| said.contains(name)).unwrap_or(unnamed);
        match (&self.tls, named) {
            (Some(Tls { cert_file: Some(cert_file), key_file: Some(key_file), .. }), (_, "key_file")) if is_foreign => {
                below_tls(certificate::foreign_key(cert_file, key_file))
            }
            (Some(Tls { key_file: Some(key_file), .. }), (_, "key_file")) => {
                let message = format!("{}: cannot be read by key_password; give its passphrase", key_file.display());
                InvalidSetting::new("tls.key_file", message)
            }
            (_, (name, own)) => {
                let said: String = said.chars().filter(|letter| !letter.is_control()).take(MAX_SAID).collect();
                let key = match (&self.tls, name, own) {
                    (_, "", _) => "librdkafka".to_owned(),
                    (None, ..) | (_, _, "") => format!("librdkafka.{name}"),
                    (Some(_), ..) => format!("tls.{own}"),
                };
                InvalidSetting::new(key, format!("librdkafka says: {said}"))
            }
        }
    }
}

impl Tls {
    fn check_files(&self) -> Result<(), Unusable> {
        // It may be a folder of them, by OpenSSL's hashes.
        if let Some(ca_file) = self.ca_file.as_deref().filter(|path| !path.is_dir()) {
            certificate::authorities(ca_file)?;
        }
        if let Some(cert_file) = &self.cert_file {
            certificate::chain(cert_file)?;
        }
        match (&self.key_file, &self.key_password) {
            (Some(key_file), None) => certificate::private_key(key_file).map(drop),
            (Some(key_file), Some(_)) => certificate::key_text(key_file).map(drop),
            (None, _) => Ok(()),
        }
    }
}

fn below_tls(Unusable { key, message }: Unusable) -> InvalidSetting {
    InvalidSetting::new(format!("tls.{key}"), message)
}
