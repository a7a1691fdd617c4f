//! `e2b-relay simulate` as its users start it.

use super::hooks::{Receiver, SECRET};
use crate::support::daemon::{Home, PATIENCE, reqwest_client};
use e2b_relay::simulator::Fault;
use serde_json::Value;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.arg("simulate").args(arguments).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

async fn start(arguments: &[&str]) -> (Child, String) {
    let mut child = command(arguments).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("a line");
    let url = line.as_deref().and_then(|line| line.strip_prefix("E2B_API_URL=")).expect("an address").to_owned();
    (child, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_delivers_and_ends_by_a_signal() {
    let mut receiver = Receiver::start(200).await;
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("a file");
    let arguments = ["--listen", "127.0.0.1:0", "--api-key", "e2b_abc", "--events-per-second", "50", "--seed", "7"];
    let delivery = ["--deliver-to", &receiver.url, "--secret-file", secret.to_str().expect("text")];
    let (mut child, url) = start(&[&arguments[..], &delivery].concat()).await;
    let (headers, body) = receiver.next().await;
    let honest = e2b_relay::simulator::signature_headers(Default::default(), &SECRET.to_owned().into(), &body);
    assert_eq!(headers["e2b-signature"], honest.last().expect("a signature").1);
    let client = reqwest_client();
    let get = |key: &'static str| client.get(format!("{url}/events/sandboxes")).header("X-API-Key", key).send();
    assert_eq!(get("e2b_other").await.expect("a reply").status(), 401);
    let listed: Value = get("e2b_abc").await.expect("a reply").json().await.expect("json");
    assert!(listed.as_array().is_some_and(|events| !events.is_empty()));

    let pid = rustix::process::Pid::from_raw(child.id().expect("it runs") as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a status");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_faults_are_listed_and_each_has_its_flag() {
    let output = command(&["--list-faults"]).output().await.expect("it ends");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    for fault in Fault::ALL {
        assert!(text.contains(&format!("--{} ", fault.name())) && text.contains(fault.does()), "{text}");
    }
    let flags: Vec<String> = Fault::ALL.iter().flat_map(|fault| [format!("--{}", fault.name()), "1".into()]).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (_child, url) = start(&[&["--listen", "127.0.0.1:0", "--wrong-clock-by", "-1h"], &flags[..]].concat()).await;
    let reply = reqwest_client().get(format!("{url}/simulator/faults")).header("X-API-Key", "any").send().await;
    let parts: Value = reply.expect("a reply").json().await.expect("json");
    assert!(parts.as_object().expect("an object").values().all(|part| part.as_f64() == Some(1.0)), "{parts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused() {
    for (arguments, code, word) in [
        (&["--listen", "0.0.0.0:0"][..], 64, "key"),
        (&["--deliver-to", "http://127.0.0.1:1/"], 64, "--secret"),
        (&["--late-rows", "2"], 64, "late-rows"),
        (&["--shape", "v3"], 64, "shape"),
        (&["--shape", "self-hosted"], 64, "shape"),
        (&["--events-per-second", "-1"], 64, "events-per-second"),
        (&["--listen", "127.0.0.1:0", "--api-key-file", "none-such"], 74, "none-such"),
    ] {
        let output = command(arguments).stderr(Stdio::piped()).output().await.expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.contains(word)), (Some(code), true), "{arguments:?}: {said}");
    }
}

/// Nothing but the configuration of the relay that it shall reach is needed; what is missing there is said.
#[tokio::test]
async fn trigger_finds_the_relay_by_its_configuration() {
    let home = Home::new(&format!(
        "sources: {{e2b: {{team_id: 5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90, webhook: {{path: /own, secrets: ['{SECRET}']}}}}}}\n\
         sinks: {{audit: {{type: file, path: ./a.ndjson}}}}\n"
    ));
    let daemon = home.start().await;
    let trigger = |arguments: &[&str], listen: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
        command.args(["trigger", "killed"]).args(arguments).current_dir(home.path()).env_remove("E2B_WEBHOOK_SECRET");
        let output = command.env("E2B_RELAY__SERVER__LISTEN", listen).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = trigger(&[], &daemon.public.replace("127.0.0.1", "0.0.0.0"));
    assert!(code == Some(0) && said.starts_with("200 "), "{said}");
    daemon.until_settled("audit", 1).await;
    assert!(daemon.terminate().await.success());

    for (arguments, listen, code, words) in [
        (&[][..], "127.0.0.1:0", 64, "give --url"),
        (&["--source", "other"], "127.0.0.1:1", 64, "--source has to name"),
        (&["--config", "nosuch.yaml"], "127.0.0.1:1", 78, "nosuch.yaml"),
        (&[], "127.0.0.1:1", 69, "127.0.0.1:1"),
    ] {
        let (ended, said) = trigger(arguments, listen);
        assert!(ended == Some(code) && said.contains(words), "{arguments:?}: {said}");
    }
    std::fs::remove_file(home.configuration()).unwrap();
    let (ended, said) = trigger(&[], "127.0.0.1:1");
    assert!(ended == Some(78) && said.contains("give --url, and --secret-file") && said.contains("init"), "{said}");
}
