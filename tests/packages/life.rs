//! The Debian package from the first installation to the last trace of it.

use super::build::{packages, repository};
use super::machine::Machine;
use crate::support::consume;
use crate::support::daemon::{Home, Spawned};
use crate::support::load::{Ongoing, Secret};
use crate::support::oracle::{Remains, Terms, judge};
use crate::support::probe::Probe;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

const CONFIGURATION: &str = "/etc/e2b-relay/e2b-relay.yaml";
const SECRETS: &str = "/etc/e2b-relay/credentials/webhook-secrets";
/// Deliveries before and after the upgrade, and about as many during it.
const EVENTS: usize = 500;
/// What a daemon says once it is up.
const UP: &str = "deliveries are taken; this is";
/// As somebody whom `DynamicUser=` has made up.
const USER: u32 = 64_242;

/// The service as its unit has systemd start it: in the socket that is held, by a user of its own, with its state's folder
/// and credentials.
const SERVICE: &str = r#"
set -e
unit=/usr/lib/systemd/system/e2b-relay.service
user=$0
install -d -m 700 -o "$user" -g "$user" /var/lib/private/e2b-relay
ln -sfn private/e2b-relay /var/lib/e2b-relay
export CREDENTIALS_DIRECTORY=/run/credentials/e2b-relay.service E2B_RELAY_LOG_FORMAT=json
install -d -m 500 -o "$user" -g "$user" "$CREDENTIALS_DIRECTORY"
as="setpriv --reuid=$user --regid=$user --clear-groups --no-new-privs"
cd /var/lib/e2b-relay
umask 077
until [ -e /run/stop ]; do
    install -m 400 -o "$user" /etc/e2b-relay/credentials/webhook-secrets "$CREDENTIALS_DIRECTORY"
    $as $(sed -n 's/^ExecStartPre=//p' "$unit")
    sh -c 'echo $$ >/run/e2b-relay.pid; LISTEN_PID=$$ exec "$@"' sh $as $(sed -n 's/^ExecStart=//p' "$unit")
done"#;

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What `systemctl` was asked to do since the last time.
fn asked(machine: &Machine) -> Vec<String> {
    let asked = machine.read("/run/asked");
    std::fs::write(machine.path("/run/asked"), "").unwrap();
    let acts = ["start", "restart", "stop", "daemon-reload"];
    let is_act = |line: &&str| line.split(' ').any(|word| acts.contains(&word));
    asked.lines().filter(is_act).map(|line| line.replace("--quiet ", "").replace("--system ", "")).collect()
}

fn start(machine: &Machine, home: &Home, public: &str) -> Spawned {
    let before = ["systemd-socket-activate", "-l", public, "--fdname=public"];
    let mut command = machine.command(&before, "sh");
    command.args(["-c", SERVICE]).arg(USER.to_string());
    home.spawn_by(command, None)
}

async fn pid(machine: &Machine) -> String {
    machine.must(&["cat", "/run/e2b-relay.pid"]).await.trim().to_owned()
}

/// Everything there is must be as on the day before the package came.
async fn assert_nothing_left(machine: &Machine) {
    assert_eq!(machine.left(), BTreeSet::new());
    let (known, said) = machine.run(&["dpkg-query", "--show", "e2b-relay"]).await;
    assert!(!known, "{said}");
    let info = std::fs::read_dir(machine.path("/var/lib/dpkg/info")).unwrap();
    let ours: Vec<_> = info.map(|entry| entry.unwrap().file_name()).collect();
    assert!(ours.len() > 10 && !ours.iter().any(|name| name.to_str().unwrap().starts_with("e2b-relay")));
}

