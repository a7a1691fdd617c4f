//! Rules of who may do what at a Kafka broker with an authorizer: the two requests of its protocol that no client library
//! here has (`CreateAcls` and `DeleteAcls`, version 1).
#![cfg(test)]

use std::io::{Read, Write};
use std::net::TcpStream;

const CREATE: i16 = 30;
const DELETE: i16 = 31;
const TOPIC: i8 = 2;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ALL: i8 = 2;
const ALLOW: i8 = 3;

/// Lets a user (`*`: any) do everything with the topics whose names begin so.
pub(crate) fn allow_prefixed(brokers: &str, user: &str, prefix: &str) {
    exchange(brokers, CREATE, &rule(user, PREFIXED, prefix));
}

/// Lets a user do everything with one topic.
pub(crate) fn allow(brokers: &str, user: &str, topic: &str) {
    exchange(brokers, CREATE, &rule(user, LITERAL, topic));
}

/// Takes the rule back that [`allow`] gave.
pub(crate) fn disallow(brokers: &str, user: &str, topic: &str) {
    exchange(brokers, DELETE, &rule(user, LITERAL, topic));
}

/// An array of one, of which both requests have the same fields.
fn rule(user: &str, pattern: i8, topic: &str) -> Vec<u8> {
    let mut rule = 1i32.to_be_bytes().to_vec();
    rule.extend(TOPIC.to_be_bytes());
    string(&mut rule, topic);
    rule.extend(pattern.to_be_bytes());
    string(&mut rule, &format!("User:{user}"));
    string(&mut rule, "*");
    rule.extend(ALL.to_be_bytes());
    rule.extend(ALLOW.to_be_bytes());
    rule
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as i16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// Answers of both begin with the correlation id, the throttling time, the count of results and the first one's error.
fn exchange(brokers: &str, api: i16, body: &[u8]) {
    let mut request = api.to_be_bytes().to_vec();
    request.extend(1i16.to_be_bytes());
    request.extend(7i32.to_be_bytes());
    string(&mut request, "tests");
    request.extend(body);
    let mut broker = TcpStream::connect(brokers).unwrap();
    broker.write_all(&(request.len() as i32).to_be_bytes()).unwrap();
    broker.write_all(&request).unwrap();
    let mut length = [0; 4];
    broker.read_exact(&mut length).unwrap();
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    broker.read_exact(&mut answer).unwrap();
    assert_eq!(&answer[..4], 7i32.to_be_bytes());
    let error = i16::from_be_bytes(answer[12..14].try_into().unwrap());
    assert_eq!(error, 0, "request {api}: {}", String::from_utf8_lossy(&answer[14..]));
}
