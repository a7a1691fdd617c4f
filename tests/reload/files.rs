//! Every file that a setting names and that cannot be used: one table for the server and all sinks.

use super::agree::{Case, Judges, Written};
use crate::support::daemon::Home;
use crate::support::tls::{Certificates, openssl};
use std::path::Path;

const NATS: &str = "bus: {type: nats, servers: ['tls://127.0.0.1:1']";
const AMQP: &str = "queue: {type: amqp, url: 'amqps://u:p@127.0.0.1:1'";
const KAFKA: &str = "lake: {type: kafka, brokers: ['127.0.0.1:1']";

/// `client.pem` with its key, and what is no good in place of either.
fn make_files(folder: &Path) {
    let certificates = Certificates::new();
    for name in ["ca.pem", "client.pem", "client.key", "server.pem", "server.key"] {
        std::fs::copy(certificates.path().join(name), folder.join(name)).unwrap();
    }
    openssl(folder, "pkcs8 -topk8 -in client.key -out locked.key -passout pass:hunter2");
    std::fs::write(folder.join("garbage"), "no PEM at all").unwrap();
    let damaged = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    std::fs::write(folder.join("damaged.pem"), damaged).unwrap();
    std::fs::write(folder.join("half.pem"), "-----BEGIN CERTIFICATE-----\naGVsbG8=\n").unwrap();
    let creds =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nats/relay.creds")).unwrap();
    // One letter of the seed.
    std::fs::write(folder.join("mistyped.creds"), creds.replace("\nSU", "\nSUA")).unwrap();
    let (jwt, _) = creds.split_once("-----BEGIN USER NKEY SEED").unwrap();
    std::fs::write(folder.join("without-seed.creds"), jwt).unwrap();
    std::fs::write(folder.join("nkey"), "SUAGARBAGE\n").unwrap();
}

fn case(written: Written, at: (&'static str, usize), says: &[&'static str]) -> Case {
    Case { written, at, says: says.to_vec() }
}

/// A certificate that is shown and its key: the keys are the same wherever one can be given.
fn pairs() -> Vec<(&'static str, &'static str, &'static str, Vec<&'static str>)> {
    vec![
        ("absent.pem", "client.key", "cert_file", vec!["absent.pem", "No such file"]),
        ("garbage", "client.key", "cert_file", vec!["garbage", "no certificate in it"]),
        ("client.key", "client.key", "cert_file", vec!["client.key", "no certificate in it"]),
        ("damaged.pem", "client.key", "cert_file", vec!["damaged.pem", "certificate"]),
        ("half.pem", "client.key", "cert_file", vec!["half.pem", "certificate"]),
        (".", "client.key", "cert_file", vec!["Is a directory"]),
        ("client.pem", "absent.key", "key_file", vec!["absent.key", "No such file"]),
        ("client.pem", "garbage", "key_file", vec!["garbage", "no private key in it"]),
        ("client.pem", "client.pem", "key_file", vec!["client.pem", "no private key in it"]),
        ("client.pem", "server.key", "key_file", vec!["server.key", "client.pem", "another certificate"]),
        ("client.pem", "locked.key", "key_file", vec!["locked.key", "passphrase"]),
    ]
}

const NO_AUTHORITY: [(&str, [&str; 2]); 4] = [
    ("absent.pem", ["absent.pem", "No such file"]),
    ("garbage", ["garbage", "no certificate in it"]),
    ("client.key", ["client.key", "no certificate in it"]),
    ("damaged.pem", ["damaged.pem", "certificate"]),
];

fn of_tls() -> Vec<Case> {
    let mut cases = Vec::new();
    for (certificate, key, fault, says) in pairs() {
        let pair = format!("cert_file: ./{certificate}, key_file: ./{key}");
        let leaked = |section: &str| -> &'static str { Box::leak(format!("{section}.{fault}").into_boxed_str()) };
        let server = Written {
            server: format!(", tls: {{{pair}}}"),
            ..Written::sinks("audit: {type: file, path: ./audit.ndjson}")
        };
        cases.push(case(server, (leaked("server.tls"), 1), &says));
        cases.push(case(Written::sinks(format!("{NATS}, {pair}}}")), (leaked("sinks.bus"), 4), &says));
        cases.push(case(Written::sinks(format!("{AMQP}, {pair}}}")), (leaked("sinks.queue"), 4), &says));
        cases.push(case(Written::sinks(format!("{KAFKA}, tls: {{{pair}}}}}")), (leaked("sinks.lake.tls"), 4), &says));
    }
    for (file, says) in NO_AUTHORITY {
        let ca = format!("ca_file: ./{file}");
        cases.push(case(Written::sinks(format!("{NATS}, {ca}}}")), ("sinks.bus.ca_file", 4), &says));
        cases.push(case(Written::sinks(format!("{AMQP}, {ca}}}")), ("sinks.queue.ca_file", 4), &says));
        cases.push(case(Written::sinks(format!("{KAFKA}, tls: {{{ca}}}}}")), ("sinks.lake.tls.ca_file", 4), &says));
    }
    cases
}

fn of_kafka_alone() -> Vec<Case> {
    let tls = |keys: &str| Written::sinks(format!("{KAFKA}, tls: {{{keys}}}}}"));
    let passed =
        |properties: &str| Written::sinks(format!("{KAFKA}, librdkafka: {{security.protocol: ssl, {properties}}}}}"));
    vec![
        case(
            tls("cert_file: ./client.pem, key_file: ./locked.key, key_password: another"),
            ("sinks.lake.tls.key_file", 4),
            &["locked.key", "key_password"],
        ),
        case(passed("ssl.ca.location: /absent/ca.pem"), ("sinks.lake.librdkafka.ssl.ca.location", 4), &[]),
        case(
            passed("ssl.certificate.location: /absent/c.pem"),
            ("sinks.lake.librdkafka.ssl.certificate.location", 4),
            &[],
        ),
        case(passed("ssl.key.location: /absent/c.key"), ("sinks.lake.librdkafka.ssl.key.location", 4), &[]),
        case(passed("ssl.keystore.location: /absent/k.p12"), ("sinks.lake.librdkafka.ssl.keystore.location", 4), &[]),
    ]
}

