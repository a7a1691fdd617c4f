//! Whatever somebody does to the relay's own webhook is undone, and nobody else's is touched.

use super::{Scene, id, until_repairs};
use crate::support::daemon::Metrics;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_drift_is_repaired_and_counted_and_others_stay_as_they_are() {
    let scene = Scene::new().await;
    // One of them delivers here, too.
    scene.register("production", "https://relay.example.com/a").await;
    let here = scene.register("e2b-relay-2", &scene.url()).await;
    scene.register("E2B-Relay", "http://a/").await;
    scene.change(id(&here), json!({"enabled": false, "events": ["sandbox.lifecycle.killed"]})).await;
    let others = scene.hooks().await;
    let bytes = serde_json::to_vec(&others).unwrap();
    let theirs = |hooks: &[Value]| serde_json::to_vec(&hooks[..3]).unwrap() == bytes;
    let daemon = scene.start().await;
    let made = |hooks: &[Value]| hooks.len() == 4 && scene.is_in_line(&hooks[3]);
    let own = scene.until_hooks("it is made", made).await.remove(3);
    let drifts = [
        json!({"url": "https://elsewhere.example.com/"}),
        json!({"events": ["sandbox.lifecycle.killed"]}),
        json!({"enabled": false}),
        json!({"name": "another"}),
        json!({"name": "another", "enabled": false, "url": "http://elsewhere.example.com/"}),
    ];
    let count = drifts.len();
    for (repairs, drift) in drifts.into_iter().enumerate() {
        scene.change(id(&own), drift).await;
        let hooks = scene.until_hooks("it is repaired", |hooks| hooks[3] == own).await;
        assert!(theirs(&hooks), "{hooks:#?}");
        until_repairs(&daemon, repairs + 1).await;
    }
    scene.delete(id(&own)).await;
    let anew = |hooks: &[Value]| hooks.len() == 4 && scene.is_in_line(&hooks[3]) && hooks[3]["id"] != own["id"];
    assert!(theirs(&scene.until_hooks("it is made anew", anew).await));
    until_repairs(&daemon, count + 1).await;
    scene.deliver(&daemon, 5).await;
    let metrics = daemon.metrics().await;
    assert_eq!((metrics.sum("foreign_webhooks", "acme"), metrics.sum("registration_conflict", "acme")), (3.0, 0.0));
    assert!(daemon.terminate().await.success());
    assert!(theirs(&scene.hooks().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_line_is_left_alone() {
    let scene = Scene::new().await;
    let daemon = scene.start().await;
    let own = scene.until_registered().await;
    let mut more = own["events"].as_array().unwrap().clone();
    more.push(json!("sandbox.lifecycle.forked"));
    more.reverse();
    scene.change(id(&own), json!({"events": more})).await;
    let changed = scene.hooks().await;
    let ten = |metrics: &Metrics| metrics.sum("api_requests_total", "code=\"200\",endpoint=\"webhooks\"") >= 10.0;
    daemon.until("it has looked ten times", ten).await;
    assert_eq!(scene.hooks().await, changed, "all may be more than is known here, in any order");
    until_repairs(&daemon, 0).await;
    assert!(daemon.terminate().await.success());
}
