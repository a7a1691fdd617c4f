//! Servers that take nobody without a login or a certificate: each way in, and each wrong one by its message.

use super::*;
use std::path::{Path, PathBuf};

/// The user of `relay.creds`, whose seed is used as an nkey too, and the account.
const USER: &str = "UBR56NYYJ5GLOHGQYJU6JGMEPPCH5LVDGPNLAG5K3MDL7RP7GXB3IUUU";

/// Another one's seed.
const STRANGER: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nats").join(name);
    std::fs::read_to_string(path).expect("test data")
}

fn seed() -> String {
    data("relay.creds").lines().find(|line| line.starts_with("SU")).expect("a seed").to_owned()
}

/// A way to a server.
struct Way {
    what: &'static str,
    settings: Settings,
    /// What the server says of us, or why we are refused and parts of the message, one of which is there.
    expected: Result<&'static str, (Reason, &'static str)>,
}

fn plain(address: &str) -> Settings {
    settings(&format!("nats://{address}"))
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text))
}

/// Tries each, and that nothing is told of a secret.
async fn try_all(ways: Vec<Way>) {
    for (number, Way { what, settings, expected }) in ways.into_iter().enumerate() {
        let name = unique("E2B");
        let stream =
            Stream { name: name.clone(), subjects: vec![format!("{name}.>")], create: true, ..Stream::default() };
        let sink = sink(Settings { stream: Some(stream), ..settings });
        let sent = outcome(sink.send(record(&format!("{name}.x"), "sbx", number))).await;
        let probed = sink.probe().await.map_err(|error| error.to_string());
        let told = match expected {
            Ok(whom) => {
                sent.unwrap_or_else(|error| panic!("{what}: {error}"));
                let told = probed.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(told.contains(whom), "{what}: {told}");
                told
            }
            Err((reason, part)) => {
                let told = assert_retry(&sent, Scope::Sink, reason);
                assert!(part.split('|').any(|part| told.contains(part)), "{what}: {told}");
                told + &probed.expect_err(what)
            }
        };
        for secret in ["canary", "relay-secret", &seed(), STRANGER] {
            assert!(!told.contains(secret), "{what}: {told}");
        }
    }
}

const DENIED: Result<&str, (Reason, &str)> = Err((Reason::Auth, "authorization violation"));

#[tokio::test]
async fn a_user_with_a_password() {
    let url = nats();
    let at = host(&url);
    try_all(vec![
        Way { what: "both", settings: settings(&url), expected: Ok("no TLS, as relay, JetStream") },
        Way { what: "a wrong password", settings: settings(&format!("nats://relay:canary@{at}")), expected: DENIED },
        Way { what: "another user", settings: settings(&format!("nats://canary:relay-secret@{at}")), expected: DENIED },
        Way { what: "no login", settings: plain(at), expected: DENIED },
        Way { what: "a token", settings: Settings { token: secret("canary"), ..plain(at) }, expected: DENIED },
    ])
    .await;
}

#[tokio::test]
async fn a_token() {
    let server = Broker::start_nats_with(r#"authorization { token: "canary-token" }"#.to_owned()).await;
    let url = server.address();
    let at = host(&url);
    let token = |token: &str| Settings { token: secret(token), ..plain(at) };
    try_all(vec![
        Way { what: "the token", settings: token("canary-token"), expected: Ok("no TLS, by a token, JetStream") },
        Way { what: "another token", settings: token("canary"), expected: DENIED },
        Way { what: "no token", settings: plain(at), expected: DENIED },
    ])
    .await;
}

#[tokio::test]
async fn an_nkey() {
    let server = Broker::start_nats_with(format!("authorization {{ users: [ {{ nkey: {USER} }} ] }}")).await;
    let url = server.address();
    let at = host(&url);
    let nkey = |nkey: &str| Settings { nkey: secret(nkey), ..plain(at) };
    try_all(vec![
        Way { what: "the seed", settings: nkey(&seed()), expected: Ok(concat_user(" by an nkey")) },
        Way { what: "another seed", settings: nkey(STRANGER), expected: DENIED },
        Way { what: "no login", settings: plain(at), expected: DENIED },
    ])
    .await;
}

/// `as <user>` and how; once, for a test.
fn concat_user(how: &str) -> &'static str {
    Box::leak(format!("as {USER}{how}").into_boxed_str())
}

