//! Each way to prove oneself to a real broker, and each way to fail at it.

use super::*;
use crate::support::brokers::{Broker, Listener};
use crate::support::consume;
use crate::support::kafka_acl;
use crate::support::tls::Certificates;
use e2b_relay::secret::Secret;
use e2b_relay::sink::kafka::{Mechanism, Sasl, Tls};

/// What a wrong credential is made of, so that it can be looked for in messages.
pub(super) const CANARY: &str = "canary-word";

fn tls(certificates: &Certificates) -> Option<Tls> {
    Some(Tls { ca_file: Some(certificates.ca_file()), ..Tls::default() })
}

fn with_certificate(certificates: &Certificates) -> Option<Tls> {
    let file = |name: &str| Some(certificates.path().join(name));
    Some(Tls { cert_file: file("client.pem"), key_file: file("client.key"), ..tls(certificates).unwrap() })
}

fn sasl(mechanism: Mechanism, username: &str, password: &str) -> Option<Sasl> {
    Some(Sasl { username: Some(username.to_owned()), password: Some(Secret::new(password)), ..Sasl::new(mechanism) })
}

/// A sink, what is wrong with it, and what has to be said of it.
pub(super) struct Wrong {
    pub(super) what: &'static str,
    pub(super) settings: Settings,
    pub(super) reason: Reason,
    pub(super) says: &'static str,
    pub(super) remedy: &'static str,
}

/// The probe and the trouble of a record that waits say it, and neither says the credential.
pub(super) async fn fails(wrong: Wrong) {
    let Wrong { what, settings, reason, says, remedy } = wrong;
    let sink = Kafka::new(&settings).unwrap();
    let said = match sink.probe().await {
        Err(SendError::Retry { scope: Scope::Sink, reason: seen, message }) => {
            println!("{what}: {}: {message}", seen.as_str());
            assert_eq!(seen, reason, "{what}: {message}");
            message
        }
        other => panic!("{what}: {other:?}"),
    };
    let waiting = sink.send(record(&settings.topic, "sandbox-0", 0));
    let (seen, text) = trouble(&sink).await;
    assert_eq!(seen, reason, "{what}: {text}");
    for message in [said, text] {
        assert!(message.contains(says) && message.contains(remedy), "{what}: {message}");
        assert!(!message.contains(CANARY), "{what}: {message}");
    }
    sink.close().await;
    assert!(waiting.await.is_err(), "{what}");
}

pub(super) async fn works(what: &str, settings: Settings) {
    let sink = Kafka::new(&settings).unwrap();
    let answer = sink.probe().await;
    assert!(answer.is_ok(), "{what}: {answer:?}");
    for outcome in send(&sink, &interleaved(&settings.topic, 2, 0..3)).await {
        assert_eq!(outcome, Ok(()), "{what}");
    }
    sink.close().await;
}

/// One broker for all of it, since its start takes longer than the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_wants_credentials_gets_the_right_ones_and_the_wrong_ones_are_said_with_what_to_do() {
    let certificates = Certificates::new();
    let broker = Broker::start_kafka_secured(certificates.path()).await;
    let brokers = broker.address();
    let (modes, tokens, rights) = (unique("open-modes"), unique("open-tokens"), unique("closed"));
    kafka_acl::allow_prefixed(&brokers, "*", "open-");
    for topic in [&modes, &tokens, &rights] {
        create_topic(&brokers, topic, &[]).await;
    }
    positions_are_asked_for_as_they_have_to_be(&broker, &modes).await;
    tokio::join!(
        each_mode_works_and_each_wrong_credential_is_said(&broker, &certificates, &modes),
        oauth::tokens_are_fetched_refreshed_and_missed_with_a_reason(&broker, &tokens),
        rights_are_missed_with_a_reason_and_used_once_they_are_there(&broker, &rights),
    );
    assert_complete(&read(&brokers, &rights).await, 1, 4);
}

