//! What docs/FIRST-CONTACT.md tells a newcomer to type, typed in an empty home, with NATS' and RabbitMQ's own tools reading.

use crate::support::brokers::{Broker, Kind, amqp, amqp_api, unique};
use crate::support::daemon::{PATIENCE, reqwest_client};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// What a newcomer may have to type at most, and may have to wait.
const MOST_COMMANDS: usize = 5;
const LONGEST: Duration = Duration::from_secs(600);

fn commands() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/FIRST-CONTACT.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = page.split("```sh\n").nth(2).expect("the second block").split("```").next().unwrap();
    block.lines().map(str::to_owned).collect()
}

/// The `nats` that `tests/brokers/nats fetch-cli` has built, or the user's own.
fn nats_folder() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/brokers/nats");
    let told = std::process::Command::new(script).arg("cli").output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    Path::new(String::from_utf8(told.stdout).unwrap().trim()).parent().map(Path::to_owned)
}

/// A newcomer's shell: nothing of this process's environment but the brokers' addresses, which are not the usual ones here.
struct Newcomer {
    home: tempfile::TempDir,
    environment: Vec<(&'static str, OsString)>,
}

/// What goes on in a terminal of its own; killed when dropped.
struct Terminal {
    _child: Child,
    shows: PathBuf,
}

impl Newcomer {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command.envs(self.environment.iter().cloned()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn types(&self, line: &str) -> String {
        let output = tokio::time::timeout(PATIENCE, self.command(line).output()).await.expect(line).unwrap();
        let [shown, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{line}: {shown}{said}");
        shown
    }

    /// `exec`, so that dropping ends the program and not only its shell.
    fn begins(&self, line: &str) -> Terminal {
        let shows = self.home.path().join(unique("terminal"));
        let file = std::fs::File::create(&shows).unwrap();
        let mut command = self.command(&format!("exec {line}"));
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Terminal { _child: child, shows }
    }
}

impl Terminal {
    async fn shows(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let shown = std::fs::read_to_string(&self.shows).unwrap();
            if shown.contains(text) {
                return shown;
            }
            assert!(began.elapsed() < PATIENCE, "it does not show {text}:\n{shown}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Below the ports that the system gives to outgoing connections.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// A virtual host of the shared RabbitMQ, so that the names of the page are free; its URL.
async fn virtual_host(name: &str) -> String {
    let (api, client) = (amqp_api(), reqwest_client());
    let user = amqp().split("://").nth(1).unwrap().split(':').next().unwrap().to_owned();
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    for (path, body) in [(format!("vhosts/{name}"), json!({})), (format!("permissions/{name}/{user}"), all)] {
        let answer = client.put(format!("{api}/api/{path}")).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }
    amqp().rsplit_once('/').unwrap().0.to_owned() + "/" + name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_commands_lead_from_an_empty_home_to_a_record_in_nats_sub_and_in_a_rabbitmq_consumer() {
    let commands = commands();
    assert!((4..=MOST_COMMANDS).contains(&commands.len()), "{commands:?}");
    let nats = Broker::start(Kind::Nats).await;
    let virtual_name = unique("newcomer");
    let queue = virtual_host(&virtual_name).await;
    let binary = Path::new(env!("CARGO_BIN_EXE_e2b-relay")).parent().unwrap().to_owned();
    let path =
        std::env::join_paths([binary].into_iter().chain(nats_folder()).chain(["/usr/bin".into(), "/bin".into()]));
    let newcomer = Newcomer {
        home: tempfile::tempdir().unwrap(),
        environment: vec![
            ("PATH", path.unwrap()),
            ("NATS_URL", nats.address().into()),
            ("E2B_RELAY__SINKS__BUS__SERVERS", json!([nats.address()]).to_string().into()),
            ("E2B_RELAY__SINKS__QUEUE__URL", queue.clone().into()),
            ("E2B_RELAY__SERVER__LISTEN", format!("0.0.0.0:{}", free_port()).into()),
            ("E2B_RELAY__ADMIN__LISTEN", "127.0.0.1:0".into()),
        ],
    };

    let began = Instant::now();
    let (mut terminals, mut answer, mut taken) = (Vec::new(), None, None);
    for line in &commands {
        if let Some(line) = line.strip_suffix(" &") {
            let terminal = newcomer.begins(line);
            terminal.shows(if line.contains(" run") { "deliveries are taken" } else { "Subscribing on e2b.>" }).await;
            terminals.push(terminal);
        } else {
            // Its address can only be given as an argument.
            let line = line.replace("amqp-consume", &format!("amqp-consume --url {queue}"));
            let shown = newcomer.types(&line).await;
            if line.starts_with("amqp-consume") {
                taken = Some(serde_json::from_str::<Value>(&shown).expect("a record"));
            } else if let Some(body) = shown.strip_prefix("200 ") {
                answer = Some(serde_json::from_str::<Value>(body).expect("an answer"));
            }
        }
    }
    let id = answer.expect("an answer to the delivery")["id"].as_str().unwrap().to_owned();
    assert_eq!(taken.expect("a record of RabbitMQ's")["id"], *id);
    let [_, subscriber] = &terminals[..] else { panic!("{commands:?}") };
    let shown = subscriber.shows(&id).await;
    assert!(shown.contains("\"type\":\"sandbox.lifecycle.created\""), "{shown}");
    let took = began.elapsed();
    assert!(took < LONGEST, "{took:?}");
    println!("{} commands, {took:?}", commands.len());

    drop(terminals);
    let gone = reqwest_client().delete(format!("{}/api/vhosts/{virtual_name}", amqp_api())).send().await.unwrap();
    assert!(gone.status().is_success());
}
