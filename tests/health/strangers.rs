//! What a stranger who is connected can make the libraries say: a line now and then, and not one for each thing he does.

use crate::support::daemon::{Daemon, Home, PATIENCE, reqwest_client};
use crate::support::tls::Certificates;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 200;

/// As often as one line is written.
const EVERY: Duration = Duration::from_secs(10);

/// An HTTP/2 frame without payload but these eight bytes, on the connection itself.
fn ping(flags: u8) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[2] = 8;
    frame[3] = 6;
    frame[4] = flags;
    frame
}

const ACK: u8 = 1;

/// Fifty answers to questions that nobody has asked, and then a question, whose answer says that all were read.
async fn unasked_pings(address: String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    (0..50).for_each(|_| said.extend(ping(ACK)));
    said.extend(ping(0));
    stream.write_all(&said).await.unwrap();
    let mut heard = Vec::new();
    while !heard.windows(5).any(|window| window == [0, 8, 6, ACK, 0]) {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "it hung up: {heard:?}");
    }
}

/// The end of a server's greeting, from a client.
async fn wrong_handshake(address: String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\x16\x03\x03\0\x04\x0e\0\0\0").await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
}

/// The lines of that library, after a line that came later than all of them.
async fn lines(home: &Home, daemon: &Daemon, library: &str) -> Vec<Value> {
    let token = std::fs::read_to_string(home.path().join("data/admin-token")).unwrap();
    let change = reqwest_client().post(format!("http://{}/api/log-level", daemon.admin)).bearer_auth(token.trim());
    assert_eq!(change.json(&json!({"level": "info"})).send().await.unwrap().status(), 200);
    daemon.says(0, "the log's level is changed").await;
    let lines = daemon.log().into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
    lines.filter(|line| line["target"].as_str().unwrap().split("::").next() == Some(library)).collect()
}

async fn few_lines<F: Future<Output = ()> + Send + 'static>(home: &Home, library: &str, connect: fn(String) -> F) {
    let daemon = home.start().await;
    let began = tokio::time::Instant::now();
    for _ in 0..CONNECTIONS {
        let connected = tokio::spawn(connect(daemon.public.clone()));
        tokio::time::timeout(PATIENCE, connected).await.expect("an answer").unwrap();
    }
    let lines = lines(home, &daemon, library).await;
    // Each place in the code that speaks may do so once in that time, and these make one or two of them speak.
    let turns = 1 + (began.elapsed().as_secs() / EVERY.as_secs()) as usize;
    assert!((1..=2 * turns).contains(&lines.len()), "{} lines, the first {:#?}", lines.len(), lines.first());
    assert_eq!((&lines[0]["suppressed"], &lines[0]["level"]), (&json!(0), &json!("WARN")), "{}", lines[0]);
}

const PARTS: &str = "sources: {acme: {webhook: {secrets: [0123456789abcdef0123456789abcdef]}}}\n\
                     sinks: {audit: {type: file, path: ./audit.ndjson}}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_has_asked_for_make_few_lines() {
    few_lines(&Home::new(PARTS), "h2", unasked_pings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_are_none_make_few_lines() {
    let certificates = Certificates::new();
    let file = |name: &str| certificates.path().join(name).display().to_string();
    let tls = format!("tls: {{cert_file: {}, key_file: {}}}", file("server.pem"), file("server.key"));
    let listeners = format!("server: {{listen: '127.0.0.1:0', {tls}}}\nadmin: {{listen: '127.0.0.1:0'}}\n");
    let home = Home::new("");
    std::fs::write(home.configuration(), listeners + PARTS).unwrap();
    few_lines(&home, "rustls", wrong_handshake).await;
}
