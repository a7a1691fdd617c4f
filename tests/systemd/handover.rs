//! Sockets that somebody else holds: deliveries wait in them while the daemon is started anew.

use crate::support::consume;
use crate::support::daemon::{Home, PATIENCE};
use crate::support::load::{Ongoing, SECRET};
use crate::support::oracle::{Terms, judge};
use crate::support::probe::Probe;
use crate::support::verify;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Command;

const ROUNDS: usize = 20;
/// Deliveries between two restarts.
const EVENTS: usize = 50;
/// What a daemon says once it is up.
const UP: &str = "deliveries are taken; this is";

/// Starts the daemon again and again in the sockets that `systemd-socket-activate` has made, as systemd does; `$0` is a
/// folder, where it says who runs and looks whether that is to go on.
const SUPERVISOR: &str = r#"
until [ -e "$0/stop" ]; do
    sh -c 'echo $$ >"$0/pid"; LISTEN_PID=$$ exec setpriv --pdeathsig KILL "$@"' "$0" "$@"
done"#;

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_refuse_no_connection_and_lose_nothing() {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: [\"{SECRET}\"]}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let [public, admin] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &public, "-l", &admin, "--fdname=public:admin"]);
    command.args(["sh", "-c", SUPERVISOR]).arg(home.path()).arg(env!("CARGO_BIN_EXE_e2b-relay"));
    let supervisor = home.spawn_by(command, None);
    // The first connection has it start.
    let probe = Probe::of(&public);
    let daemon = supervisor.ready().await;
    assert_eq!((&daemon.public, &daemon.admin), (&public, &admin));
    let load = Ongoing::begin("handover", |_| json!("usual"));
    let pid = || std::fs::read_to_string(home.path().join("pid")).unwrap().trim().parse::<i32>().unwrap();
    for round in 1..=ROUNDS {
        load.go_on(daemon.webhook(), EVENTS);
        // It has the sockets again, and takes deliveries out of them.
        let lines = daemon.log().iter().filter(|line| line.contains(UP)).count();
        assert_eq!(lines, round);
        daemon.until("some are accepted", |metrics| metrics.sum("events_total", "") >= EVENTS as f64 / 2.0).await;
        if round == ROUNDS {
            std::fs::write(home.path().join("stop"), "").unwrap();
            break;
        }
        let seen = daemon.log().len();
        let who = rustix::process::Pid::from_raw(pid()).unwrap();
        rustix::process::kill_process(who, rustix::process::Signal::TERM).unwrap();
        daemon.says(seen, UP).await;
    }
    let ledger = load.end().await;
    assert_eq!(ledger.acknowledged(), ROUNDS * EVENTS);
    assert!(probe.end_unrefused().await > ROUNDS);
    let who = rustix::process::Pid::from_raw(pid()).unwrap();
    rustix::process::kill_process(who, rustix::process::Signal::TERM).unwrap();
    daemon.ended().await;
    let proof = verify::sound(&home).await;
    let got = consume::file(&home.path().join("audit.ndjson"));
    judge("audit", &got, &verify::remains(&home, &proof, "audit"), &ledger, Terms::default()).assert_kept();
}

#[tokio::test]
async fn two_sockets_for_one_listener_are_refused_with_what_to_do() {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: [\"{SECRET}\"]}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let [first, second] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &first, "-l", &second, env!("CARGO_BIN_EXE_e2b-relay"), "run", "--config"]);
    let ended = command.arg(home.configuration()).kill_on_drop(true).output();
    let connected = async {
        // The first connection has it start.
        while TcpStream::connect(&first).await.is_err() {
            tokio::task::yield_now().await;
        }
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(PATIENCE, ended) => ended.expect("it does not end").unwrap(),
        () = connected => unreachable!(),
    };
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(78), "{said}");
    assert!([&first, &second, "FileDescriptorName=admin"].iter().all(|word| said.contains(*word)), "{said}");
}
