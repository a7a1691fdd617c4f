//! A browser looks at it: Debian's Chromium without a window, steered by browser.py.

use super::hostile::{EVIL, event, tell};
use super::{ONE_DOWN, TO_A_FILE, home, token, url};
use crate::sdk::{output_of, script};
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home, reqwest_client};
use crate::support::load::{Plan, SECRET, post, send};
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// What it saw. Pictures are kept where E2B_RELAY_TEST_PICTURES says, for people to look at.
async fn look(what: &str, home: &Home, daemon: &Daemon) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let pictures = std::env::var_os("E2B_RELAY_TEST_PICTURES").map_or_else(|| folder.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&pictures).unwrap();
    let mut command = script("../page/browser.py").await;
    command.args([what, &url(daemon, ""), &token(home)]).arg(&pictures);
    let seen: Value = serde_json::from_slice(&output_of(&mut command).await).unwrap();
    for nothing in ["dialogs", "foreign", "violations"] {
        assert_eq!(seen[nothing], json!([]), "{nothing}: {seen}");
    }
    assert!(std::fs::read_dir(&pictures).unwrap().count() > 0);
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_it_live_in_light_and_dark_on_a_phone_and_by_the_keyboard() {
    let failing = "audit.ndjson, filter: 'event_data.sandbox_metadata.kind * 2 == 4'}";
    let home = home(&ONE_DOWN.replace("audit.ndjson}", failing));
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    let to = webhook.clone();
    send(
        Plan { events: 60, kind: |number| if number % 12 == 0 { json!("odd") } else { json!(2) }, ..Plan::default() },
        move || to.clone(),
    )
    .await;
    let delivering = tokio::spawn(async move {
        for seed in 1.. {
            let target = webhook.clone();
            send(Plan { seed, events: 4, workers: 2, kind: |_| json!(2), ..Plan::default() }, move || target.clone())
                .await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let seen = look("usual", &home, &daemon).await;
    delivering.abort();
    // The one wrong token.
    let errors = seen["errors"].as_array().unwrap();
    assert!(errors.len() == 1 && errors[0].as_str().unwrap().contains("401"), "{errors:?}");
    let text = |name: &str| seen[name].as_str().unwrap_or_else(|| panic!("{name}: {seen}")).to_owned();
    assert!(text("status").contains("Down: lake"));
    let sinks: Vec<&str> = seen["sinks"].as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
    assert!(sinks[0].contains("lake") && sinks[0].contains("down") && sinks[1].contains("up"), "{sinks:?}");
    let bright = |name: &str, place: usize| seen[name][place].as_f64().unwrap();
    assert!(bright("light", 0) > 600.0 && bright("light", 1) < 300.0, "{}", seen["light"]);
    assert!(bright("dark", 0) < 150.0 && bright("dark", 1) > 400.0, "{}", seen["dark"]);
    for scheme in ["light_contrast", "dark_contrast"] {
        assert!(seen[scheme]["ratio"].as_f64().unwrap() >= 4.5, "{}", seen[scheme]);
    }
    assert_eq!(
        (&seen["sideways"], &seen["focus_is_seen"], &seen["signed_in"]),
        (&json!(0), &json!(true), &json!(true))
    );
    assert_eq!(seen["cookies"], json!([[true, "Strict"]]));
    assert!(text("told").contains("1 found") && text("told").contains("1 rejected"), "{}", text("told"));
    assert_eq!(text("focus"), "Retry", "the focus stays");
    for word in ["Without JavaScript", "accepted", "Dead letters", "audit", "lake", "down", "sandbox.lifecycle."] {
        assert!(text("plain").contains(word), "{word}");
    }
    assert!(!text("plain").contains("Retry") && !text("plain").contains("Sign in"), "what needs a script is not shown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_runs_nothing_that_strangers_wrote() {
    let home = home(&TO_A_FILE.replace("ndjson}", "ndjson, filter: 'int(sandbox_template_id) == 4'}"));
    let daemon = home.start().await;
    tell(&daemon, 0..10, EVIL).await;
    let webhook = daemon.webhook();
    let delivering = tokio::spawn(async move {
        // Anew under another id each time, until the browser has seen it come.
        loop {
            let mut event = event(77, EVIL);
            event["id"] = format!("i77-{}{EVIL}", uuid::Uuid::new_v4()).into();
            assert!(post(&reqwest_client(), &webhook, SECRET, &event.to_string()).await.is_some());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let seen = look("hostile", &home, &daemon).await;
    delivering.abort();
    assert_eq!(
        (&seen["errors"], &seen["images"], &seen["scripts"], &seen["turned"]),
        (&json!([]), &json!(0), &json!(1), &json!(false))
    );
    for table in ["events", "sandboxes"] {
        assert!(seen[table].as_str().unwrap().contains("<img src=x"), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_sandboxes_a_browser_has_one_page() {
    let provider = Running::start(Options { sandboxes: 10_000, ..Options::default() }).await;
    let home = Home::new(&format!(
        "sources: {{acme: {{api: {{url: '{}', api_key: {KEY}}}, backfill: {{enabled: false}}}}}}\nsinks: {TO_A_FILE}\n",
        provider.base
    ));
    let daemon = home.start().await;
    daemon
        .until("they are listed", |metrics| {
            metrics.sum("sandboxes", "running") + metrics.sum("sandboxes", "paused") == 10_000.0
        })
        .await;
    assert!(super::page(&daemon, "/").await.contains("of 10,000"));
    let seen = look("many", &home, &daemon).await;
    assert!(seen["rows"].as_array().unwrap().iter().all(|rows| rows.as_u64().unwrap() <= 200), "{}", seen["rows"]);
    assert_eq!(seen["second"], "51–100 of 10,000");
    assert_eq!((&seen["other_rows"], &seen["sorted"]), (&json!(true), &json!(true)));
    assert_eq!((&seen["found"], &seen["is_it"], &seen["errors"]), (&json!(1), &json!(true), &json!([])));
}
