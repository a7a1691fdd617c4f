//! What deploy/OPERATIONS.md tells an operator to type about secrets, backups and restores, typed as it stands there: only
//! `systemctl` is done by the test, and paths are those of its own folder.

use crate::reload::reload;
use crate::simulate::{KEY, Running};
use crate::support::brokers::{Broker, unique};
use crate::support::daemon::{Daemon, Home, reqwest_client};
use crate::support::load::{self, SECRET, body};
use crate::support::verify;
use e2b_relay::simulator::provider::Options;
use std::path::Path;

/// The blocks of commands below a heading, up to the next one.
fn blocks(heading: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/OPERATIONS.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading)).expect(heading);
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

/// The only block that holds `text`.
fn block(heading: &str, text: &str) -> String {
    let mut found = blocks(heading).into_iter().filter(|block| block.contains(text));
    let block = found.next().unwrap_or_else(|| panic!("{heading} has no block with {text}"));
    assert!(found.next().is_none(), "{heading} has two blocks with {text}");
    block
}

struct Operator {
    home: Home,
    daemon: Option<Daemon>,
}

impl Operator {
    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    /// Types it all; what the commands printed.
    async fn types(&mut self, block: &str, environment: &[(&str, &str)]) -> String {
        let mut printed = String::new();
        let mut script = Vec::new();
        for line in block.lines() {
            let Some(asked) = line.strip_prefix("systemctl ") else {
                script.push(line);
                continue;
            };
            printed += &self.run(&std::mem::take(&mut script), environment).await;
            match asked {
                "reload e2b-relay" => drop(reload(self.daemon()).await),
                "stop e2b-relay" => assert!(self.daemon.take().expect("it runs").terminate().await.success()),
                "start e2b-relay" => self.daemon = Some(self.home.start().await),
                _ => panic!("{line}"),
            }
        }
        printed + &self.run(&script, environment).await
    }

