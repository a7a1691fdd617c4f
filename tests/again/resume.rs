//! A sink that halts at a hole in the log, and is told to go on.

use super::ask;
use crate::support::daemon::Home;
use crate::support::load::SECRET;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_not_halted_at_a_gap_is_not_resumed() {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let daemon = home.start().await;
    let (code, _, err) = ask(&home, &daemon, &["sinks", "resume", "--accept-gap", "audit"]).await;
    assert!(code == 64 && err.contains("not halted at a gap"), "{code} {err}");
    let (code, _, err) = ask(&home, &daemon, &["sinks", "resume", "--accept-gap", "nobody"]).await;
    assert!(code == 64 && err.contains("there is no sink \"nobody\"; there is audit"), "{code} {err}");
    let (code, _, err) = ask(&home, &daemon, &["sinks", "resume", "audit"]).await;
    assert!(code == 64 && err.contains("--accept-gap"), "{code} {err}");

    let token = std::fs::read_to_string(home.path().join("data/admin-token")).unwrap();
    let url = |sink: &str| format!("http://{}/api/sinks/{sink}/resume", daemon.admin);
    let post = |sink: &str, media: &str, body: &str| {
        let request = daemon.client().post(url(sink)).header(CONTENT_TYPE, media).body(body.to_owned());
        request.bearer_auth(token.trim())
    };
    for (status, sink, body) in [
        (409, "audit", "{\"accept_gap\": true}"),
        (404, "nobody", "{\"accept_gap\": true}"),
        (400, "audit", "{\"accept_gap\": false}"),
        (400, "audit", "{}"),
        (400, "audit", "{\"accept_gap\": true, \"sink\": \"audit\"}"),
    ] {
        let answer = post(sink, "application/json", body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{sink} {body}");
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["error"].as_str().unwrap().len() > 20, "{answer}");
    }
    let form = post("audit", "application/x-www-form-urlencoded", "accept_gap=true");
    assert_eq!(form.send().await.unwrap().status(), 415, "JSON only");
    let stranger = daemon.client().post(url("audit")).json(&json!({"accept_gap": true}));
    assert_eq!(stranger.send().await.unwrap().status(), 401);
    let shown: Value =
        daemon.client().get(format!("http://{}/api/sinks", daemon.admin)).send().await.unwrap().json().await.unwrap();
    let sink = shown["sinks"][0].as_object().unwrap();
    assert_eq!(
        (&sink["gap"], &sink["unaccounted_events"], &sink["unaccounted"]),
        (&Value::Null, &0.into(), &Value::Null)
    );
    assert!(daemon.terminate().await.success());
}
