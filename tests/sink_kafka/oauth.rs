//! OAUTHBEARER with a token endpoint of the test's own, and a real broker that looks into the tokens.

use super::security::{CANARY, Wrong, fails, works};
use super::*;
use crate::support::brokers::{Broker, Listener};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use e2b_relay::secret::Secret;
use e2b_relay::sink::kafka::{Mechanism, Sasl};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LIFETIME_S: i64 = 4;

/// Gives tokens to `relay` with the secret `client-word`, for the scope that is asked for.
async fn serve(listener: TcpListener, asked: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        asked.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) {
    let mut request = String::new();
    while !request.contains("\r\n\r\n") || !request.contains("grant_type=") {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        assert!(length > 0, "half a request: {request}");
        request.push_str(std::str::from_utf8(&piece[..length]).unwrap());
    }
    assert!(request.starts_with("POST /token?tenant=1 HTTP/1.1\r\n"), "{request}");
    let credentials = BASE64_STANDARD.encode("relay:client-word%2F");
    let (status, body) = if request.contains(&format!("authorization: Basic {credentials}\r\n")) {
        let scope = request.rsplit_once("&scope=").map(|(_, scope)| scope);
        (200, json!({"access_token": token(scope), "token_type": "Bearer", "expires_in": LIFETIME_S}))
    } else {
        // One that is careless with what it was sent.
        (401, json!({"error": "invalid_client", "error_description": format!("not with {CANARY}")}))
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

/// An unsecured JWT (RFC 7519, section 6), as the broker's own validator takes it.
fn token(scope: Option<&str>) -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({"sub": "relay", "iat": now, "exp": now + LIFETIME_S, "scope": scope.unwrap_or("nothing")});
    let [head, claims] = [json!({"alg": "none"}), claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{head}.{claims}.")
}

pub(super) async fn tokens_are_fetched_refreshed_and_missed_with_a_reason(broker: &Broker, topic: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap();
    // Bound, but not listening yet.
    let late = tokio::net::TcpSocket::new_v4().unwrap();
    late.set_reuseaddr(true).unwrap();
    late.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    tokio::spawn(serve(listener, Arc::clone(&asked)));
    let at = |endpoint: SocketAddr, secret: &str, scope: &str| Settings {
        sasl: Some(Sasl {
            token_url: Some(format!("http://{endpoint}/token?tenant=1")),
            client_id: Some("relay".to_owned()),
            client_secret: Some(Secret::new(secret)),
            scope: Some(scope.to_owned()),
            ..Sasl::new(Mechanism::OAuthBearer)
        }),
        ..settings(&broker.secured(Listener::Sasl), topic, &[])
    };
    let word = "client-word/";
    let late_endpoint = late.local_addr().unwrap();
    let wrong = |what, settings, says, remedy| fails(Wrong { what, settings, reason: Reason::Auth, says, remedy });
    tokio::join!(
        wrong(
            "token, wrong secret",
            at(endpoint, CANARY, "kafka"),
            "401: invalid_client (not with ***)",
            "client_secret"
        ),
        wrong("token, wrong scope", at(endpoint, word, "other"), "SASL", "sasl.scope"),
        wrong("token, no endpoint", at(late_endpoint, word, "kafka"), "Connection refused", "sasl.token_url"),
        works("token", at(endpoint, word, "kafka")),
        async {
            let sink = Kafka::new(&at(endpoint, word, "kafka")).unwrap();
            send_until_confirmed(&sink, &record(topic, "sandbox-9", 0)).await;
            let before = asked.load(Ordering::Relaxed);
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            let refreshed = async {
                while asked.load(Ordering::Relaxed) < before + 2 {
                    pace.tick().await;
                }
            };
            tokio::time::timeout(PATIENCE, refreshed).await.expect("the token was not refreshed");
            send_until_confirmed(&sink, &record(topic, "sandbox-9", 1)).await;
            sink.close().await;
        },
    );

    // The endpoint comes back, and the sink goes on by itself.
    let sink = Kafka::new(&at(late_endpoint, word, "kafka")).unwrap();
    let waiting = sink.send(record(topic, "sandbox-9", 2));
    assert_eq!(trouble(&sink).await.0, Reason::Auth);
    tokio::spawn(serve(late.listen(8).unwrap(), asked));
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.expect("it did not heal"), Ok(()));
    assert_eq!(sink.trouble(), None);
    sink.close().await;
}
