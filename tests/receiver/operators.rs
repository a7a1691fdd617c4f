//! The admin listener, and readiness on both.

use super::harness::{Behaviour, Client, Relay};
use crate::support::stored::Store;
use e2b_relay::admin;
use e2b_relay::http::Listener;
use e2b_relay::intake::Refused;
use e2b_relay::shutdown::{self, Trigger};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// The store is there for the rest of what is served; readiness is the relay's.
async fn serve(relay: &Relay) -> (SocketAddr, (Trigger, Arc<Store>, tempfile::TempDir)) {
    let settings = admin::Settings { hosts: vec!["relay.internal".to_owned()], ..admin::Settings::default() };
    let listener = Listener::bind_admin(([127, 0, 0, 1], 0).into(), None).await.unwrap();
    let (address, (trigger, shutdown)) = (listener.address(), shutdown::channel());
    let (folder, store) = crate::admin::store();
    let router = admin::router(crate::admin::parts(
        address,
        admin::Access::new(&settings, admin::Token::own(folder.path()).unwrap()),
        relay,
        &store,
        shutdown.clone(),
    ));
    tokio::spawn(listener.serve(router, shutdown));
    (address, (trigger, store, folder))
}

async fn get(address: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    let answer = client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn metrics_and_health_are_served() {
    let relay = Relay::start().await;
    let (address, _trigger) = serve(&relay).await;
    let (status, text) = get(address, "/metrics", "127.0.0.1").await;
    assert_eq!(status, 200);
    for family in ["e2b_relay_deliveries_total", "e2b_relay_build_info", "process_resident_memory_bytes"] {
        assert!(text.contains(&format!("# TYPE {family} ")), "{family}");
    }
    assert_eq!(get(address, "/livez", "localhost").await.0, 200);
    assert_eq!(get(address, "/readyz", "relay.internal").await.0, 200);
    assert_eq!(get(address, "/nothing", "localhost").await.0, 404);
}

/// As the command tells it.
async fn health(address: SocketAddr, arguments: &[&str]) -> (Option<i32>, String) {
    let ran = crate::admin::health(&address.to_string(), arguments).await;
    (ran.code, format!("{}{}", ran.out, ran.err))
}

#[tokio::test]
async fn a_store_that_cannot_accept_and_a_drain_make_it_unready_but_not_dead() {
    let relay = Relay::start().await;
    let (address, _trigger) = serve(&relay).await;
    let ready =
        async || [get(address, "/readyz", "localhost").await.0, get(relay.address, "/readyz", "any.example").await.0];
    assert_eq!(ready().await, [200, 200]);
    assert_eq!(health(address, &["--ready"]).await, (Some(0), "ready\n".to_owned()));
    relay.behave(Behaviour::Refuse(Refused::Full { retry_after: Duration::from_secs(1) }));
    assert_eq!(ready().await, [503, 503]);
    assert!(get(address, "/readyz", "localhost").await.1.contains("the store is full"));
    assert!(!get(relay.address, "/readyz", "localhost").await.1.contains("store"), "operators' business");
    relay.behave(Behaviour::Keep);
    assert_eq!(ready().await, [200, 200]);
    relay.draining.fire();
    assert_eq!(ready().await, [503, 503]);
    assert_eq!(get(address, "/livez", "localhost").await.0, 200);
    let unready = "e2b-relay: not ready: draining\n".to_owned();
    assert_eq!(health(address, &["--ready"]).await, (Some(69), unready));
    assert_eq!(health(address, &[]).await, (Some(0), "alive\n".to_owned()));
    let (code, said) = health(relay.address, &[]).await;
    assert!(code == Some(69) && said.contains("does not answer as a daemon"), "{code:?}: {said}");
}

#[tokio::test]
async fn a_foreign_name_gets_421_whatever_it_asks_for() {
    let relay = Relay::start().await;
    let (address, _trigger) = serve(&relay).await;
    for path in ["/metrics", "/livez", "/readyz", "/nothing"] {
        assert_eq!(get(address, path, "evil.example").await.0, 421, "{path}");
    }
}
