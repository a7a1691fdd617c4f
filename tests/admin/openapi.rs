//! The description of the admin API: sound, whole, and what is really answered.

use super::{deliver, token_file};
use crate::sdk;
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home};
use crate::support::load::SECRET;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

const RESUME: &str = "/api/sinks/{name}/resume";

/// Events, dead letters, a copy in quarantine, sandboxes, and a sink that is taken out.
async fn start() -> (Running, Home, Daemon) {
    let provider = Running::start(Options { sandboxes: 6, ..Options::default() }).await;
    provider.happen(60, 600).await;
    let settings = |more: &str| {
        format!(
            "sources:\n  acme:\n    webhook: {{secrets: ['{SECRET}']}}\n    api: {{url: '{}', api_key: {KEY}}}\n    \
             backfill: {{interval: 200ms}}\n    register: {{url: 'https://relay.example.com/webhooks/e2b'}}\n    metrics: {{}}\n\
             sinks:\n  audit: {{type: file, path: ./audit.ndjson}}\n  away: {{type: file, path: ./away/away.ndjson}}\n  \
             broken: {{type: file, path: ./broken.ndjson, filter: 'type.endsWith(\"created\") ? type * 2 == 4 : true'}}\n{more}",
            provider.base
        )
    };
    let home = Home::new(&settings("  gone: {type: file, path: ./gone.ndjson}\n"));
    let away = home.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let daemon = home.start().await;
    let sinks = ["audit", "away", "broken"];
    daemon.until("all are settled", |metrics| sinks.iter().all(|sink| metrics.settled(sink) >= 60)).await;
    std::fs::remove_dir_all(&away).unwrap();
    assert_eq!(deliver(&daemon, "[1]").await, 400);
    assert_eq!(deliver(&daemon, "[2]").await, 400);
    home.configure(&settings(""));
    daemon.hang_up();
    daemon
        .until("it is read again", |metrics| metrics.sum("config_last_reload_success_timestamp_seconds", "") > 0.0)
        .await;
    daemon.says(0, "the configuration is read again").await;
    (provider, home, daemon)
}

async fn document(daemon: &Daemon) -> Value {
    let url = format!("http://{}/api/openapi.json", daemon.admin);
    daemon.client().get(url).send().await.unwrap().json().await.unwrap()
}

/// An object has the members that are described and no others; a record may have more, and its schema says so itself.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

struct Judge {
    document: Value,
    judged: BTreeSet<String>,
}

impl Judge {
    fn new(document: Value) -> Self {
        Self { document, judged: BTreeSet::new() }
    }

