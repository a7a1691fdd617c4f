//! Who may read, and who may change: every combination of what a request can show.

use crate::receiver::harness::{Client, Relay};
use crate::support::stored::Store;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use e2b_relay::admin::{self, Access, Token};
use e2b_relay::http::Listener;
use e2b_relay::shutdown::{self, Trigger};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tower::ServiceExt;

struct Served {
    port: u16,
    token: String,
    router: axum::Router,
    _kept: (Relay, Arc<Store>, TempDir, Trigger),
}

/// The admin listener on an address of this machine.
async fn serve(listen: &str) -> Served {
    let relay = Relay::start().await;
    let listener = Listener::bind_admin(listen.parse().unwrap(), None).await.unwrap();
    let settings = admin::Settings { hosts: vec!["relay.internal".to_owned()], ..admin::Settings::default() };
    let (folder, store) = super::store();
    let token = Token::own(folder.path()).unwrap();
    let text = token.secret().expose().to_owned();
    let (trigger, shutdown) = shutdown::channel();
    let router = admin::router(super::parts(
        listener.address(),
        Access::new(&settings, token),
        &relay,
        &store,
        shutdown.clone(),
    ));
    let port = listener.address().port();
    tokio::spawn(listener.serve(router.clone(), shutdown));
    Served { port, token: text, router, _kept: (relay, store, folder, trigger) }
}

impl Served {
    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> crate::receiver::harness::Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        Client(stream).send(format!("{request}\r\n{body}").as_bytes()).await
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    Nothing,
    Wrong,
    Right,
    InTheUrl,
    AsAPassword,
    Twice,
}

/// The rules of the contract, told once more.
fn expected(loopback: bool, method: &str, shown: Shown, host: &str, origin: &str, media: &str) -> u16 {
    if host == "evil.example" {
        return 421;
    }
    let authorized = shown == Shown::Right;
    match method {
        "GET" if loopback || authorized => 200,
        "GET" => 401,
        _ if origin.contains("evil") || origin.contains("3000") => 403,
        _ if !authorized => 401,
        _ if !media.starts_with("application/json") => 415,
        // It has passed: there is no source to ask.
        _ => 400,
    }
}

#[tokio::test]
async fn every_combination_is_answered_by_the_rules() {
    use Shown::{AsAPassword, InTheUrl, Nothing, Right, Twice, Wrong};
    let mut asked = 0;
    for (listen, loopback) in [("127.0.0.1:0", true), ("0.0.0.0:0", false), ("[::]:0", false)] {
        let served = serve(listen).await;
        let token = served.token.as_str();
        let own_origin = format!("http://localhost:{}", served.port);
        let own_host = format!("localhost:{}", served.port);
        for (method, path) in [("GET", "/api/sandboxes"), ("GET", "/api/events"), ("POST", "/api/backfill")] {
            for shown in [Nothing, Wrong, Right, InTheUrl, AsAPassword, Twice] {
                let authorization = match shown {
                    Nothing | InTheUrl => vec![],
                    Wrong => vec![format!("Bearer {}x", &token[1..])],
                    Right => vec![format!("bearer {token}")],
                    AsAPassword => vec![format!("Basic {token}")],
                    Twice => vec![format!("Bearer {token}"), format!("Bearer {token}")],
                };
                let path = if shown == InTheUrl {
                    format!("{path}?token={token}&access_token={token}")
                } else {
                    path.to_owned()
                };
                for host in [own_host.as_str(), "127.0.0.1", "relay.internal", "evil.example"] {
                    for origin in ["", &own_origin, "http://evil.example", "http://localhost:3000"] {
                        // Our own page is one that was served under the name that it asks.
                        if origin == own_origin && host != own_host {
                            continue;
                        }
                        for media in ["application/json", "application/json; charset=utf-8", "text/plain", ""] {
                            let mut headers = vec![("host", host)];
                            headers.extend(authorization.iter().map(|text| ("authorization", text.as_str())));
                            headers.extend(
                                [("origin", origin), ("content-type", media)].iter().filter(|h| !h.1.is_empty()),
                            );
                            let answer = served.ask(method, &path, &headers, "{}").await;
                            let expected = expected(loopback, method, shown, host, origin, media);
                            let what = format!("{listen} {method} {shown:?} {host} {origin} {media}: {answer:?}");
                            assert_eq!(answer.status, expected, "{what}");
                            assert_eq!(answer.json().get("error").is_some(), expected != 200, "{what}");
                            assert_eq!(answer.header("www-authenticate"), (expected == 401).then_some("Bearer"));
                            assert!(expected != 401 || answer.body.contains("admin-token"), "{what}");
                            assert!(!answer.body.contains(token), "{what}");
                            asked += 1;
                        }
                    }
                }
            }
        }
    }
    println!("{asked} combinations");
    assert!(asked > 1_500);
}