    async fn run(&self, lines: &[&str], environment: &[(&str, &str)]) -> String {
        let repository = env!("CARGO_MANIFEST_DIR");
        let home = self.home.path().to_str().unwrap();
        let mut script = lines.join("\n");
        for (there, here) in [
            ("sleep 60", ":"),
            ("/var/lib/e2b-relay", home),
            ("/var/backups", home),
            ("/etc/e2b-relay", home),
            ("deploy/backup", &format!("{repository}/deploy/backup")),
        ] {
            script = script.replace(there, here);
        }
        let mut command = tokio::process::Command::new("sh");
        if let Some(daemon) = &self.daemon {
            script = script.replace("$(systemctl show -p MainPID --value e2b-relay)", &daemon.pid().to_string());
            let token = std::fs::read_to_string(self.home.path().join("data/admin-token")).unwrap();
            command.env("E2B_RELAY_ADMIN_URL", format!("http://{}", daemon.admin));
            command.env("E2B_RELAY_ADMIN_TOKEN", token.trim());
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_e2b-relay")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&path))).unwrap();
        command
            .args(["-euc", &script])
            .current_dir(self.home.path())
            .env("PATH", path)
            .envs(environment.iter().copied());
        let output = command.output().await.unwrap();
        let [printed, said] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{script}\n{printed}{said}");
        printed
    }

    async fn deliver(&self, secret: &str, id: &str) -> (u16, bool) {
        let event = body(id, "sbx-1", 1, true);
        let url = self.daemon().webhook();
        let (status, answer) = load::post(&reqwest_client(), &url, secret, &event).await.unwrap();
        (status, answer["duplicate"] == true)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_secret_is_rotated_by_the_commands_of_the_page() {
    const PAGE: &str = "Rotating secrets";
    let provider = Running::start(Options::default()).await;
    let word = "the-brokers-new-word";
    let nats = Broker::start_nats_with(format!("authorization {{ token: \"{word}\" }}")).await;
    let server = nats.address().replace("relay:relay-secret@", "");
    let name = unique("operations");
    let home = Home::new(&format!(
        "sources:\n  acme:\n    webhook: {{secrets_file: ./webhook-secrets}}\n    \
         api: {{url: '{}', api_key_file: ./api-key}}\n    backfill: {{interval: 1h}}\n\
         sinks:\n  bus: {{type: nats, servers: ['{server}'], token_file: ./broker-password, subject: '{name}.x', \
         stream: {{name: {name}, subjects: ['{name}.>'], create: true}}}}\n",
        provider.base
    ));
    for (file, secret) in [("webhook-secrets", SECRET), ("api-key", "e2b_00"), ("broker-password", "the-old-word")] {
        std::fs::write(home.path().join(file), format!("{secret}\n")).unwrap();
    }
    let daemon = home.start().await;
    let mut operator = Operator { home, daemon: Some(daemon) };
    assert_eq!(operator.deliver(SECRET, "a").await, (200, false));

    // The broker takes the new one only, since a moment ago.
    operator.daemon().says(0, "the sink is halted").await;
    let shown = operator.types(&block(PAGE, "broker-password"), &[("NEW_PASSWORD", word)]).await;
    assert!(shown.contains("bus"), "{shown}");
    operator.daemon().until_settled("bus", 1).await;

    let polled = "backfill_polls_total";
    operator.daemon().until("the key is refused", |m| m.sum(polled, "unauthorized") >= 1.0).await;
    operator.types(&block(PAGE, "NEW_KEY"), &[("NEW_KEY", KEY)]).await;
    operator.daemon().until("the key is taken", |m| m.sum(polled, "outcome=\"ok\"") >= 1.0).await;

    let whole = block(PAGE, "webhook-secrets");
    let (first, second) = whole.split_once("sleep 60\n").expect("the minute");
    operator.types(first, &[]).await;
    let secrets = std::fs::read_to_string(operator.home.path().join("webhook-secrets")).unwrap();
    let newer = secrets.lines().nth(1).expect("a second one").to_owned();
    assert_eq!(
        (newer.len(), operator.deliver(SECRET, "b").await.0, operator.deliver(&newer, "c").await.0),
        (64, 200, 200)
    );
    operator.types(second, &[]).await;
    assert_eq!((operator.deliver(SECRET, "d").await.0, operator.deliver(&newer, "e").await.0), (401, 200));

    let token = || std::fs::read_to_string(operator.home.path().join("data/admin-token"));
    let before = token().unwrap();
    operator.types(&block(PAGE, "admin-token"), &[]).await;
    let token = std::fs::read_to_string(operator.home.path().join("data/admin-token")).unwrap();
    assert_ne!(token, before);
    let url = format!("http://{}/api/log-level", operator.daemon().admin);
    for (token, expected) in [(before, 401), (token, 200)] {
        let request = reqwest_client().post(&url).json(&serde_json::json!({"level": "info"})).bearer_auth(token.trim());
        assert_eq!(request.send().await.unwrap().status().as_u16(), expected);
    }
    operator.daemon().until_settled("bus", 4).await;
    assert!(operator.daemon.take().unwrap().terminate().await.success());
    assert_eq!(blocks(PAGE).len(), 4, "a block that nobody runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_backed_up_and_restored_by_the_commands_of_the_page() {
    const PAGE: &str = "Backup and restore";
    let provider = Running::start(Options::default()).await;
    let home = Home::new(&format!(
        "store: {{path: ./data}}\nsources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}, api: {{url: '{}', api_key: {KEY}}}, \
         backfill: {{interval: 1h}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
        provider.base
    ));
    let daemon = home.start().await;
    let mut operator = Operator { home, daemon: Some(daemon) };
    for id in ["a", "b"] {
        assert_eq!(operator.deliver(SECRET, id).await, (200, false));
    }
    operator.types(&block(PAGE, "deploy/backup"), &[]).await;
    // Two that the provider lists, and one that nobody has but the sink.
    provider.happen(2, 0).await;
    assert_eq!(operator.deliver(SECRET, "c").await, (200, false));
    let entries = std::fs::read_dir(operator.home.path()).unwrap();
    let backup = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let backup = backup.into_iter().find(|name| name.starts_with("e2b-relay-2")).expect("the backup");
    let restore = block(PAGE, "store verify").replace("e2b-relay-20260101T000000Z", &backup);
    let printed = operator.types(&restore, &[]).await;
    assert!(printed.contains("sound: store"), "{printed}");
    assert_eq!(operator.deliver(SECRET, "a").await, (200, true));
    // Known to the sink, and not to the copy: it comes again, with the same id.
    assert_eq!(operator.deliver(SECRET, "c").await, (200, false));
    operator.daemon().until_settled("audit", 3).await;
    assert!(operator.daemon.take().unwrap().terminate().await.success());
    let records = std::fs::read_to_string(operator.home.path().join("audit.ndjson")).unwrap();
    let count = |id: &str| records.matches(&format!("{{\"id\":\"{id}\"")).count();
    assert_eq!((count("a"), count("b"), count("c")), (1, 1, 2));
    let listed: Vec<String> = provider.ledger.entries().into_iter().filter_map(|entry| entry.id).collect();
    assert!(listed.len() == 2 && listed.iter().all(|id| count(id) >= 1), "{listed:?}");
    verify::sound(&operator.home).await;
    assert_eq!(blocks(PAGE).len(), 2, "a block that nobody runs");
}

/// What the new binary says beforehand; going back over a format is `upgrade`'s.
#[tokio::test]
async fn the_commands_before_an_upgrade_end_well() {
    const PAGE: &str = "Upgrading";
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks: {{audit: {{type: file, path: ./a.ndjson}}}}\n"
    ));
    let mut operator = Operator { home, daemon: None };
    let printed = operator.types(&block(PAGE, "--version"), &[]).await;
    assert!(printed.contains(env!("CARGO_PKG_VERSION")) && printed.contains("valid: 1 source"), "{printed}");
    assert_eq!(blocks(PAGE).len(), 2, "a block that nobody runs");
}
