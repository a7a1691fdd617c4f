//! Thousands of slow bodies at once, against a receiver in a process of its own, so that its memory can be measured.

use super::harness::{PATH, Relay, SECRET, event, post};
use crate::support::sign;
use e2b_relay::http::Settings;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

const CONNECTIONS: usize = 2_000;
const BODY: usize = 1 << 20;
/// Of each connection and round.
const PART: usize = 8 << 10;
/// 16 parts of 2,000 connections are four times what may be buffered.
const ROUNDS: usize = 16;
const MAX_GROWTH: usize = 100 << 20;

/// Set in the process that is the receiver.
const ROLE: &str = "E2B_RELAY_TEST_IS_RECEIVER";

#[test]
fn two_thousand_slow_bodies_cost_less_than_100_mib_and_keep_no_delivery_out() {
    if std::env::var_os(ROLE).is_some() {
        return be_receiver();
    }
    let (soft, hard) = descriptors();
    assert!(
        hard >= 3 * CONNECTIONS as u64,
        "this test needs {} file descriptors, and may have {hard}",
        3 * CONNECTIONS
    );
    let limit = rustix::process::Rlimit { current: Some(soft.max(3 * CONNECTIONS as u64)), maximum: Some(hard) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mut receiver = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "receiver::memory::two_thousand_slow_bodies_cost_less_than_100_mib_and_keep_no_delivery_out",
        ])
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| line.split("listening on ").nth(1).map(|address| address.parse().unwrap()));
    let address = address.expect("an address");
    deliver(address);
    let before = resident(receiver.id());
    let header = format!("POST {PATH} HTTP/1.1\r\nhost: relay\r\ne2b-signature: x\r\ncontent-length: {BODY}\r\n\r\n");
    let mut slow: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(header.as_bytes()).unwrap();
            stream
        })
        .collect();
    let (part, mut most) = (vec![b' '; PART], 0);
    for _ in 0..ROUNDS {
        for stream in &mut slow {
            // The oldest have been answered and closed; that is what the limit is for.
            let _ = stream.write_all(&part);
        }
        deliver(address);
        most = most.max(resident(receiver.id()).saturating_sub(before));
    }
    println!("{CONNECTIONS} slow bodies: {} MiB more", most >> 20);
    assert!(most < MAX_GROWTH, "{} MiB more", most >> 20);
    assert!(most > 32 << 20, "the bodies were not held at all: {} KiB more", most >> 10);
    // It ends when its input does, and has a last line to write.
    drop(receiver.stdin.take());
    lines.for_each(drop);
    assert!(receiver.wait().unwrap().success());
}

/// One delivery, which must be accepted.
fn deliver(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let body = event().to_string();
    stream.write_all(&post(PATH, &[sign::e2b(SECRET, body.as_bytes())], body.as_bytes())).unwrap();
    let mut first_line = [0; 12];
    stream.read_exact(&mut first_line).unwrap();
    assert_eq!(&first_line, b"HTTP/1.1 200");
}

fn be_receiver() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // Nobody is to be closed for being slow: memory alone is what is measured.
        let settings = Settings { request_timeout: Duration::from_secs(600), ..Settings::default() };
        let relay = Relay::start_with(settings).await;
        println!("listening on {}", relay.address);
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    });
    runtime.shutdown_background();
}

fn descriptors() -> (u64, u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

/// Resident memory in bytes.
fn resident(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