fn of_logins() -> Vec<Case> {
    let nats = |keys: &str| Written::sinks(format!("{NATS}, {keys}}}"));
    let no_credentials = ["is not a credentials file"];
    vec![
        case(nats("credentials_file: ./absent.creds"), ("sinks.bus.credentials_file", 4), &["absent.creds"]),
        case(nats("credentials_file: ./garbage"), ("sinks.bus.credentials", 4), &no_credentials),
        case(nats("credentials_file: ./mistyped.creds"), ("sinks.bus.credentials", 4), &no_credentials),
        case(nats("credentials_file: ./without-seed.creds"), ("sinks.bus.credentials", 4), &no_credentials),
        case(nats("credentials: garbage"), ("sinks.bus.credentials", 4), &no_credentials),
        case(nats("nkey_file: ./nkey"), ("sinks.bus.nkey", 4), &["is not the seed of an nkey"]),
        case(nats("nkey: SUAGARBAGE"), ("sinks.bus.nkey", 4), &["is not the seed of an nkey"]),
        case(nats("token_file: ./absent"), ("sinks.bus.token_file", 4), &["absent"]),
        case(Written::sinks("queue: {type: amqp, url_file: ./absent}"), ("sinks.queue.url_file", 4), &["absent"]),
        case(Written::sinks("queue: {type: amqp, url_file: ./garbage}"), ("sinks.queue.url", 4), &["amqp://"]),
        case(
            Written::sinks(format!("{KAFKA}, sasl: {{mechanism: PLAIN, username: u, password_file: ./absent}}}}")),
            ("sinks.lake.sasl.password_file", 4),
            &["absent"],
        ),
        case(
            Written::sinks(format!(
                "{KAFKA}, format: avro, schema_registry: {{url: 'http://127.0.0.1:1', username: u, password_file: ./absent}}}}"
            )),
            ("sinks.lake.schema_registry.password_file", 4),
            &["absent"],
        ),
    ]
}

fn of_others() -> Vec<Case> {
    let audit = || Written::sinks("audit: {type: file, path: ./audit.ndjson}");
    vec![
        case(Written { admin: ", token_file: ./absent".to_owned(), ..audit() }, ("admin.token_file", 2), &["absent"]),
        case(Written { admin: ", token_file: ./garbage".to_owned(), ..audit() }, ("admin.token_file", 2), &["garbage"]),
        case(
            Written { source: ", api: {api_key_file: ./absent}".to_owned(), ..audit() },
            ("sources.acme.api.api_key_file", 3),
            &["absent"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_run_and_reload_refuse_every_file_that_cannot_be_used_in_the_same_words() {
    let home = Home::new("");
    make_files(home.path());
    let judges = Judges::start(home).await;
    let cases = [of_tls(), of_kafka_alone(), of_logins(), of_others()].into_iter().flatten().collect::<Vec<_>>();
    assert!(cases.len() > 70, "{}", cases.len());
    judges.all_refuse(cases).await;
    // And what is sound is taken after all of them.
    let pair = "ca_file: ./ca.pem, cert_file: ./client.pem, key_file: ./client.key";
    let locked = "cert_file: ./client.pem, key_file: ./locked.key, key_password: hunter2";
    let server = ", tls: {cert_file: ./server.pem, key_file: ./server.key}".to_owned();
    let sinks = format!(
        "{NATS}, {pair}}}, {AMQP}, {pair}}}, {KAFKA}, tls: {{{pair}}}}}, lock: {{type: kafka, brokers: ['127.0.0.1:1'], tls: {{{locked}}}}}"
    );
    let sound = Written { server, ..Written::sinks(sinks) };
    let (code, said) = judges.check_of(&sound);
    assert_eq!(code, 0, "{said:#?}");
    let (code, said) = judges.reload_of(&sound).await;
    assert_eq!(code, 0, "{said:#?}");
    judges.end().await;
}

/// `nsc` writes a blank line behind the last dashes, editors one end of a line, or none; Windows' are two characters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_is_taken_however_its_last_line_ends() {
    let creds =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nats/relay.creds")).unwrap();
    let (last, _) = creds.split_at(creds.find("------END USER NKEY SEED------").unwrap() + 30);
    assert!(last.ends_with("------"));
    let windows = last.replace('\n', "\r\n");
    let judges = Judges::start(Home::new("")).await;
    let texts = [
        creds.clone(),
        last.to_owned(),
        format!("{last}\n"),
        format!("{last}\n\n"),
        windows.clone(),
        format!("{windows}\r\n"),
        format!("{windows}\r\n\r\n"),
    ];
    for text in texts {
        std::fs::write(judges.path().join("relay.creds"), &text).unwrap();
        let written = Written::sinks(format!("{NATS}, credentials_file: ./relay.creds}}"));
        let (code, said) = judges.check_of(&written);
        assert_eq!(code, 0, "{said:#?} of {:?}", &text[text.len() - 40..]);
        let (code, said) = judges.reload_of(&written).await;
        assert_eq!(code, 0, "{said:#?} of {:?}", &text[text.len() - 40..]);
    }
    judges.end().await;
}