#[tokio::test]
async fn a_listener_on_loopback_asks_a_peer_from_elsewhere_for_the_token() {
    let served = serve("127.0.0.1:0").await;
    for (peer, status) in [
        (Some("203.0.113.9:1"), 401),
        (Some("[2001:db8::1]:1"), 401),
        (None, 401),
        (Some("127.8.8.8:1"), 200),
        (Some("[::ffff:127.0.0.1]:1"), 200),
    ] {
        let mut request = Request::get("/api/sandboxes").header("host", "localhost").body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        }
        let answer = served.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status, "{peer:?}");
    }
}

#[tokio::test]
async fn health_and_metrics_need_no_token_anywhere() {
    let served = serve("0.0.0.0:0").await;
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(served.ask("GET", path, &[("host", "localhost")], "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_says_so_and_another_method_names_those_that_are() {
    let served = serve("127.0.0.1:0").await;
    let ask = async |method: &str, path: &str| served.ask(method, path, &[("host", "localhost")], "").await;
    assert_eq!(ask("GET", "/api/nothing").await.json()["error"], "there is nothing here");
    assert_eq!(ask("GET", "/nothing").await.body, "there is nothing here\n");
    for (path, methods, allow) in [
        ("/api/sandboxes", &["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"][..], "GET,HEAD"),
        ("/api/events", &["POST", "OPTIONS"], "GET,HEAD"),
        ("/api/backfill", &["GET", "PUT", "OPTIONS", "BREW"], "POST"),
        ("/metrics", &["POST", "OPTIONS"], "GET,HEAD"),
    ] {
        for method in methods {
            let answer = ask(method, path).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}: {answer:?}");
            assert!(!path.starts_with("/api") || answer.json()["error"].is_string(), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_such_json_is_refused_in_json() {
    let served = serve("127.0.0.1:0").await;
    let bearer = format!("Bearer {}", served.token);
    let headers = [("host", "localhost"), ("authorization", &bearer), ("content-type", "application/json")];
    for (body, status, word) in [
        (" ".repeat(70_000), 413, "limit"),
        ("{".to_owned(), 400, "EOF"),
        (r#"{"sanbox_id": "x"}"#.to_owned(), 400, "sanbox_id"),
        (r#"{"since": "yesterday"}"#.to_owned(), 400, "RFC 3339"),
        ("\"all\"".to_owned(), 400, "body"),
    ] {
        let answer = served.ask("POST", "/api/backfill", &headers, &body).await;
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!((answer.status, error.contains(word)), (status, true), "{answer:?}");
    }
}

#[test]
fn the_daemon_s_own_token_is_its_owner_s_alone_fresh_and_kept() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = Token::own(one.path()).unwrap();
    let mode = std::fs::metadata(token.file()).unwrap().permissions().mode();
    assert_eq!((mode & 0o777, token.secret().expose().len()), (0o600, 64));
    let text = std::fs::read_to_string(one.path().join("admin-token")).unwrap();
    assert_eq!(text.trim_end(), token.secret().expose());
    // What a kill left half done is in nobody's way.
    std::fs::write(other.path().join("admin-token.new"), "half").unwrap();
    assert_ne!(Token::own(other.path()).unwrap().secret().expose(), token.secret().expose());
    assert_eq!(Token::own(one.path()).unwrap().secret().expose(), token.secret().expose(), "kept");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
}
