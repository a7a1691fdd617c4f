//! A RabbitMQ that takes nobody without a certificate.

use super::*;
use std::path::Path;

struct Case {
    what: &'static str,
    /// The folder of the certificate that is shown, and its name.
    shows: Option<(&'static str, &'static str)>,
    login: &'static str,
    /// Why it is refused, and parts of the message, one of which is there.
    refused: Option<(Reason, &'static str)>,
}

const CASES: [Case; 6] = [
    Case {
        what: "a certificate and a password",
        shows: Some(("ours", "client")),
        login: "relay:relay-secret@",
        refused: None,
    },
    Case { what: "a certificate alone", shows: Some(("ours", "client")), login: "", refused: None },
    Case {
        what: "no certificate",
        shows: None,
        login: "relay:relay-secret@",
        refused: Some((Reason::Connect, "CertificateRequired|wants a certificate")),
    },
    Case {
        what: "another authority's certificate",
        shows: Some(("theirs", "client")),
        login: "relay:relay-secret@",
        refused: Some((Reason::Connect, "UnknownCA|wants a certificate")),
    },
    Case {
        what: "a certificate and a wrong password",
        shows: Some(("ours", "client")),
        login: "relay:canary@",
        refused: Some((Reason::Auth, "ACCESS_REFUSED")),
    },
    Case {
        what: "a certificate of no user",
        shows: Some(("ours", "elsewhere")),
        login: "",
        refused: Some((Reason::Auth, "ACCESS_REFUSED")),
    },
];

#[tokio::test]
async fn a_certificate_is_shown_and_each_wrong_one_is_told_by_its_message() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let broker = Broker::start_rabbitmq_secured(ours.path()).await;
    broker.ctl(&["add_user", "client", "never-used"]).await;
    broker.ctl(&["set_permissions", "client", ".*", ".*", ".*"]).await;
    let (declared, name) = declaring(&broker.address());
    let mut delivered = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let mechanism = if case.login.is_empty() { "?auth_mechanism=external" } else { "" };
        let url = format!("amqps://{}{}/%2f{mechanism}", case.login, broker.secured_amqp());
        let shown = case.shows.map(|(whose, name)| {
            let folder: &Path = if whose == "ours" { ours.path() } else { theirs.path() };
            (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")))
        });
        let (cert_file, key_file) = shown.unzip();
        let settings = Settings {
            url: Secret::new(&*url),
            ca_file: Some(ours.ca_file()),
            cert_file,
            key_file,
            ..declared.clone()
        };
        let sink = sink(settings);
        let sent = outcome(sink.send(record("key", "sbx", number))).await;
        match case.refused {
            None => {
                sent.unwrap_or_else(|error| panic!("{}: {error}", case.what));
                delivered.push(format!("sbx-{number}"));
                let whom = if case.login.is_empty() { "by a certificate" } else { "as relay" };
                let probed = sink.probe().await.expect("it was sent to");
                assert!(probed.starts_with("RabbitMQ ") && probed.contains(&format!(", TLS, {whom}, ")), "{probed}");
            }
            Some((reason, part)) => {
                let message = assert_retry(&sent, Scope::Sink, reason);
                let is_told = part.split('|').any(|part| message.contains(part));
                assert!(is_told && !message.contains("canary"), "{}: {message}", case.what);
            }
        }
    }
    assert_eq!(taken_ids(&broker.address(), &name).await, delivered);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let certificates = Certificates::new();
    let file = |name: &str| Some(certificates.path().join(name));
    for (cert_file, key_file, key) in [
        (file("client.pem"), None, "cert_file"),
        (None, file("client.key"), "key_file"),
        (file("missing.pem"), file("client.key"), "cert_file"),
        (file("client.key"), file("client.key"), "cert_file"),
        (file("client.pem"), file("client.pem"), "key_file"),
        (file("client.pem"), file("server.key"), "key_file"),
    ] {
        let settings = Settings { cert_file, key_file, ..settings("amqps://h") };
        assert_eq!(Amqp::new(settings).err().expect("of no use").key, key);
    }
}