#[tokio::test]
async fn credentials() {
    let server = Broker::start_nats_with(data("operator.conf")).await;
    let url = server.address();
    let at = host(&url);
    let credentials = |name: &str| Settings { credentials: secret(&data(name)), ..plain(at) };
    try_all(vec![
        Way {
            what: "the account's",
            settings: credentials("relay.creds"),
            expected: Ok(concat_user(" by credentials")),
        },
        Way { what: "expired ones", settings: credentials("expired.creds"), expected: DENIED },
        Way { what: "another account's", settings: credentials("stranger.creds"), expected: DENIED },
        Way { what: "none", settings: plain(at), expected: DENIED },
    ])
    .await;
    let error = Nats::new(Settings { credentials: secret("canary"), ..plain(at) }, None).err().expect("of no use");
    assert_eq!(
        error.to_string(),
        "credentials: is not a credentials file with a JWT and a seed; give it whole, as `nsc` writes it"
    );
    let error = Nats::new(Settings { nkey: secret("canary"), ..plain(at) }, None).err().expect("of no use");
    assert_eq!(error.to_string(), "nkey: is not the seed of an nkey; give the `SU…` of the user");
}

/// The file of one name in the folder, with its key.
fn shown(folder: &Path, name: &str) -> (Option<PathBuf>, Option<PathBuf>) {
    (Some(folder.join(format!("{name}.pem"))), Some(folder.join(format!("{name}.key"))))
}

#[tokio::test]
async fn certificates_on_both_sides() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let folder = ours.path().display();
    // `verify_and_map`: the certificate's name is the user's.
    let access = format!(
        r#"
tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key", ca_file: "{folder}/ca.pem", verify_and_map: true }}
authorization {{ users: [ {{ user: "client.example" }} ] }}
"#
    );
    let server = Broker::start_nats_with(access).await;
    let url = server.address();
    let at = host(&url);
    let (cert_file, key_file) = shown(ours.path(), "client");
    let trusting = |scheme: &str| Settings { ca_file: Some(ours.ca_file()), ..settings(&format!("{scheme}://{at}")) };
    let with = |(cert_file, key_file), settings: Settings| Settings { cert_file, key_file, ..settings };
    try_all(vec![
        Way {
            what: "a certificate",
            settings: Settings { cert_file, key_file, ..trusting("tls") },
            expected: Ok(", TLS, as client.example"),
        },
        Way {
            what: "a certificate, and TLS because the server wants it",
            settings: with(shown(ours.path(), "client"), trusting("nats")),
            expected: Ok(", TLS, as client.example"),
        },
        Way {
            what: "no certificate",
            settings: trusting("tls"),
            expected: Err((Reason::Connect, "CertificateRequired|wants a certificate")),
        },
        Way {
            what: "another authority's",
            settings: with(shown(theirs.path(), "client"), trusting("tls")),
            expected: Err((Reason::Connect, "UnknownCA|wants a certificate")),
        },
        Way {
            what: "a certificate of no user",
            settings: with(shown(ours.path(), "elsewhere"), trusting("tls")),
            expected: DENIED,
        },
        Way {
            what: "a server of another authority",
            settings: Settings {
                ca_file: Some(theirs.ca_file()),
                ..with(shown(ours.path(), "client"), trusting("tls"))
            },
            // The two authorities have the same name.
            expected: Err((Reason::Connect, "invalid peer certificate: BadSignature")),
        },
        Way {
            what: "the system's authorities",
            settings: Settings { ca_file: None, ..with(shown(ours.path(), "client"), trusting("tls")) },
            expected: Err((Reason::Connect, "UnknownIssuer")),
        },
    ])
    .await;
}

#[tokio::test]
async fn who_names_an_authority_is_not_talked_out_of_tls() {
    let url = nats();
    let certificates = Certificates::new();
    let sink = sink(Settings { ca_file: Some(certificates.ca_file()), ..settings(&url) });
    let message = assert_retry(&outcome(sink.send(record("e2b.x", "sbx", 0))).await, Scope::Sink, Reason::Connect);
    assert!(message.ends_with("(perhaps it speaks no TLS there)"), "{message}");
}
