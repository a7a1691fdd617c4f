//! The commands, as text and as JSON, and what they end with.

use super::{NEWER, SECRET, Scene, command};
use crate::simulate::KEY;
use serde_json::{Value, json};

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn json(&self) -> Value {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""));
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// `webhooks` with these arguments and the scene's configuration; nothing that is said holds a secret.
async fn webhooks(scene: &Scene, arguments: &[&str]) -> Run {
    let configuration = scene.home.configuration();
    let mut all = vec!["webhooks"];
    all.extend_from_slice(arguments);
    let configuration = configuration.to_string_lossy();
    all.extend(["--config", &configuration]);
    let output = command(&all).current_dir(scene.home.path()).output().await.unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    for secret in [SECRET, NEWER, KEY] {
        assert!(!stdout.contains(secret) && !stderr.contains(secret), "{arguments:?}: {stdout}{stderr}");
    }
    Run { code: output.status.code(), stdout, stderr }
}

/// Likewise as JSON.
async fn as_json(scene: &Scene, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["--format", "json"]);
    webhooks(scene, &all).await.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_made_shown_changed_and_deleted_by_hand() {
    let scene = Scene::new().await;
    assert_eq!(as_json(&scene, &["list"]).await, json!([]));
    let list = webhooks(&scene, &["list"]).await;
    assert_eq!((list.code, &*list.stdout), (Some(0), ""));

    std::fs::write(scene.home.path().join("newer"), format!("{NEWER}\n")).unwrap();
    let made = as_json(
        &scene,
        &[
            "create",
            "--name",
            "a\nb",
            "--url",
            "http://127.0.0.1:1/x",
            "--events",
            "killed,paused",
            "--secret-file",
            "newer",
        ],
    )
    .await;
    let hook = &made["webhook"];
    let id = hook["id"].as_str().unwrap();
    assert_eq!((&made["action"], &hook["name"]), (&json!("created"), &json!("a\nb")));
    assert_eq!(hook["events"], json!(["sandbox.lifecycle.killed", "sandbox.lifecycle.paused"]));
    assert_eq!(scene.hooks().await[0]["id"], hook["id"]);

    assert_eq!(&as_json(&scene, &["get", id]).await, hook);
    assert_eq!(as_json(&scene, &["list"]).await, json!([hook]));
    let text = webhooks(&scene, &["get", id]).await.stdout;
    assert_eq!(
        text,
        format!("{id}  enabled  \"a\\nb\"  http://127.0.0.1:1/x  sandbox.lifecycle.killed,sandbox.lifecycle.paused\n")
    );
    assert_eq!(webhooks(&scene, &["list"]).await.stdout, text);

    let changed = as_json(&scene, &["update", id, "--enabled", "false", "--name", "c", "--events", "all"]).await;
    assert_eq!((&changed["action"], &changed["webhook"]["enabled"]), (&json!("updated"), &json!(false)));
    assert_eq!(changed["webhook"]["events"].as_array().unwrap().len(), 6);
    let text =
        webhooks(&scene, &["update", id, "--url", "http://127.0.0.1:1/y", "--secret-file", "newer"]).await.stdout;
    assert!(text.starts_with(&format!("updated: {id}  disabled  \"c\"  http://127.0.0.1:1/y  ")), "{text}");

    let text = webhooks(&scene, &["delete", id]).await.stdout;
    assert!(text.starts_with(&format!("deleted: {id}  ")), "{text}");
    assert!(scene.hooks().await.is_empty());
    // What is not given is as `register` has it, with the newest secret.
    let made = as_json(&scene, &["create"]).await;
    assert!(scene.is_in_line(&made["webhook"]), "{made}");
    let id = made["webhook"]["id"].as_str().unwrap();
    assert_eq!(as_json(&scene, &["delete", id]).await["action"], "deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ensure_does_what_register_says_and_nothing_that_it_does_not() {
    let scene = Scene::new().await;
    assert_eq!(as_json(&scene, &["ensure", "--dry-run"]).await, json!({"action": "would create", "webhook": null}));
    assert!(scene.hooks().await.is_empty());
    assert_eq!(as_json(&scene, &["ensure"]).await["action"], "created");
    let hook = scene.until_registered().await;
    let id = super::id(&hook).to_owned();

    scene.change(&id, json!({"enabled": false, "events": ["a.b"]})).await;
    let before = scene.hooks().await;
    let would = as_json(&scene, &["ensure", "--dry-run"]).await;
    assert_eq!((&would["action"], &would["changed"]), (&json!("would update"), &json!(["events", "enabled"])));
    assert_eq!(scene.hooks().await, before);
    let text = webhooks(&scene, &["ensure"]).await.stdout;
    assert!(text.starts_with(&format!("updated (events, enabled): {id}  enabled  ")), "{text}");
    assert_eq!(scene.hooks().await, std::slice::from_ref(&hook));

    // One that delivers here under another name is perhaps the relay's own, and no second is made beside it.
    scene.change(&id, json!({"name": "renamed"})).await;
    let run = webhooks(&scene, &["ensure"]).await;
    assert!(run.code == Some(78) && run.stderr.contains(&id) && run.stderr.contains("--adopt"), "{}", run.stderr);
    assert_eq!(as_json(&scene, &["ensure", "--adopt"]).await["changed"], json!(["name"]));

    scene.change(&id, json!({"url": "https://other.example.com/?token=hunter2"})).await;
    let run = webhooks(&scene, &["ensure"]).await;
    assert!(run.code == Some(78) && run.stderr.contains(&id) && !run.stderr.contains("hunter2"), "{}", run.stderr);
    let other = scene.register("e2b-relay", "https://other.example.com/").await;
    let run = webhooks(&scene, &["ensure", "--adopt"]).await;
    assert!(
        run.code == Some(78) && run.stderr.contains(&id) && run.stderr.contains(super::id(&other)),
        "{}",
        run.stderr
    );
    scene.delete(super::id(&other)).await;
    assert_eq!(as_json(&scene, &["ensure", "--adopt"]).await["changed"], json!(["url"]));
    assert_eq!(scene.hooks().await, [hook]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trouble_has_its_exit_code() {
    let scene = Scene::new().await;
    let nobody = "5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90";
    let short = scene.home.path().join("short");
    std::fs::write(&short, "too short").unwrap();
    for (arguments, code, said) in [
        (&["list", "--nosuch"][..], 64, "--nosuch"),
        (&["list", "--source", "beta"], 64, "beta"),
        (&["get", nobody], 64, nobody),
        (&["get", "no-uuid"], 64, "400"),
        (&["delete", nobody], 64, nobody),
        (&["update", nobody, "--enabled", "false"], 64, nobody),
        (&["update", nobody], 64, "nothing is to be changed"),
        (&["create", "--secret", SECRET], 64, "--secret"),
        (&["create", "--events", "kiled"], 64, "kiled"),
        (&["create", "--url", "ftp://a/"], 64, "http"),
        (&["create", "--secret-file", "short"], 64, "32 characters"),
        (&["create", "--secret-file", "nosuch"], 74, "nosuch"),
    ] {
        let run = webhooks(&scene, arguments).await;
        // What clap says of an argument repeats it; the one with a secret is nothing that anybody should write.
        assert_eq!(run.code, Some(code), "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(said) && run.stdout.is_empty(), "{arguments:?}: {}", run.stderr);
    }
    assert!(scene.hooks().await.is_empty());
    // The provider is away.
    scene.api.retarget("http://127.0.0.1:1");
    assert_eq!(webhooks(&scene, &["list"]).await.code, Some(69));
    scene.api.retarget(&scene.provider.base);
    // An answer that is lost.
    scene.api.lose_answers(1);
    let run = webhooks(&scene, &["create"]).await;
    assert!(run.code == Some(69) && run.stderr.contains("webhooks list"), "{}", run.stderr);
    assert_eq!(scene.hooks().await.len(), 1);

    let minimal = |source: &str| format!("sources: {{{source}}}\nsinks: {{audit: {{type: file, path: ./a.ndjson}}}}\n");
    let api = |key: &str| format!("api: {{url: '{}', api_key: {key}}}", scene.api.url);
    scene.home.configure(&minimal(&format!("acme: {{webhook: {{secrets: [{SECRET}]}}}}")));
    let run = webhooks(&scene, &["list"]).await;
    assert!(run.code == Some(78) && run.stderr.contains("`api`"), "{}", run.stderr);
    scene.home.configure(&minimal(&format!("acme: {{{}}}", api("e2b_abcdef"))));
    let run = webhooks(&scene, &["list"]).await;
    assert!(run.code == Some(78) && run.stderr.contains("sources.acme.api.api_key"), "{}", run.stderr);
    scene.home.configure(&minimal(&format!("acme: {{{}}}", api(KEY))));
    let run = webhooks(&scene, &["ensure"]).await;
    assert!(run.code == Some(78) && run.stderr.contains("`register`"), "{}", run.stderr);
    let run = webhooks(&scene, &["create", "--secret-file", "short"]).await;
    assert!(run.code == Some(64) && run.stderr.contains("--url"), "{}", run.stderr);
    let run = webhooks(&scene, &["create", "--url", "http://a/"]).await;
    assert!(run.code == Some(64) && run.stderr.contains("--secret-file"), "{}", run.stderr);
    scene.home.configure(&minimal(&format!("acme: {{{}}}, beta: {{{}}}", api(KEY), api(KEY))));
    let run = webhooks(&scene, &["list"]).await;
    assert!(run.code == Some(64) && run.stderr.contains("--source"), "{}", run.stderr);
    assert_eq!(webhooks(&scene, &["list", "--source", "beta"]).await.code, Some(0));
}
