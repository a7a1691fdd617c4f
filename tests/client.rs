//! The outgoing HTTP client against sockets that answer what a peer should not.

use e2b_relay::client::{Client, ClientError, Limits};
use futures_util::FutureExt;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Takes one request and answers with these bytes; the connection stays open.
async fn answering(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = [0; 4096];
        assert!(socket.read(&mut request).await.expect("a request") > 0);
        // The peer may hang up first; what it makes of the answer is for the test to see.
        let _ = socket.write_all(answer.as_bytes()).await;
        let _ = socket.read(&mut request).await;
    });
    address
}

fn client(address: SocketAddr, limits: Limits) -> Client {
    Client::new(&format!("http://{address}/base?x=1"), limits).expect("a client")
}

#[tokio::test]
async fn an_answer_is_status_headers_and_body() {
    let address = answering("HTTP/1.1 418 Teapot\r\nretry-after: 7\r\ncontent-length: 5\r\n\r\nhello".to_owned()).await;
    let client = client(address, Limits::default());
    let reply = client.get(&client.base_path(), &[("x-key", "v")]).await.expect("an answer");
    assert_eq!((reply.status, &*reply.body, reply.header("retry-after")), (418, &b"hello"[..], Some("7")));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let location = elsewhere.local_addr().expect("an address");
    let answer = format!("HTTP/1.1 307 Moved\r\nlocation: http://{location}/\r\ncontent-length: 0\r\n\r\n");
    let client = client(answering(answer).await, Limits::default());
    let reply = client.post("/a", &[("e2b-signature", "s")], "body".into()).await.expect("an answer");
    assert_eq!(reply.status, 307);
    assert!(elsewhere.accept().now_or_never().is_none(), "somebody came to the redirect's target");
}

#[tokio::test]
async fn a_reply_over_the_limit_is_cut_off_told_or_not() {
    let limits = Limits { max_reply: 10, ..Limits::default() };
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n01234567890".to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n01234567\r\n".to_owned(),
    ] {
        let client = client(answering(answer).await, limits);
        let error = client.get("/", &[]).await.expect_err("too large");
        assert_eq!(error, ClientError::TooLarge { peer: client.peer(), limit: 10 });
    }
    let whole = answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789".to_owned()).await;
    assert_eq!(client(whole, limits).get("/", &[]).await.expect("fits").body.len(), 10);
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let limits = Limits { timeout: Duration::from_millis(50), ..Limits::default() };
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"] {
        let client = client(answering(answer.to_owned()).await, limits);
        let error = client.get("/", &[]).await.expect_err("no answer");
        assert_eq!(error, ClientError::Timeout { peer: client.peer() });
    }
}

#[tokio::test]
async fn who_is_not_there_or_speaks_otherwise_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let absent = client(free, Limits::default());
    let error = absent.get("/", &[]).await.expect_err("nobody there");
    assert!(matches!(&error, ClientError::Connect { peer, .. } if *peer == free.to_string()), "{error}");
    let strange = client(answering("220 smtp.example ESMTP\r\n".to_owned()).await, Limits::default());
    let error = strange.get("/", &[]).await.expect_err("not HTTP");
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
}
