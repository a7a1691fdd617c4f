//! What one peer, or many, may cost.

use super::harness::{Behaviour, PATH, Relay, SECRET, event, event_with, post};
use crate::support::sign;
use bytesize::ByteSize;
use e2b_relay::http::Settings;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Short enough to wait for, long enough for a busy machine to send a request.
const SOON: Duration = Duration::from_millis(700);

/// The header of a delivery whose body is still to come.
fn announce(length: usize, signature: (&str, String)) -> Vec<u8> {
    let (name, value) = signature;
    format!("POST {PATH} HTTP/1.1\r\nhost: relay\r\n{name}: {value}\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let (name, value) = sign::e2b(SECRET, body);
    let header =
        format!("POST {PATH} HTTP/1.1\r\nhost: relay\r\n{name}: {value}\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut request = header.into_bytes();
    for chunk in body.chunks(5_000) {
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_announced_or_not() {
    let relay = Relay::start_with(Settings { max_body: ByteSize::kib(64), ..Settings::default() }).await;
    let padded = |length: usize| {
        let mut event = event();
        event["x"] = json!("");
        event["x"] = json!("x".repeat(length - event.to_string().len()));
        event.to_string().into_bytes()
    };
    let (fits, too_large) = (padded(64 << 10), padded((64 << 10) + 1));
    assert_eq!((fits.len(), too_large.len()), (65_536, 65_537));
    relay.deliver(&fits).await.accepted();
    relay.connect().await.send(&chunked(&padded(64 << 10))).await.accepted();
    relay.deliver(&too_large).await.error(413);
    relay.connect().await.send(&chunked(&too_large)).await.error(413);
    // The announcement alone is enough.
    relay.connect().await.send(&announce(1 << 40, sign::e2b(SECRET, b""))).await.error(413);
    assert_eq!((relay.count("too_large"), relay.count("accepted")), (3, 2));
}

#[tokio::test]
async fn the_answer_reaches_a_sender_that_goes_on_sending() {
    let relay = Relay::start().await;
    let mut client = relay.connect().await;
    client.0.write_all(&announce(4 << 20, sign::e2b(SECRET, b""))).await.unwrap();
    for _ in 0..64 {
        // The relay may close its side in between, which is not an error for the sender.
        client.0.write_all(&[b' '; 64 << 10]).await.unwrap();
    }
    client.answer().await.error(413);
}

#[tokio::test]
async fn a_sender_that_has_ended_its_side_gets_its_answer() {
    let relay = Relay::start().await;
    let mut client = relay.connect().await;
    let body = event().to_string();
    let request = post(PATH, &[sign::e2b(SECRET, body.as_bytes())], body.as_bytes());
    client.0.write_all(&request).await.unwrap();
    client.0.shutdown().await.unwrap();
    client.answer().await.accepted();
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn what_does_not_arrive_in_time_is_408() {
    let relay = Relay::start_with(Settings { request_timeout: SOON, ..Settings::default() }).await;
    // The body, of which a part is there, or none, or which trickles.
    relay.connect().await.send(&[announce(10, sign::e2b(SECRET, b"")), b"{".to_vec()].concat()).await.error(408);
    relay.connect().await.send(&announce(10, sign::e2b(SECRET, b""))).await.error(408);
    assert_eq!(relay.count("timeout"), 2);
    let mut client = relay.connect().await;
    client.0.write_all(&announce(1 << 20, sign::e2b(SECRET, b""))).await.unwrap();
    let (mut reader, mut writer) = client.0.split();
    let trickle = async {
        let mut interval = tokio::time::interval(SOON / 20);
        loop {
            interval.tick().await;
            if writer.write_all(b" ").await.is_err() {
                std::future::pending().await
            }
        }
    };
    let mut first_line = [0; 12];
    tokio::select! {
        () = trickle => {}
        read = reader.read_exact(&mut first_line) => { read.unwrap(); }
        () = tokio::time::sleep(SOON * 20) => panic!("no answer while the body trickles"),
    }
    assert_eq!(&first_line, b"HTTP/1.1 408");
    // The header.
    let mut client = relay.connect().await;
    client.0.write_all(b"POST /webhooks/e2b HTTP/1.1\r\nhost: re").await.unwrap();
    client.answer().await.error(408);
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_without_an_answer() {
    let relay = Relay::start_with(Settings { request_timeout: SOON, ..Settings::default() }).await;
    assert_eq!(relay.connect().await.rest().await, b"");
    // After a request too, and half a preface of HTTP/2 is none.
    let mut client = relay.connect().await;
    let body = event().to_string();
    client.send(&post(PATH, &[sign::e2b(SECRET, body.as_bytes())], body.as_bytes())).await.accepted();
    assert_eq!(client.rest().await, b"");
    let mut client = relay.connect().await;
    client.0.write_all(b"PRI * HTTP").await.unwrap();
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn too_many_waiting_for_the_disk_and_too_long_a_wait_are_503() {
    let settings = Settings { max_in_flight: 1, commit_timeout: SOON, ..Settings::default() };
    let relay = Relay::start_with(settings).await;
    relay.behave(Behaviour::Hang);
    let (first, second) = (event().to_string(), event().to_string());
    let (first, second) = tokio::join!(relay.deliver(first.as_bytes()), relay.deliver(second.as_bytes()));
    first.error(503);
    second.error(503);
    assert_eq!((relay.count("timeout"), relay.count("overloaded")), (1, 1));
}

#[tokio::test]
async fn when_bodies_fill_the_memory_the_oldest_gives_way_and_a_delivery_still_gets_in() {
    let settings = Settings { max_body: ByteSize::kib(64), max_buffered: ByteSize::kib(256), ..Settings::default() };
    let relay = Relay::start_with(settings).await;
    // Five times 64 KiB are more than 256 KiB: one of them is answered, without having ended its body.
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut client = relay.connect().await;
        client.0.write_all(&announce(64 << 10, sign::e2b(SECRET, b""))).await.unwrap();
        client.0.write_all(&vec![b' '; (64 << 10) - 1]).await.unwrap();
        slow.push(client);
    }
    let answers = slow.iter_mut().map(|client| Box::pin(client.answer()));
    let (answer, _, _) = futures_util::future::select_all(answers).await;
    answer.error(503);
    relay.deliver(&event_with("x", json!("x".repeat(60 << 10)))).await.accepted();
    assert_eq!(relay.count("accepted"), 1);
    assert!((1..=5).contains(&relay.count("overloaded")));
}

#[tokio::test]
async fn a_flood_of_idle_connections_does_not_keep_a_delivery_out() {
    let relay = Relay::start_with(Settings { max_connections: 8, ..Settings::default() }).await;
    let mut idle = Vec::new();
    for round in 0..5 {
        for _ in 0..20 {
            let mut client = relay.connect().await;
            match round % 3 {
                0 => {}
                1 => client.0.write_all(b"POST /webhooks/e2b HTTP/1.1\r\n").await.unwrap(),
                _ => client.0.write_all(&announce(100, sign::e2b(SECRET, b""))).await.unwrap(),
            }
            idle.push(client);
        }
        relay.deliver(event().to_string().as_bytes()).await.accepted();
    }
    assert_eq!(relay.kept(), 5);
    // The first was closed long before its time.
    assert_eq!(idle[0].rest().await, b"");
}

#[tokio::test]
async fn requests_that_have_begun_end_before_the_listener_does() {
    let relay = Relay::start().await;
    let body = event().to_string().into_bytes();
    let mut begun = relay.connect().await;
    let request = post(PATH, &[sign::e2b(SECRET, &body)], &body);
    let (first, last) = request.split_at(request.len() - 1);
    begun.0.write_all(first).await.unwrap();
    let mut idle = relay.connect().await;
    idle.send(&post(PATH, &[], b"")).await.error(401);
    relay.shutdown.fire();
    assert_eq!(idle.rest().await, b"");
    begun.0.write_all(last).await.unwrap();
    let answer = begun.answer().await;
    answer.accepted();
    assert_eq!(begun.rest().await, b"", "and then the connection ends");
    tokio::time::timeout(Duration::from_secs(30), relay.served).await.expect("the listener's end").unwrap();
    assert!(tokio::net::TcpStream::connect(relay.address).await.is_err());
}

#[tokio::test]
async fn who_has_just_connected_is_answered_though_the_listener_ends() {
    let relay = Relay::start().await;
    let (mut fresh, mut silent) = (relay.connect().await, relay.connect().await);
    // Connections are taken in turn, so those before it are taken.
    let mut idle = relay.connect().await;
    idle.send(&post(PATH, &[], b"")).await.error(401);
    relay.shutdown.fire();
    assert_eq!(idle.rest().await, b"");
    let body = event().to_string().into_bytes();
    fresh.send(&post(PATH, &[sign::e2b(SECRET, &body)], &body)).await.accepted();
    assert_eq!(silent.rest().await, b"", "who says nothing is not waited for");
    tokio::time::timeout(Duration::from_secs(30), relay.served).await.expect("the listener's end").unwrap();
}