#[tokio::test]
async fn where_no_systemd_runs_it_is_installed_all_the_same_and_leaves_nothing() {
    let packages = packages("1", "022", "UTC").await;
    let machine = Machine::boot().await;
    let said = machine.install(&packages.deb()).await;
    assert!(said.contains(SECRETS) && said.contains("/usr/share/doc/e2b-relay/deploy/OPERATIONS.md"), "{said}");
    // For the day when there is one.
    for wants in ["multi-user.target.wants/e2b-relay.service", "sockets.target.wants/e2b-relay.socket"] {
        assert!(machine.path("/etc/systemd/system").join(wants).is_symlink(), "{wants}");
    }
    let secret = machine.path(SECRETS);
    let modes = [secret.parent().unwrap(), &secret].map(|path| {
        let metadata = std::fs::metadata(path).unwrap();
        (metadata.permissions().mode() & 0o777, metadata.uid())
    });
    assert_eq!(modes, [(0o700, 0), (0o600, 0)]);
    let secret = machine.read(SECRETS);
    assert!(secret.len() == 65 && secret.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret:?}");
    // As it stands there, and whatever else root asks.
    assert_eq!(machine.must(&["e2b-relay", "check"]).await, "valid: 1 source and 1 sink\n");
    assert!(machine.must(&["e2b-relay", "config", "show"]).await.contains("/var/lib/e2b-relay/data"));
    let said = machine.install(&packages.deb()).await;
    assert!(!said.contains("Next:"), "{said}");
    assert_eq!(machine.read(SECRETS), secret, "another secret was made");
    machine.must(&["dpkg", "--purge", "e2b-relay"]).await;
    assert_nothing_left(&machine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_under_load_refuses_nothing_and_loses_nothing_and_purge_leaves_nothing() {
    let (first, second) = (packages("1", "022", "UTC").await, packages("2", "022", "UTC").await);
    let machine = Machine::boot_systemd(&repository().join("tests/packages/systemctl")).await;
    machine.install(&first.deb()).await;
    let start_all = ["daemon-reload", "start e2b-relay.socket", "start e2b-relay.service"];
    assert_eq!(asked(&machine), start_all);

    // What every operator does first: other addresses, in the package's own file.
    let [public, admin] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let text =
        machine.read(CONFIGURATION).replace("0.0.0.0:8080", &public) + &format!("admin: {{listen: '{admin}'}}\n");
    assert!(text.contains(&public), "{text}");
    std::fs::write(machine.path(CONFIGURATION), &text).unwrap();
    let secret = machine.read(SECRETS);

    let home = Home::new("");
    let service = start(&machine, &home, &public);
    // The first connection has it start; from then on somebody connects all the time.
    let probe = Probe::of(&public);
    let daemon = service.ready().await;
    assert_eq!(daemon.public, public);
    let signed = Secret::default();
    signed.rotate(secret.trim_end()).await;
    let load = Ongoing::signed("package", |_| json!("usual"), signed);
    let accepted = |events: usize| {
        move |metrics: &crate::support::daemon::Metrics| metrics.sum("events_total", "") >= events as f64
    };
    load.go_on(daemon.webhook(), EVENTS);
    daemon.until("some are accepted", accepted(EVENTS / 2)).await;

    // The load goes on all the while.
    let old = pid(&machine).await;
    let seen = daemon.log().len();
    load.go_on(daemon.webhook(), EVENTS);
    let second = second.deb();
    let upgrade = machine.install(&second);
    tokio::pin!(upgrade);
    loop {
        tokio::select! {
            _ = &mut upgrade => break,
            () = tokio::time::sleep(Duration::from_millis(5)) => load.top_up(daemon.webhook(), EVENTS / 10),
        }
    }
    let began = daemon.says(seen, UP).await;
    println!("after the upgrade: {began}");
    let restart = ["daemon-reload", "daemon-reload", "start e2b-relay.socket", "restart e2b-relay.service"];
    assert_eq!(asked(&machine), restart);
    let new = pid(&machine).await;
    assert_ne!(new, old);
    assert_eq!(machine.must(&["readlink", &format!("/proc/{new}/exe")]).await, "/usr/bin/e2b-relay\n");
    let version = machine.must(&["dpkg-query", "--show", "--showformat", "${Version} ${Status}", "e2b-relay"]).await;
    assert_eq!(version, format!("{}-2 install ok installed", env!("CARGO_PKG_VERSION")));
    assert_eq!(machine.read(CONFIGURATION), text, "a changed configuration is the operator's");
    assert_eq!(machine.read(SECRETS), secret);

    load.go_on(daemon.webhook(), EVENTS);
    let ledger = load.end().await;
    // Root's own commands find the daemon by the package's configuration.
    let sinks: Value =
        serde_json::from_str(&machine.must(&["e2b-relay", "sinks", "list", "--format", "json"]).await).unwrap();
    assert!(sinks.to_string().contains("/var/lib/e2b-relay/events.ndjson"), "{sinks}");
    let connections = probe.end_unrefused().await;
    assert!(ledger.acknowledged() >= 3 * EVENTS && connections > 100);
    println!("{} deliveries, {connections} other connections, none refused", ledger.acknowledged());

    // Removed while it runs; what proves the store is kept aside.
    machine.must(&["cp", "/usr/bin/e2b-relay", "/tmp/proof"]).await;
    machine.must(&["dpkg", "--remove", "e2b-relay"]).await;
    assert_eq!(asked(&machine), ["stop e2b-relay.socket e2b-relay.service", "daemon-reload"]);
    daemon.ended().await;
    for gone in ["/usr/bin/e2b-relay", "/usr/lib/systemd/system/e2b-relay.service", "/usr/share/doc/e2b-relay"] {
        assert!(!machine.path(gone).exists(), "{gone}");
    }
    assert_eq!((machine.read(CONFIGURATION), machine.read(SECRETS)), (text, secret));
    let proof = machine.must(&["/tmp/proof", "store", "verify", "--format", "json"]).await;
    let proof: Value = serde_json::from_str(&proof).unwrap();
    let sum = &proof["sinks"][0];
    assert_eq!((&sum["sink"], &sum["dead_lettered"], &sum["pending"]), (&json!("events"), &json!(0), &json!(0)));
    // The service could go on with what root has looked at.
    let user = USER.to_string();
    let others = machine.must(&["find", "/var/lib/private/e2b-relay", "!", "-user", &user]).await;
    assert_eq!(others, "");
    let got = consume::file(&machine.path("/var/lib/e2b-relay/events.ndjson"));
    judge("events", &got, &Remains::default(), &ledger, Terms::default()).assert_kept();

    machine.must(&["dpkg", "--purge", "e2b-relay"]).await;
    assert_nothing_left(&machine).await;
}
