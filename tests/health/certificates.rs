//! When certificates end: the server's own, and those that sinks show their peers.

use super::exposition::parse;
use crate::reload::reload;
use crate::support::daemon::{Daemon, Home};
use crate::support::tls::Certificates;
use std::path::Path;
use std::process::Command;

const FAMILY: &str = "e2b_relay_tls_certificate_expiry_timestamp_seconds";

/// By section.
async fn shown(daemon: &Daemon) -> Vec<(String, i64)> {
    let metrics = parse(&daemon.metrics().await.0);
    let series = metrics.get(FAMILY).map(|family| family.series.as_slice()).unwrap_or_default();
    let mut shown: Vec<_> = series.iter().map(|(labels, end)| (labels["section"].clone(), *end as i64)).collect();
    shown.sort();
    shown
}

/// By openssl.
fn end(certificate: &Path) -> i64 {
    let said = Command::new("openssl")
        .args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"])
        .arg(certificate)
        .output()
        .expect("openssl");
    let said = String::from_utf8(said.stdout).unwrap();
    let end = said.trim().strip_prefix("notAfter=").unwrap_or_else(|| panic!("{said}")).replace(' ', "T");
    end.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// A certificate by the same authority that lasts for so many days.
fn renew(folder: &Path, name: &str, days: u32) {
    let signed = format!(
        "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile san -out {name}.pem"
    );
    let made = Command::new("openssl").args(signed.split(' ')).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[tokio::test]
async fn it_is_told_when_the_certificates_end_that_are_in_use() {
    let certificates = Certificates::new();
    let file = |name: &str| certificates.path().join(name);
    let home = Home::new("");
    let configure = |tls: &str, sinks: &str| {
        let configuration = format!(
            "server: {{listen: '127.0.0.1:0'{tls}}}\nadmin: {{listen: '127.0.0.1:0'}}\n\
             sources: {{acme: {{webhook: {{secrets: [0123456789abcdef0123456789abcdef]}}}}}}\n\
             sinks:\n  audit: {{type: file, path: ./audit.ndjson}}\n{sinks}"
        );
        std::fs::write(home.configuration(), configuration).unwrap();
    };
    let server =
        format!(", tls: {{cert_file: {}, key_file: {}}}", file("server.pem").display(), file("server.key").display());
    let pair = format!("cert_file: {}, key_file: {}", file("client.pem").display(), file("client.key").display());
    // Nobody has to be there.
    let all = format!(
        "  queue: {{type: amqp, url: 'amqps://127.0.0.1:1', exchange: a, {pair}}}\n  \
         bus: {{type: nats, servers: ['tls://127.0.0.1:1'], subject: a, {pair}}}\n  \
         lake: {{type: kafka, brokers: ['127.0.0.1:1'], topic: a, tls: {{{pair}}}}}\n"
    );

    configure(&server, &all);
    let daemon = home.start().await;
    let of = |section: &str, name: &str| (section.to_owned(), end(&file(name)));
    let sinks =
        |names: &[&str]| names.iter().map(|sink| of(&format!("sinks.{sink}"), "client.pem")).collect::<Vec<_>>();
    let expected = [vec![of("server.tls", "server.pem")], sinks(&["bus", "lake", "queue"])].concat();
    assert_eq!(shown(&daemon).await, expected);

    let before = end(&file("client.pem"));
    renew(certificates.path(), "client", 30);
    assert_ne!(end(&file("client.pem")), before);
    let two = all.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    configure(&server, &two);
    reload(&daemon).await;
    let expected = [vec![of("server.tls", "server.pem")], sinks(&["bus", "queue"])].concat();
    assert_eq!(shown(&daemon).await, expected);
    daemon.kill().await;

    configure("", "");
    let daemon = home.start().await;
    assert_eq!(shown(&daemon).await, [], "only where there is one");
}