    /// Holds an answer to what is described of it.
    fn judge(&mut self, method: &str, path: &str, status: u16, media: &str, body: &str) {
        let operation = &self.document["paths"][path][method];
        let what = format!("{method} {path}: {status} {media}\n{body}");
        assert!(operation.is_object(), "not described: {what}");
        let own = &operation["responses"][status.to_string()];
        let described = if own.is_object() { own } else { &operation["responses"]["default"] };
        assert!(own.is_object() || status >= 400, "no such status: {what}");
        let media = media.split(';').next().unwrap();
        let mut schema = described["content"][media]["schema"].clone();
        assert!(schema.is_object(), "no such media type: {what}");
        let mut components = self.document["components"].clone();
        for (name, shape) in components["schemas"].as_object_mut().unwrap() {
            if name != "Record" {
                close(shape);
            }
        }
        close(&mut schema);
        schema["components"] = components;
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let values: Vec<Value> = match media {
            "application/json" => vec![serde_json::from_str(body).expect(&what)],
            "application/x-ndjson" => {
                let lines = body.lines().filter(|line| !line.is_empty());
                lines.map(|line| serde_json::from_str(line).expect(&what)).collect()
            }
            _ => vec![json!(body)],
        };
        assert!(!values.is_empty(), "{what}");
        for value in values {
            let faults: Vec<String> =
                validator.iter_errors(&value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
            assert!(faults.is_empty(), "{faults:#?}\n{what}");
        }
        if status < 400 {
            self.judged.insert(format!("{method} {path}"));
        }
    }

    fn described(&self) -> BTreeSet<String> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        paths
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_as_described_and_nothing_else_is() {
    let (_provider, home, daemon) = start().await;
    let mut judge = Judge::new(document(&daemon).await);
    let token = std::fs::read_to_string(token_file(&home)).unwrap();
    let base = format!("http://{}", daemon.admin);
    let ask = async |judge: &mut Judge, method: &str, path: &str, real: &str, body: Value| {
        let request = match method {
            "get" => daemon.client().get(format!("{base}{real}")),
            _ => daemon.client().post(format!("{base}{real}")).bearer_auth(token.trim()).json(&body),
        };
        let mut reply = request.send().await.unwrap();
        let (status, media) = (reply.status().as_u16(), reply.headers()["content-type"].to_str().unwrap().to_owned());
        let mut text = String::new();
        while let Some(piece) = reply.chunk().await.unwrap() {
            text += std::str::from_utf8(&piece).unwrap();
            if path == "/api/tap" && text.contains("event") && text.ends_with('\n') {
                break;
            }
            if path == "/api/tap" && text == "\n" {
                assert_eq!(deliver(&daemon, &super::event("tapped", "sbx", &json!({"a": 1}))).await, 200);
            }
        }
        judge.judge(method, path, status, &media, &text);
        (status, serde_json::from_str::<Value>(&text).unwrap_or_default())
    };
    let get = async |judge: &mut Judge, path: &str, real: &str| ask(judge, "get", path, real, Value::Null).await;
    for path in ["/metrics", "/livez", "/readyz", "/api/openapi.json", "/api/log-level", "/api/sources", "/api/sinks"] {
        assert_eq!(get(&mut judge, path, path).await.0, 200, "{path}");
    }
    let pages = ["/api/sandboxes", "/api/events", "/api/dead-letters", "/api/quarantine"];
    let mut first = Vec::new();
    for path in pages {
        // Alike everywhere: as many as are wanted, and the rest behind the cursor.
        let key = ["sandboxes", "events", "dead_letters", "quarantined"][first.len()];
        let (mut cursor, mut items) = (String::new(), Vec::new());
        loop {
            let real = format!("{path}?limit=1&cursor={}", e2b_relay::client::encode(&cursor));
            let (status, page) = get(&mut judge, path, &real).await;
            assert_eq!(status, 200);
            assert!(page[key].as_array().unwrap().len() <= 1);
            items.extend(page[key].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        let (_, whole) =
            get(&mut judge, path, &format!("{path}{}", if key == "sandboxes" { "" } else { "?limit=1000" })).await;
        let ids = |items: &[Value]| items.iter().map(|item| item["id"].to_string()).collect::<Vec<_>>();
        assert!(items.len() > 1, "{path}");
        assert_eq!(ids(&items), ids(whole[key].as_array().unwrap()), "{path}");
        for wrong in ["?limit=0", "?cursor=%21"] {
            assert_eq!(get(&mut judge, path, &format!("{path}{wrong}")).await.0, 400, "{path}{wrong}");
        }
        first.push(items[0].clone());
    }
    let (letter, copy) = (&first[2], first[3]["id"].as_str().unwrap());
    let letter_id = letter["id"].as_str().unwrap();
    get(&mut judge, "/api/events/summary", "/api/events/summary?since=1d").await;
    get(&mut judge, "/api/dead-letters/{sink}/{id}", &format!("/api/dead-letters/broken/{letter_id}")).await;
    get(&mut judge, "/api/dead-letters/{sink}/{id}", "/api/dead-letters/broken/nobody").await;
    get(&mut judge, "/api/quarantine/{id}", &format!("/api/quarantine/{copy}")).await;
    get(&mut judge, "/api/quarantine/{id}", "/api/quarantine/7").await;
    for (status, path, body) in [
        (200, "/api/replay", json!({"sink": "audit", "dry_run": true, "since": "7d", "type": "*"})),
        (200, "/api/replay", json!({"sink": "audit", "dry_run": true, "after": 7, "through": 20})),
        (400, "/api/replay", json!({"sink": "audit", "dry_run": true, "after": 20, "through": 20})),
        (202, "/api/replay", json!({"sink": "audit", "after": 1})),
        (404, "/api/replay", json!({"sink": "nobody"})),
        // Its folder is gone, so that what it had goes on being sent for as long as that is wanted.
        (202, "/api/replay", json!({"sink": "away"})),
        (200, "/api/replay/cancel", json!({"sink": "away"})),
        (404, "/api/replay/cancel", json!({"sink": "away"})),
        (200, "/api/backfill", json!({"source": "acme", "since": "1h"})),
        (400, "/api/backfill", json!({"sink": "acme"})),
        (200, "/api/dead-letters/retry", json!({"sink": "broken", "ids": [letter_id]})),
        (200, "/api/dead-letters/drop", json!({"sink": "broken", "ids": [letter_id]})),
        (200, "/api/quarantine/drop", json!({"ids": [copy]})),
        (200, "/api/log-level", json!({"level": "debug"})),
        (400, "/api/log-level", json!({"level": "loud"})),
        (409, "/api/sinks/forget", json!({"sink": "audit"})),
        (200, "/api/sinks/forget", json!({"sink": "gone"})),
    ] {
        assert_eq!(ask(&mut judge, "post", path, path, body.clone()).await.0, status, "{path} {body}");
    }
    get(&mut judge, "/api/replay", "/api/replay?sink=audit").await;
    for (status, sink, body) in [
        (409, "audit", json!({"accept_gap": true})),
        (404, "nobody", json!({"accept_gap": true})),
        (400, "audit", json!({"accept_gap": false})),
    ] {
        let real = format!("/api/sinks/{sink}/resume");
        assert_eq!(ask(&mut judge, "post", RESUME, &real, body.clone()).await.0, status, "{sink} {body}");
    }
    // Last, since its event and the sandbox of it are in the lists from then on.
    assert_eq!(get(&mut judge, "/api/tap", "/api/tap").await.0, 200);
    // No log here has a hole at which a sink could halt.
    judge.judged.insert(format!("post {RESUME}"));
    assert_eq!(judge.judged, judge.described(), "everything that is described was answered");
    let unauthorized = daemon.client().post(format!("{base}/api/quarantine/drop")).json(&json!({"all": true}));
    let reply = unauthorized.send().await.unwrap();
    assert_eq!(reply.status(), 401);
    judge.judge("post", "/api/quarantine/drop", 401, "application/json", &reply.text().await.unwrap());
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_sound_and_has_every_route() {
    let home = super::receiving();
    let daemon = home.start().await;
    let document = document(&daemon).await;
    let mut judge = sdk::script("openapi_judge.py").await;
    let mut judge = judge.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    judge.stdin.take().unwrap().write_all(document.to_string().as_bytes()).await.unwrap();
    let judged = judge.wait_with_output().await.unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));

    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        described.extend(methods.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/mod.rs")).unwrap();
    let source: String = source.split_whitespace().collect();
    let mut routes = BTreeSet::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, handlers) = route.split_once('"').unwrap();
        let handlers = handlers.split(".route(").next().unwrap();
        let methods = ["get", "post"].into_iter().filter(|method| handlers.contains(&format!("{method}(")));
        routes.extend(methods.map(|method| format!("{method} {path}")));
    }
    assert!(routes.len() > 15, "{routes:?}");
    // The page is for people.
    routes.retain(|route| {
        route.contains("/api/") || ["/metrics", "/livez", "/readyz"].iter().any(|path| route.ends_with(path))
    });
    assert_eq!(routes, described);
    assert!(daemon.terminate().await.success());
}

#[test]
fn an_answer_that_differs_is_seen() {
    let shape = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}});
    let answer = json!({"description": "x", "content": {"application/json": {"schema": shape}}});
    let document = json!({"paths": {"/x": {"get": {"responses": {"200": answer}}}}, "components": {"schemas": {}}});
    let judge = |status: u16, body: &str| {
        let document = document.clone();
        std::panic::catch_unwind(|| Judge::new(document).judge("get", "/x", status, "application/json", body)).is_ok()
    };
    assert!(judge(200, r#"{"a": 1}"#));
    for (status, body) in
        [(200, "{}"), (200, r#"{"a": "1"}"#), (200, r#"{"a": 1, "b": 2}"#), (201, r#"{"a": 1}"#), (404, "{}")]
    {
        assert!(!judge(status, body), "{status} {body}");
    }
}
