//! `quarantine`: what was well signed and yet no event, listed, shown and dropped.

use super::{Ran, asking, deliver, receiving, run, token_file};
use crate::support::daemon::{Daemon, Home};
use serde_json::{Value, json};

async fn quarantine(home: &Home, daemon: &Daemon, arguments: &[&str]) -> Ran {
    run(asking(home, daemon, &[&["quarantine"], arguments].concat())).await
}

async fn list(home: &Home, daemon: &Daemon) -> Vec<Value> {
    let all = quarantine(home, daemon, &["list", "--format", "json"]).await.json();
    all.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_listed_shown_byte_for_byte_and_dropped_over_a_restart_too() {
    let home = receiving();
    let daemon = home.start().await;
    let empty = quarantine(&home, &daemon, &["list"]).await;
    assert_eq!((empty.code, empty.out.as_str()), (Some(0), "nothing is in quarantine\n"));
    // What a stranger with the secret can send: a forged line, an escape, a change of direction.
    let hostile = "{\"id\": \"\u{1b}]0;owned\u{7}\u{202e}\r\nforged\", \"type\": 7}";
    for body in ["{}", "[1]", hostile] {
        assert_eq!(deliver(&daemon, body).await, 400, "{body}");
    }
    let kept = list(&home, &daemon).await;
    let told: Vec<(u64, &str)> =
        kept.iter().map(|one| (one["bytes"].as_u64().unwrap(), one["source"].as_str().unwrap())).collect();
    assert_eq!(told, [(2, "acme"), (3, "acme"), (hostile.len() as u64, "acme")]);
    assert!(kept.iter().all(|one| !one["reason"].as_str().unwrap().is_empty()), "{kept:?}");
    assert!(kept[0]["reason"].as_str().unwrap().contains("neither `type`"), "as the sender was told: {kept:?}");
    let table = quarantine(&home, &daemon, &["list", "--source", "acme"]).await;
    assert!(table.out.starts_with("ID ") && table.out.lines().count() == 4, "{table:?}");
    assert_eq!(quarantine(&home, &daemon, &["list", "--source", "other"]).await.out, empty.out);

    let id = kept[2]["id"].as_str().unwrap();
    let whole = quarantine(&home, &daemon, &["show", id, "--format", "json"]).await.json();
    assert!(whole["body_base64"].is_string() && whole["reason"] == kept[2]["reason"], "{whole}");
    assert_eq!(quarantine(&home, &daemon, &["show", id, "--raw"]).await.out, hostile);
    let shown = quarantine(&home, &daemon, &["show", id]).await.out;
    assert!(shown.contains("\\u{202e}") && shown.contains("\\u{1b}") && !shown.contains("\nforged"), "{shown:?}");
    assert!(!shown.contains(|letter: char| letter.is_control() && letter != '\n'), "{shown:?}");

    assert!(daemon.terminate().await.success());
    let daemon = home.start().await;
    assert_eq!(list(&home, &daemon).await, kept);
    for (arguments, code) in [
        (&["show", "nobody"][..], 64),
        (&["drop", "nobody"], 64),
        (&["drop"], 64),
        (&["drop", id, "--all"], 64),
        (&["drop", id, "--source", "acme"], 64),
    ] {
        let ran = quarantine(&home, &daemon, arguments).await;
        assert!(ran.code == Some(code) && ran.out.is_empty() && !ran.err.is_empty(), "{arguments:?}: {ran:?}");
    }
    assert_eq!(list(&home, &daemon).await.len(), 3, "what is refused drops nothing");
    let one = quarantine(&home, &daemon, &["drop", id, "--format", "json"]).await.json();
    assert_eq!(one, json!({"dropped": 1}));
    daemon.says(0, "dropped by an operator").await;
    let rest = quarantine(&home, &daemon, &["drop", "--all", "--source", "acme"]).await;
    assert_eq!(rest.out, "2 dropped\n", "{rest:?}");
    assert_eq!(list(&home, &daemon).await.len(), 0);
    let left = std::fs::read_dir(home.path().join("data/quarantine")).unwrap().count();
    assert_eq!(left, 0, "nothing is left of them");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_it_comes_page_by_page_and_a_change_needs_the_token() {
    let home = receiving();
    let daemon = home.start().await;
    for number in 0..7 {
        assert_eq!(deliver(&daemon, &format!("[{number}]")).await, 400);
    }
    let base = format!("http://{}/api/quarantine", daemon.admin);
    let get = async |path: &str| {
        let reply = daemon.client().get(format!("{base}{path}")).send().await.unwrap();
        (reply.status().as_u16(), reply.json::<Value>().await.unwrap())
    };
    let (mut ids, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let (status, page) = get(&format!("?limit=3&cursor={cursor}")).await;
        assert_eq!(status, 200, "{page}");
        ids.extend(page["quarantined"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((ids.len(), pages, ids.is_sorted()), (7, 3, true));
    for wrong in ["?limit=0", "?limit=1001", "?limit=x", "?cursor=x"] {
        assert_eq!(get(wrong).await.0, 400, "{wrong}");
    }
    assert_eq!(get("/nobody").await.0, 404);
    let drop = async |token: &str, body: Value| {
        let request = daemon.client().post(format!("{base}/drop")).bearer_auth(token).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    let token = std::fs::read_to_string(token_file(&home)).unwrap();
    assert_eq!(drop("wrong", json!({"all": true})).await, 401);
    for wrong in [json!({}), json!({"all": true, "ids": [ids[0]]}), json!({"ids": [ids[0]], "source": "acme"})] {
        assert_eq!(drop(token.trim(), wrong.clone()).await, 400, "{wrong}");
    }
    // All or nothing.
    assert_eq!(drop(token.trim(), json!({"ids": [ids[0], "7"]})).await, 404);
    assert_eq!(drop(token.trim(), json!({"ids": [ids[0], ids[6]]})).await, 200);
    assert_eq!(get("").await.1["quarantined"].as_array().unwrap().len(), 5);
    assert!(daemon.terminate().await.success());
}