async fn each_mode_works_and_each_wrong_credential_is_said(broker: &Broker, certificates: &Certificates, topic: &str) {
    let foreign = Certificates::new();
    let at = |listener: Listener, tls: Option<Tls>, sasl: Option<Sasl>| {
        let settings = settings(&broker.secured(listener), topic, &[]);
        Settings { tls, sasl, ..settings }
    };
    let trusted = || tls(certificates);
    use Listener as L;
    use Mechanism::{Plain, ScramSha256, ScramSha512};

    let wrong = |what, settings, reason, says, remedy| Wrong { what, settings, reason, says, remedy };
    let (auth, connect) = (Reason::Auth, Reason::Connect);
    let client =
        |by: &Certificates| Some(Tls { ca_file: Some(certificates.ca_file()), ..with_certificate(by).unwrap() });
    let (signed, refused) = ("certificate verify failed", "alert");
    let rows = [
        wrong("unknown authority", at(L::Tls, tls(&foreign), None), connect, signed, "tls.ca_file"),
        wrong("the system's authorities", at(L::Tls, Some(Tls::default()), None), connect, signed, "tls.ca_file"),
        wrong("another host's certificate", at(L::Misnamed, trusted(), None), connect, signed, "another name"),
        wrong("no TLS where it is wanted", at(L::Tls, None, None), connect, "", "`tls: {}`"),
        wrong("TLS where there is none", at(L::Sasl, trusted(), None), connect, "SSL", "leave `tls` out"),
        wrong("no certificate", at(L::MutualTls, trusted(), None), auth, refused, "tls.cert_file"),
        wrong("a foreign certificate", at(L::MutualTls, client(&foreign), None), auth, refused, "tls.cert_file"),
        wrong("no credentials", at(L::Sasl, None, None), connect, "", "`sasl`"),
        wrong("PLAIN, password", at(L::Sasl, None, sasl(Plain, "relay", CANARY)), auth, "SASL", "sasl.password"),
        wrong(
            "PLAIN, user",
            at(L::SaslTls, trusted(), sasl(Plain, CANARY, "plain-word")),
            auth,
            "SASL",
            "sasl.username",
        ),
        wrong("SCRAM-256", at(L::Sasl, None, sasl(ScramSha256, "relay", CANARY)), auth, "SCRAM", "sasl.password"),
        wrong(
            "SCRAM-512",
            at(L::SaslTls, trusted(), sasl(ScramSha512, CANARY, CANARY)),
            auth,
            "SCRAM",
            "sasl.username",
        ),
    ];
    join_all(rows.into_iter().map(fails)).await;

    let right = [
        ("TLS", at(L::Tls, trusted(), None)),
        ("mutual TLS", at(L::MutualTls, client(certificates), None)),
        (
            "another host's certificate, unverified",
            Settings { insecure_skip_verify: true, ..at(L::Misnamed, trusted(), None) },
        ),
        ("PLAIN", at(L::Sasl, None, sasl(Plain, "relay", "plain-word"))),
        ("PLAIN over TLS", at(L::SaslTls, trusted(), sasl(Plain, "relay", "plain-word"))),
        ("SCRAM-SHA-256", at(L::Sasl, None, sasl(ScramSha256, "relay", "scram-256-word"))),
        ("SCRAM-SHA-256 over TLS", at(L::SaslTls, trusted(), sasl(ScramSha256, "relay", "scram-256-word"))),
        ("SCRAM-SHA-512", at(L::Sasl, None, sasl(ScramSha512, "relay", "scram-512-word"))),
        ("SCRAM-SHA-512 over TLS", at(L::SaslTls, trusted(), sasl(ScramSha512, "relay", "scram-512-word"))),
    ];
    let modes = right.len();
    join_all(right.into_iter().map(|(what, settings)| works(what, settings))).await;
    assert_eq!(read(&broker.address(), topic).await.len(), modes * 6);
}

async fn rights_are_missed_with_a_reason_and_used_once_they_are_there(broker: &Broker, topic: &str) {
    let brokers = broker.address();
    let stranger = sasl(Mechanism::Plain, "stranger", "stranger-word");
    let sink =
        Kafka::new(&Settings { sasl: stranger, ..settings(&broker.secured(Listener::Sasl), topic, &[]) }).unwrap();
    for round in 0..2 {
        match sink.probe().await {
            Err(SendError::Retry { scope: Scope::Sink, reason: Reason::Auth, message }) => {
                println!("no rights: {message}");
                assert!(message.contains(topic) && message.contains("WRITE"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        let outcome = send(&sink, &[record(topic, "sandbox-0", 2 * round)]).await;
        println!("no rights: {outcome:?}");
        assert_eq!(retry_reason(&outcome[0]), Reason::Auth);
        let message = outcome[0].as_ref().unwrap_err().to_string();
        assert!(message.contains("WRITE"), "{message}");
        kafka_acl::allow(&brokers, "stranger", topic);
        send_until_confirmed(&sink, &record(topic, "sandbox-0", 2 * round)).await;
        send_until_confirmed(&sink, &record(topic, "sandbox-0", 2 * round + 1)).await;
        if round == 0 {
            kafka_acl::disallow(&brokers, "stranger", topic);
        }
    }
    sink.close().await;
}

async fn positions_are_asked_for_as_they_have_to_be(broker: &Broker, topic: &str) {
    let brokers = broker.address();
    let exactly_once = |listener: Option<Listener>, sasl| Settings {
        exactly_once: true,
        sasl,
        ..settings(&listener.map_or(brokers.clone(), |listener| broker.secured(listener)), topic, &[])
    };
    let names = ["some-store/lake".to_owned()];
    let said = async |settings: &Settings| {
        let sink = Kafka::new(settings).unwrap();
        let probed = sink.probe().await;
        let opened = sink.transactions().unwrap().open(&names).await;
        sink.close().await;
        println!("positions: {opened:?}");
        (probed, opened)
    };
    let anonymous = exactly_once(None, None);
    let (probed, opened) = said(&anonymous).await;
    for message in [probed.unwrap_err().to_string(), opened.unwrap_err().to_string()] {
        assert!(
            message.contains("does not exist") && message.contains("--partitions 1 --config cleanup.policy=compact")
        );
    }
    for (partitions, config, complaint) in [
        (2, ("cleanup.policy", "compact"), Some("2 partitions")),
        (1, ("cleanup.policy", "delete"), Some("cleanup.policy")),
        (1, ("cleanup.policy", "compact"), None),
    ] {
        consume::create_topic_with(&brokers, "e2b-relay.positions", partitions, &[config]).await;
        match (said(&anonymous).await, complaint) {
            ((Err(probed), Err(opened)), Some(complaint)) => {
                assert!(probed.to_string().contains(complaint) && opened.to_string().contains(complaint), "{probed}");
            }
            ((Ok(_), Ok(None)), None) => break,
            other => panic!("{partitions}, {config:?}: {other:?}"),
        }
        consume::remove_topic(&brokers, "e2b-relay.positions").await;
    }
    // A user without a right to the transactional id, which is asked for before anything else.
    let stranger = exactly_once(Some(Listener::Sasl), sasl(Mechanism::Plain, "stranger", "stranger-word"));
    match said(&stranger).await.1 {
        Err(SendError::Retry { reason: Reason::Auth, message, .. }) => {
            assert!(message.contains("e2b-relay/") && message.contains("transactional id"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
