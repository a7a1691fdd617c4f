//! The real brokers of a test run: the shared ones, which `tests/run` names in the environment, and private ones that a
//! test may stop, kill and pause.

// Clippy takes a helper outside `#[test]` for production code, unless this says otherwise.
#![cfg(test)]
// Every helper is here from the start; a test for each comes with its sink.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

/// The shared Kafka broker, `host:port`. Topics are not created by themselves.
pub(crate) fn kafka() -> String {
    shared("E2B_RELAY_TEST_KAFKA")
}

/// The shared NATS server with JetStream, `nats://user:password@host:port`.
pub(crate) fn nats() -> String {
    shared("E2B_RELAY_TEST_NATS")
}

/// The shared RabbitMQ, `amqp://user:password@host:port/%2f`.
pub(crate) fn amqp() -> String {
    shared("E2B_RELAY_TEST_AMQP")
}

/// The management API of the shared RabbitMQ, `http://user:password@host:port`. Its counts of messages lag by a second.
pub(crate) fn amqp_api() -> String {
    shared("E2B_RELAY_TEST_AMQP_API")
}

fn shared(variable: &str) -> String {
    match env::var(variable) {
        Ok(address) if !address.is_empty() => address,
        _ => panic!("no broker to test with: run tests/run, or set {variable}"),
    }
}

/// A name for a topic, stream, queue or exchange that no other test and no other run uses: letters, digits and `-`.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{:x}-{:x}-{next}", since_epoch.as_micros(), std::process::id())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kafka,
    Nats,
    RabbitMq,
    /// In the soak only, for which alone `tests/run` fetches it.
    RabbitMq4,
}

/// By the distance of its port from the first, as the script has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Tls = 2,
    /// Wants a certificate of its clients.
    MutualTls = 3,
    /// Its certificate is for another host.
    Misnamed = 4,
    Sasl = 5,
    SaslTls = 6,
}

impl Kind {
    fn script(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Nats => "nats",
            Self::RabbitMq => "rabbitmq",
            Self::RabbitMq4 => "rabbitmq4",
        }
    }
}

/// A broker of one test's own, on ports of its own. It keeps its address and its data over `stop`, `kill` and `restart`,
/// and both go with it when it is dropped.
///
/// Starting takes some seconds (NATS: none), so what waits is async and leaves the test's runtime to the relay.
#[derive(Debug)]
pub(crate) struct Broker {
    kind: Kind,
    dir: PathBuf,
}

impl Broker {
    /// Starts one; it is ready when this returns.
    pub(crate) async fn start(kind: Kind) -> Self {
        Self::start_with(kind, None).await
    }

    /// Starts a Kafka broker that tells its clients to connect to another port, a proxy's.
    pub(crate) async fn start_kafka_advertising(port: u16) -> Self {
        Self::start_with(Kind::Kafka, Some(("advertised", port.to_string()))).await
    }

    /// Starts a Kafka broker that keeps its data in the folder `disk`.
    pub(crate) async fn start_kafka_on(disk: &Path) -> Self {
        Self::start_with(Kind::Kafka, Some(("disk", disk.display().to_string()))).await
    }

    /// Starts a NATS server with another part of its configuration about who may come in.
    pub(crate) async fn start_nats_with(access: String) -> Self {
        Self::start_with(Kind::Nats, Some(("access", access))).await
    }

    /// Starts a RabbitMQ that has a second listener, see [`Self::secured_amqp`]; `certificates` is the folder of
    /// [`super::tls::Certificates`].
    pub(crate) async fn start_rabbitmq_secured(certificates: &Path) -> Self {
        Self::start_with(Kind::RabbitMq, Some(("secured", certificates.display().to_string()))).await
    }

    /// Starts a Kafka broker with a listener for each kind of security, see [`Self::secured`]; `certificates` is the folder
    /// of [`super::tls::Certificates`]. Users: `relay` with `plain-word`, `scram-256-word`, `scram-512-word`, and, by PLAIN,
    /// `stranger` with `stranger-word`; unsecured tokens with the scope `kafka`. Named users may what a rule allows.
    pub(crate) async fn start_kafka_secured(certificates: &Path) -> Self {
        Self::start_with(Kind::Kafka, Some(("secured", certificates.display().to_string()))).await
    }

    /// `file` is what the script looks for in the new broker's folder, and what it says.
    async fn start_with(kind: Kind, file: Option<(&str, String)>) -> Self {
        // tests/run looks into its folder for brokers that a killed test has left behind.
        let parent = env::var_os("E2B_RELAY_TEST_TMP").map_or_else(env::temp_dir, PathBuf::from);
        let dir = parent.join(unique(&format!("e2b-relay-{}", kind.script())));
        if let Some((file, text)) = file {
            fs::create_dir(&dir).expect("a new folder");
            fs::write(dir.join(file), text).expect("a new folder");
        }
        let broker = Self { kind, dir };
        broker.run("start").await;
        broker
    }

    /// As the shared ones are named: see [`kafka`], [`nats`], [`amqp`].
    pub(crate) fn address(&self) -> String {
        self.read("url")
    }

    /// `host:port` of the listener with TLS of [`Self::start_rabbitmq_secured`]; it wants a certificate of its clients.
    pub(crate) fn secured_amqp(&self) -> String {
        let port: u16 = self.read("port").parse().expect("a port");
        format!("127.0.0.1:{}", port + 4)
    }

    /// A listener of [`Self::start_kafka_secured`].
    pub(crate) fn secured(&self, listener: Listener) -> String {
        let port: u16 = self.read("port").parse().expect("a port");
        format!("127.0.0.1:{}", port + listener as u16)
    }

    /// RabbitMQ's management API: see [`amqp_api`].
    pub(crate) fn api(&self) -> String {
        self.read("api")
    }

    /// Ends it in good order, connections closed.
    pub(crate) async fn stop(&self) {
        self.run("stop").await;
    }

    /// Ends it by SIGKILL.
    pub(crate) async fn kill(&self) {
        self.run("kill").await;
    }

    /// Stops it if it runs, and starts it with the same address and data.
    pub(crate) async fn restart(&self) {
        self.run("stop").await;
        self.run("start").await;
    }

    /// SIGSTOP: its connections stay open, and nothing is answered.
    pub(crate) async fn pause(&self) {
        self.run("pause").await;
    }

    /// SIGCONT, after [`Self::pause`].
    pub(crate) async fn resume(&self) {
        self.run("resume").await;
    }

    /// RabbitMQ's own command, `rabbitmqctl`.
    pub(crate) async fn ctl(&self, arguments: &[&str]) {
        let mut command = self.command("ctl");
        command.args(arguments);
        run(command).await;
    }

    fn read(&self, file: &str) -> String {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
        text.trim_end().to_owned()
    }

    fn command(&self, verb: &str) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/brokers");
        let mut command = Command::new(scripts.join(self.kind.script()));
        command.arg(verb).arg(&self.dir);
        command
    }

    async fn run(&self, verb: &str) {
        run(self.command(verb)).await;
    }
}

async fn run(command: Command) {
    let said = format!("{command:?}");
    let output = tokio::process::Command::from(command).output().await;
    let Output { status, stderr, .. } = output.unwrap_or_else(|e| panic!("cannot run tests/brokers: {e}"));
    assert!(status.success(), "{said}: {}", String::from_utf8_lossy(&stderr));
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its data is of no use to anybody: no need to let it end in good order.
        let killed = self.command("kill").output();
        if killed.is_ok_and(|output| output.status.success()) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
