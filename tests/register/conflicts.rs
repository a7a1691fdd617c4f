//! Webhooks that may be another relay's: never taken by themselves, an error at the first start and an alarm later.

use super::{SECRET, Scene, command, id};
use crate::support::daemon::Metrics;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staging_does_not_take_production_s_webhook_until_it_is_told_to() {
    let production = Scene::new().await;
    let theirs = production.start().await;
    let hook = production.until_registered().await;
    let staging = Scene { provider: production.provider, ..Scene::new().await };
    staging.api.retarget(&staging.provider.base);
    let (code, said) = staging.refused().await;
    assert_eq!(code, Some(78), "{said}");
    for part in ["sources.acme.register", id(&hook), hook["url"].as_str().unwrap(), "--adopt"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
    assert!(!said.contains(SECRET), "{said}");
    assert_eq!(staging.hooks().await, std::slice::from_ref(&hook));
    // Production is given up.
    assert!(theirs.terminate().await.success());
    let configuration = staging.home.configuration();
    let configuration = configuration.to_string_lossy();
    let adopt = command(&["webhooks", "ensure", "--adopt", "--config", &configuration]).output().await.unwrap();
    assert!(adopt.status.success(), "{adopt:?}");
    let daemon = staging.start().await;
    let taken = staging.until_registered().await;
    assert_eq!(taken["id"], hook["id"]);
    staging.deliver(&daemon, 5).await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_the_name_are_an_error_at_the_first_start_that_names_both() {
    let scene = Scene::new().await;
    let one = scene.register("e2b-relay", &scene.url()).await;
    let other = scene.register("e2b-relay", "https://other.example.com/").await;
    let before = scene.hooks().await;
    let (code, said) = scene.refused().await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains(id(&one)) && said.contains(id(&other)), "{said}");
    assert_eq!(scene.hooks().await, before);
    scene.delete(id(&other)).await;
    let daemon = scene.start().await;
    scene.deliver(&daemon, 5).await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_up_later_is_an_alarm_until_it_is_adopted() {
    let scene = Scene::new().await;
    // Nobody answers at the start, so that it is too late for an error.
    scene.api.allow(0);
    let daemon = scene.start().await;
    let theirs = scene.register("e2b-relay", "https://other.example.com/").await;
    scene.api.allow(usize::MAX);
    let conflict = |wanted: f64| move |metrics: &Metrics| metrics.sum("registration_conflict", "acme") == wanted;
    daemon.until("there is an alarm", conflict(1.0)).await;
    assert_eq!(scene.hooks().await, std::slice::from_ref(&theirs));
    assert_eq!(daemon.metrics().await.sum("foreign_webhooks", "acme"), 1.0);
    let configuration = scene.home.configuration();
    let adopt = ["webhooks", "ensure", "--adopt", "--format", "json", "--config", &configuration.to_string_lossy()];
    let adopt = command(&adopt).output().await.unwrap();
    let said: Value = serde_json::from_slice(&adopt.stdout).unwrap();
    assert_eq!((&said["action"], &said["changed"]), (&json!("updated"), &json!(["url"])));
    daemon.until("the alarm is over", conflict(0.0)).await;
    assert_eq!(scene.until_registered().await["id"], theirs["id"]);
    scene.deliver(&daemon, 5).await;
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_one_beside_the_own_is_an_alarm_and_no_reason_not_to_start() {
    let scene = Scene::new().await;
    let daemon = scene.start().await;
    let own = scene.until_registered().await;
    let copy = scene.register("e2b-relay", "https://other.example.com/").await;
    let conflict = |wanted: f64| move |metrics: &Metrics| metrics.sum("registration_conflict", "acme") == wanted;
    daemon.until("there is an alarm", conflict(1.0)).await;
    // The own one is still looked after.
    scene.change(id(&own), json!({"enabled": false})).await;
    let both = [own, copy.clone()];
    scene.until_hooks("it is repaired", |hooks| hooks == both).await;
    assert!(daemon.terminate().await.success());
    let daemon = scene.start().await;
    daemon.until("there still is an alarm", conflict(1.0)).await;
    scene.delete(id(&copy)).await;
    daemon.until("the alarm is over", conflict(0.0)).await;
    scene.deliver(&daemon, 5).await;
    assert!(daemon.terminate().await.success());
}
