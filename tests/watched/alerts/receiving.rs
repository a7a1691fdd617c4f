//! What goes wrong with deliveries, and with the daemon itself.

use super::{Watched, meanwhile};
use crate::support::daemon::{Home, reqwest_client};
use crate::support::load::{SECRET, body, body_of};
use crate::support::tls::Certificates;
use crate::watched::server::Prometheus;
use serde_json::json;
use std::cell::Cell;
use std::time::Duration;
use tokio::process::Command;

fn plain() -> String {
    format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    )
}

fn id(number: u32) -> String {
    format!("8f3f4a52-1c5e-4f0c-9d3f-0000000{number:05}")
}

pub(super) async fn deliveries_are_refused_and_stay_away(prometheus: &Prometheus) {
    let relay = Watched::start(prometheus, "refusing", &plain()).await;
    relay.deliver_one(&id(0)).await;
    relay.until_scraped().await;
    // A secret that does not belong to the webhook, a delivery of last month, and a shape nobody knows: all go on until
    // they are seen.
    let number = Cell::new(1);
    let next = || id(number.replace(number.get() + 1));
    let refused = async || {
        let honest = body(&next(), "sbx", 1, true);
        assert_eq!(relay.deliver("not the secret, but also 32 bytes", &honest).await, 401);
        let then = jiff::Timestamp::now() - Duration::from_secs(30 * 86_400);
        let stale = body_of(&next(), "sbx", 1, true, &json!("usual"), then);
        assert_eq!(relay.deliver(SECRET, &stale).await, 400);
        assert_eq!(relay.deliver(SECRET, "{\"no\": \"event\"}").await, 400);
    };
    let alerts = ["E2bRelayBadSignatures", "E2bRelayGenuineRefused", "E2bRelayQuarantined"];
    let all_fire = async {
        for alert in alerts {
            relay.fires(alert).await;
        }
    };
    meanwhile(all_fire, refused).await;
    for alert in alerts {
        relay.clears(alert).await;
    }
    // Nothing comes any more, until it does.
    relay.fires("E2bRelayNoDelivery").await;
    meanwhile(relay.clears("E2bRelayNoDelivery"), async || relay.deliver_one(&next()).await).await;
    relay.end().await;
}

pub(super) async fn the_configuration_is_bad_or_waits(prometheus: &Prometheus) {
    let relay = Watched::start(prometheus, "reloading", &plain()).await;
    relay.home.configure("sinks: {}\n");
    relay.daemon.hang_up();
    relay.fires("E2bRelayReloadFailed").await;
    let text = std::fs::read_to_string(relay.home.configuration()).unwrap();
    assert!(text.starts_with("server: {listen: '127.0.0.1:0'}\n"));
    relay.home.configure(&plain());
    let slower = std::fs::read_to_string(relay.home.configuration()).unwrap();
    let slower =
        slower.replace("server: {listen: '127.0.0.1:0'}", "server: {listen: '127.0.0.1:0', max_in_flight: 4000}");
    std::fs::write(relay.home.configuration(), slower).unwrap();
    relay.daemon.hang_up();
    relay.clears("E2bRelayReloadFailed").await;
    relay.fires("E2bRelayRestartNeeded").await;
    relay.home.configure(&plain());
    relay.daemon.hang_up();
    relay.clears("E2bRelayRestartNeeded").await;
    relay.end().await;
}

async fn openssl(folder: &std::path::Path, command: &str) {
    let output = Command::new("openssl").args(command.split(' ')).current_dir(folder).output().await.unwrap();
    assert!(output.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The certificates of the tests are good for two days; one for no day at all is over at once.
pub(super) async fn a_certificate_ends(prometheus: &Prometheus) {
    let certificates = Certificates::new();
    let folder = certificates.path();
    let renew = async |days: u32| {
        let files = "-req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile san";
        openssl(folder, &format!("x509 {files} -days {days} -out server.new")).await;
        std::fs::rename(folder.join("server.new"), folder.join("server.pem")).unwrap();
    };
    renew(0).await;
    let home = Home::new("");
    let tls = format!("tls: {{cert_file: {0}/server.pem, key_file: {0}/server.key}}", folder.display());
    let configuration =
        format!("server: {{listen: '127.0.0.1:0', {tls}}}\nadmin: {{listen: '127.0.0.1:0'}}\n{}", plain());
    std::fs::write(home.configuration(), configuration).unwrap();
    let relay = Watched::at(prometheus, "secured", home).await;
    relay.fires("E2bRelayCertificateExpiring").await;
    renew(2).await;
    // The next connection has it read.
    let client = reqwest_client();
    let ask = async || {
        let url = format!("https://{}/readyz", relay.daemon.public);
        let refused = client.get(url).send().await;
        assert!(refused.is_err(), "nobody here trusts that authority");
    };
    meanwhile(relay.clears("E2bRelayCertificateExpiring"), ask).await;
    relay.end().await;
}

pub(super) async fn a_daemon_dies(prometheus: &Prometheus) {
    let relay = Watched::start(prometheus, "mortal", &plain()).await;
    let Watched { home, daemon, .. } = relay;
    daemon.kill().await;
    prometheus.fires("E2bRelayDown", "mortal").await;
    let relay = Watched::at(prometheus, "mortal", home).await;
    relay.clears("E2bRelayDown").await;
    relay.end().await;
}
