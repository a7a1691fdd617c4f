//! The way from a command to its daemon, and what is shown of sandboxes and events.

use super::{asking, command, home, run, token_file};
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Home, Metrics, PATIENCE};
use e2b_relay::simulator::provider::Options;
use serde_json::Value;
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_and_token_come_from_flags_from_the_environment_or_from_the_configuration() {
    let provider = Running::start(Options::default()).await;
    let home = home(&provider);
    // A port that was free a moment ago: only one that the configuration names can be found by it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = std::fs::read_to_string(home.configuration()).unwrap();
    std::fs::write(
        home.configuration(),
        text.replace("admin: {listen: '127.0.0.1:0'}", &format!("admin: {{listen: '0.0.0.0:{port}'}}")),
    )
    .unwrap();
    let daemon = home.start().await;
    let token = std::fs::read_to_string(token_file(&home)).unwrap();
    let (url, config) = (format!("http://127.0.0.1:{port}"), home.configuration());
    let config = config.to_str().unwrap();
    let file = token_file(&home);
    let file = file.to_str().unwrap();
    let wrong = home.path().join("wrong");
    std::fs::write(&wrong, "0123456789abcdef").unwrap();
    let wrong = wrong.to_str().unwrap();
    for (arguments, variables, code, word) in [
        (&["--config", config][..], &[][..], 0, ""),
        (&["--admin", &url, "--token-file", file], &[], 0, ""),
        (&["--token-file", file], &[("E2B_RELAY_ADMIN_URL", url.clone())], 0, ""),
        (&["--admin", &url], &[("E2B_RELAY_ADMIN_TOKEN", token.trim_end().to_owned())], 0, ""),
        (&["--config", config], &[("E2B_RELAY_ADMIN_TOKEN", "wrong".to_owned())], 78, "E2B_RELAY_ADMIN_TOKEN"),
        (&["--config", config, "--token-file", wrong], &[], 78, wrong),
        (&["--admin", &url], &[], 78, "neither --token-file nor E2B_RELAY_ADMIN_TOKEN"),
        (&["--admin", &url, "--token-file", "/nosuch/token"], &[], 74, "/nosuch/token"),
        (&["--admin", "ftp://x"], &[], 64, "--admin"),
        (&["--admin", "http://127.0.0.1:1"], &[], 69, "is the daemon running? The address is that of --admin"),
        (&["--admin", &provider.base], &[], 69, "does not answer as a daemon"),
        (&["--config", "nosuch.yaml"], &[], 78, "nosuch.yaml"),
    ] {
        for name in ["sandboxes", "events", "backfill"] {
            let mut command = command(&[&[name], arguments].concat());
            command.current_dir(home.path()).envs(variables.iter().cloned());
            let ran = run(command).await;
            assert_eq!(ran.code, Some(code), "{name} {arguments:?} {variables:?}: {ran:?}");
            assert!(ran.err.contains(word) && (code == 0 || ran.out.is_empty()), "{name} {arguments:?}: {ran:?}");
            assert!(!ran.err.contains(token.trim_end()), "{ran:?}");
        }
    }
    assert!(daemon.terminate().await.success());
    let down = run(command(&["sandboxes", "--config", config])).await;
    let word = format!("cannot connect to 127.0.0.1:{port}");
    assert!(down.code == Some(69) && down.err.contains(&word) && down.err.contains("admin.listen"), "{down:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
    for (arguments, word) in [
        (&["backfill", "--since", "yesterday"][..], "RFC 3339"),
        (&["backfill", "--since", "2026-08-21T10:00:00"], "RFC 3339"),
        (&["events", "--since", "7"], "7d"),
        (&["events", "--limit", "0"], "1 to 100000"),
        (&["events", "--summary", "--type", "x"], "--type"),
        (&["sandboxes", "--state", "asleep"], "running"),
        (&["sandboxes", "--format", "xml"], "json"),
    ] {
        let ran = run(command(arguments)).await;
        assert!(ran.code == Some(64) && ran.err.contains(word) && ran.out.is_empty(), "{arguments:?}: {ran:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let text = "admin: {listen: '127.0.0.1:0'}\nsources: {a: {webhook: {secrets: [0123456789abcdef0123456789abcdef]}}}\nsinks: {b: {type: stdout}}\n";
    std::fs::write(folder.path().join("e2b-relay.yaml"), text).unwrap();
    let mut command = command(&["sandboxes"]);
    command.current_dir(folder.path());
    let ran = run(command).await;
    assert!(ran.code == Some(64) && ran.err.contains("--admin"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_file_of_the_settings_is_the_token_and_the_daemon_makes_none() {
    let provider = Running::start(Options::default()).await;
    let home = home(&provider);
    let text = std::fs::read_to_string(home.configuration()).unwrap();
    let text = text.replace("admin: {listen: '127.0.0.1:0'}", "admin: {listen: '127.0.0.1:0', token_file: ./given}");
    std::fs::write(home.configuration(), text).unwrap();
    std::fs::write(home.path().join("given"), "a-token-of-the-operators\n").unwrap();
    let daemon = home.start().await;
    assert!(!token_file(&home).exists());
    let url = format!("http://{}", daemon.admin);
    let given = home.path().join("given");
    let ran = run(command(&["backfill", "--admin", &url, "--token-file", given.to_str().unwrap()])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sandboxes_are_shown_as_the_provider_lists_them_and_events_newest_last() {
    let provider = Running::start(Options { sandboxes: 12, ..Options::default() }).await;
    provider.happen(200, 600).await;
    let home = Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{}', api_key: {KEY}}}, backfill: {{interval: 200ms}}, reconcile: {{interval: 200ms}}}}}}\n\
         sinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n",
        provider.base
    ));
    let daemon = home.start().await;
    let listed: Value = provider.reply("/v2/sandboxes?limit=100").await.json().await.unwrap();
    let listed: BTreeMap<String, String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["sandboxID"].as_str().unwrap().to_owned(), one["state"].as_str().unwrap().to_owned()))
        .collect();
    let shown = async |more: &[&str]| {
        let arguments = [&["sandboxes", "--format", "json"], more].concat();
        let view = run(asking(&home, &daemon, &arguments)).await.json();
        let sandboxes = view["sandboxes"].as_array().unwrap().iter();
        let states =
            sandboxes.map(|one| (one["id"].as_str().unwrap().to_owned(), one["state"].as_str().unwrap().to_owned()));
        states.collect::<BTreeMap<_, _>>()
    };
    let all = |metrics: &Metrics| {
        metrics.sum("events_total", "backfill") >= 200.0 && metrics.sum("sink_lag_events", "audit") == 0.0
    };
    daemon.until("all is taken", all).await;
    let only = |state: &str| {
        let those = listed.iter().filter(|(_, is)| *is == state);
        those.map(|(id, is)| (id.clone(), is.clone())).collect::<BTreeMap<_, _>>()
    };
    // The list corrects the set, and what the journal tells only then puts in what is gone without a word, until the next
    // list: all of it has to hold at once.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let text = loop {
        let text = run(asking(&home, &daemon, &["sandboxes"])).await;
        if text.out.lines().count() == listed.len() + 2
            && shown(&[]).await == listed
            && shown(&["--state", "running", "--source", "acme"]).await == only("running")
            && shown(&["--state", "paused"]).await == only("paused")
        {
            break text;
        }
        assert!(tokio::time::Instant::now() < deadline, "{listed:#?}\n{text:?}");
    };
    let lines: Vec<&str> = text.out.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].contains(" METADATA"), "{}", lines[0]);
    let running = listed.values().filter(|state| *state == "running").count();
    assert_eq!(lines.last().unwrap(), &format!("{running} running, {} paused", listed.len() - running));

    let told = provider.told();
    let last = run(asking(&home, &daemon, &["events", "--limit", "20", "--format", "json"])).await.json();
    let ids: Vec<&str> = last.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert!(ids.len() == 20 && ids.iter().all(|id| told[100..].iter().any(|told| told == id)), "{ids:?}");
    let sequences: Vec<u64> =
        last.as_array().unwrap().iter().map(|event| event["relay"]["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted() && sequences[19] >= 200, "{sequences:?}");
    let all =
        run(asking(&home, &daemon, &["events", "--limit", "5000", "--type", "sandbox.lifecycle.*", "--since", "1h"]))
            .await;
    assert_eq!(all.out.lines().count(), 201, "{}", all.out);
    let table = run(asking(&home, &daemon, &["events", "--limit", "3", "--sandbox", "nobody"])).await;
    assert_eq!(table.out, "TIME  TYPE  SANDBOX  TEMPLATE  ORIGIN  SOURCE  ID\n");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_that_strangers_chose_steers_no_terminal() {
    let secret = "0123456789abcdef0123456789abcdef";
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: [{secret}]}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let daemon = home.start().await;
    let hostile = "\u{1b}]0;owned\u{7}\u{202e}gnp.exe\r\nforged line\u{9b}2J";
    let now = jiff::Timestamp::now().to_string();
    let body = serde_json::json!({
        "id": "e-1", "type": "sandbox.lifecycle.created", "version": "v2", "timestamp": now, "sandbox_id": "sbx\u{202e}1",
        "sandbox_template_id": format!("t{hostile}"), "sandbox_team_id": "t", "sandbox_execution_id": "x",
        "event_data": {"sandbox_metadata": {"name": hostile}},
    })
    .to_string();
    let (name, value) = crate::support::sign::e2b(secret, body.as_bytes());
    let client = crate::support::daemon::reqwest_client();
    let reply = client.post(daemon.webhook()).header(name, value).body(body).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for arguments in [&["sandboxes"][..], &["events"], &["events", "--summary"]] {
        loop {
            let ran = run(asking(&home, &daemon, arguments)).await;
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let deceptive = |letter: char| (letter.is_control() && letter != '\n') || letter == '\u{202e}';
            assert!(!ran.out.contains(deceptive) && !ran.out.lines().any(|line| line.starts_with("forged")), "{ran:?}");
            if ran.out.contains("\\u{202e}") && ran.out.contains("\\u{1b}") {
                break;
            }
            // The live set follows the journal.
            assert!(tokio::time::Instant::now() < deadline, "{ran:?}");
        }
    }
    assert!(daemon.terminate().await.success());
}
