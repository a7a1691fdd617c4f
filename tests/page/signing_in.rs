//! Who may change something from the page, and who may see it.

use super::{TO_A_FILE, assert_guarded, figure, home, page, rows, token, url};
use crate::support::daemon::{Daemon, Home, reqwest_client};
use crate::support::load::{Plan, SECRET, send};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

async fn post(daemon: &Daemon, path: &str, body: Value, headers: &[(&str, &str)]) -> Response {
    let mut request = reqwest_client().post(url(daemon, path)).json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

/// The cookie's name and value, and its attributes.
fn cookie(answer: &Response) -> (String, Vec<String>) {
    let mut parts = answer.headers()["set-cookie"].to_str().unwrap().split("; ").map(str::to_owned);
    (parts.next().unwrap(), parts.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_shown_once_opens_a_session_that_can_be_ended() {
    let home = home(TO_A_FILE);
    let daemon = home.start().await;
    let token = token(&home);
    let own = url(&daemon, "");
    let log_in = json!({"token": token});

    let wrong = post(&daemon, "/login", json!({"token": format!("{}x", &token[1..])}), &[]).await;
    assert_eq!((wrong.status(), wrong.headers().get("set-cookie")), (StatusCode::UNAUTHORIZED, None));
    for (headers, status) in [
        (&[("origin", "http://evil.example")][..], 403),
        (&[("host", "evil.example")], 421),
        (&[("content-type", "text/plain")], 415),
    ] {
        assert_eq!(post(&daemon, "/login", log_in.clone(), headers).await.status(), status, "{headers:?}");
    }
    let answer = post(&daemon, "/login", log_in.clone(), &[("origin", &own)]).await;
    assert_eq!(answer.status(), 204);
    let (pair, attributes) = cookie(&answer);
    assert!(!pair.contains(&token), "the cookie is not the token");
    assert_eq!(attributes, ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"]);
    let answer =
        post(&daemon, "/login", log_in.clone(), &[("origin", "https://127.0.0.1"), ("host", "127.0.0.1")]).await;
    assert!(cookie(&answer).1.contains(&"Secure".to_owned()), "behind TLS");

    let retry = json!({"sink": "audit", "all": true});
    let with = [("cookie", pair.as_str()), ("origin", own.as_str())];
    let status = async |headers: &[(&str, &str)]| {
        post(&daemon, "/api/dead-letters/retry", retry.clone(), headers).await.status().as_u16()
    };
    assert_eq!(status(&with).await, 200);
    assert_eq!(status(&[("cookie", "other=1")]).await, 401);
    assert_eq!(status(&[("cookie", &format!("{pair}0"))]).await, 401);
    assert_eq!(status(&[("cookie", &pair), ("origin", "http://localhost:3000")]).await, 403);
    assert_eq!(status(&[("cookie", &pair), ("authorization", "Bearer wrong")]).await, 401);
    let mut signed_in = reqwest_client().get(url(&daemon, "/")).header("cookie", &pair);
    assert!(signed_in.send().await.unwrap().text().await.unwrap().contains("sign-out"));
    signed_in = reqwest_client().get(url(&daemon, &format!("/?token={token}")));
    assert!(!signed_in.send().await.unwrap().text().await.unwrap().contains("sign-out"), "a token in a URL is none");

    let out = post(&daemon, "/logout", json!({}), &with).await;
    assert!(cookie(&out).1.contains(&"Max-Age=0".to_owned()));
    assert_eq!(status(&with).await, 401);

    // The sessions of one token end with it, and only then.
    let (pair, _) = cookie(&post(&daemon, "/login", log_in, &[]).await);
    let with = [("cookie", pair.as_str())];
    daemon.hang_up();
    daemon.says(0, "in force").await;
    assert_eq!(status(&with).await, 200);
    std::fs::write(super::token_file(&home), "another token, a sound one".replace(' ', "-")).unwrap();
    let seen = daemon.log().len();
    daemon.hang_up();
    daemon.says(seen, "in force").await;
    assert_eq!(status(&with).await, 401);
    let log = daemon.log().join("\n");
    assert!(log.contains("/login") && log.contains("/logout"), "changes are logged");
    assert!(!log.contains(&token) && !log.contains(pair.split_once('=').unwrap().1), "a secret in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_the_loopback_a_stranger_sees_nothing_but_the_form() {
    let home = Home::new("");
    std::fs::write(
        home.configuration(),
        format!(
            "server: {{listen: '127.0.0.1:0'}}\nadmin: {{listen: '0.0.0.0:0'}}\n\
             sources: {{acme: {{webhook: {{path: /webhooks/e2b, secrets: ['{SECRET}']}}}}}}\nsinks: {TO_A_FILE}\n"
        ),
    )
    .unwrap();
    let daemon = home.start().await;
    let token = token(&home);
    let local = |path: &str| url(&daemon, path).replace("0.0.0.0", "127.0.0.1");
    for path in ["/", &format!("/?token={token}")] {
        let answer = reqwest_client().get(local(path)).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_guarded(answer.headers());
        let html = answer.text().await.unwrap();
        let (_, body) = html.split_once("</style>").unwrap();
        assert!(body.contains("id=\"sign-in\"") && !body.contains("audit") && !body.contains("data-figure"), "{body}");
    }
    assert_eq!(reqwest_client().get(local("/stream")).send().await.unwrap().status(), 401);
    let answer = reqwest_client().post(local("/login")).json(&json!({"token": token})).send().await.unwrap();
    let (pair, _) = cookie(&answer);
    for request in
        [reqwest_client().get(local("/")).header("cookie", &pair), reqwest_client().get(local("/")).bearer_auth(&token)]
    {
        let html = request.send().await.unwrap().text().await.unwrap();
        assert_eq!(rows(&html, "sinks")[0][0], "audit");
    }
    let stream = reqwest_client().get(local("/stream")).header("cookie", &pair).send().await.unwrap();
    assert_eq!(stream.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_shown_with_its_reason_and_what_its_button_sends_retries_it() {
    let failing = "{audit: {type: file, path: ./audit.ndjson, filter: 'sandbox_template_id * 2 == 4'}}";
    let home = home(failing);
    let daemon = home.start().await;
    let webhook = daemon.webhook();
    send(Plan { events: 3, sandboxes: 1, ..Plan::default() }, move || webhook.clone()).await;
    daemon.until("they are dead letters", |metrics| metrics.sum("sink_dead_letters", "audit") == 3.0).await;
    let html = page(&daemon, "/").await;
    assert_eq!(figure(&html, "letters"), "3");
    let letters = rows(&html, "letters");
    assert_eq!((letters.len(), letters[0][0].as_str(), letters[0][3].as_str()), (3, "audit", "filter"));
    assert!(!letters[0][4].is_empty() && letters[0][5].starts_with("sandbox.lifecycle."), "{letters:?}");

    home.configure(&format!(
        "sources: {{acme: {{webhook: {{path: /webhooks/e2b, secrets: ['{SECRET}']}}}}}}\nsinks: {TO_A_FILE}\n"
    ));
    daemon.hang_up();
    daemon.says(0, "in force").await;
    let (pair, _) = cookie(&post(&daemon, "/login", json!({"token": token(&home)}), &[]).await);
    let shown = html.split("data-table=\"letters\"").nth(1).unwrap();
    let attribute = |name: &str| {
        let text = shown.split(&format!(" {name}=\"")).nth(1).unwrap().split_once('"').unwrap().0;
        text.replace("&quot;", "\"").replace("&#x2f;", "/")
    };
    assert_eq!(attribute("aria-label"), format!("Retry {} to audit", letters[0][7]));
    let body: Value = serde_json::from_str(&attribute("data-body")).unwrap();
    let answer = post(&daemon, &format!("/{}", attribute("data-path")), body, &[("cookie", &pair)]).await;
    let last: Value = serde_json::from_str(answer.text().await.unwrap().trim_end().lines().last().unwrap()).unwrap();
    assert_eq!((&last["result"]["sent"], &last["result"]["rejected"]), (&json!(1), &json!(0)));
    let html = page(&daemon, "/").await;
    assert_eq!((figure(&html, "letters"), rows(&html, "letters").len()), ("2".to_owned(), 2));
}
