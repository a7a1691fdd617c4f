//! The registrar within the test's own process, where the store and the provider do what they seldom do.

use super::{NEWER, SECRET};
use crate::backfill::Kept;
use crate::e2b::{Canned, reply};
use crate::simulate::Running;
use crate::support::daemon::{Metrics as Text, PATIENCE};
use e2b_relay::e2b::EVENT_TYPES;
use e2b_relay::executor::Executor;
use e2b_relay::intake::{Recalled, State};
use e2b_relay::metrics::Metrics;
use e2b_relay::shutdown;
use e2b_relay::simulator::provider::Options;
use e2b_relay::source::register::{Parts, Registrar, Settings};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

fn settings() -> Settings {
    let text = r#"{"url": "https://relay.example.com/webhooks/e2b", "interval": "50ms"}"#;
    serde_json::from_str(text).unwrap()
}

fn registrar(url: &str, state: Arc<dyn State>, secret: &str) -> (Registrar, Metrics, watch::Receiver<Option<String>>) {
    let (api, metrics) = crate::e2b::api_at(url);
    metrics.source("acme");
    let (webhook_id, known) = watch::channel(None);
    let parts = Parts {
        status: tokio::sync::watch::Sender::default(),
        api,
        settings: settings(),
        secret: secret.to_owned().into(),
        state,
        executor: Executor::default(),
        metrics: metrics.clone(),
        webhook_id,
    };
    (Registrar::new(parts), metrics, known)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn sum(metrics: &Metrics, family: &str, label: &str) -> f64 {
    Text(metrics.encode().unwrap()).sum(family, label)
}

async fn hooks(provider: &Running) -> Vec<Value> {
    provider.reply("/events/webhooks").await.json().await.unwrap()
}

/// Cannot keep anything for a while.
struct Failing {
    kept: Kept,
    failures: AtomicUsize,
}

impl State for Failing {
    fn recall(&self, key: &str) -> Recalled {
        self.kept.recall(key)
    }

    fn keep(&self, key: &str, value: &str) -> std::io::Result<()> {
        match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(std::io::ErrorKind::StorageFull.into()),
            Err(_) => self.kept.keep(key, value),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_cannot_be_kept_makes_no_second_webhook_and_is_kept_later() {
    let provider = Running::start(Options::default()).await;
    let state = Arc::new(Failing { kept: Kept::default(), failures: AtomicUsize::new(2) });
    let (registrar, metrics, known) = registrar(&provider.base, Arc::clone(&state) as Arc<dyn State>, SECRET);
    let (stop, shutdown) = shutdown::channel();
    let task = tokio::spawn(registrar.run(shutdown));
    until("it is kept", || matches!(state.recall("register/acme"), Recalled::Value(_))).await;
    let hooks = hooks(&provider).await;
    assert_eq!(hooks.len(), 1);
    assert_eq!(known.borrow().as_deref(), hooks[0]["id"].as_str());
    assert_eq!(sum(&metrics, "registration_repairs_total", "acme"), 0.0);
    let Recalled::Value(kept) = state.recall("register/acme") else { panic!("it was there") };
    assert!(kept.contains(known.borrow().as_deref().unwrap()) && !kept.contains(SECRET), "{kept}");
    stop.fire();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kept_id_is_told_before_anything_is_asked_and_a_new_secret_is_registered_once() {
    let provider = Running::start(Options::default()).await;
    let state: Arc<dyn State> = Arc::new(Kept::default());
    let mut id = None;
    // Twice each: the second time there is nothing to do.
    for (secret, repairs) in [(SECRET, 0.0), (SECRET, 0.0), (NEWER, 1.0), (NEWER, 0.0)] {
        let (registrar, metrics, known) = registrar(&provider.base, Arc::clone(&state), secret);
        assert_eq!(*known.borrow(), id);
        let (stop, shutdown) = shutdown::channel();
        let task = tokio::spawn(registrar.run(shutdown));
        let looks = || sum(&metrics, "api_requests_total", "code=\"200\",endpoint=\"webhooks\"");
        until("it has looked", || looks() >= 4.0).await;
        stop.fire();
        task.await.unwrap();
        assert_eq!(sum(&metrics, "registration_repairs_total", "acme"), repairs);
        id.clone_from(&known.borrow());
        assert_eq!(hooks(&provider).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_cannot_be_read_is_no_first_start() {
    let provider = Running::start(Options::default()).await;
    let (api, _) = crate::e2b::api_at(&provider.base);
    let mut other = e2b_relay::source::register::fresh(&settings(), &SECRET.to_owned().into());
    other.url = "https://other.example.com/".to_owned();
    api.create_webhook(&other).await.unwrap();
    for (value, is_error) in [(None, true), (Some("what is this"), false)] {
        let state: Arc<dyn State> = Arc::new(Kept::default());
        if let Some(value) = value {
            state.keep("register/acme", value).unwrap();
        }
        let (registrar, ..) = registrar(&provider.base, state, SECRET);
        assert_eq!(registrar.check().await.is_err(), is_error);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_does_not_take_what_is_wanted_is_an_alarm_and_no_repair() {
    let disabled = hook(false);
    let replies = (0..20).flat_map(|_| [reply(200, &format!("[{disabled}]")), reply(200, &disabled)]);
    let canned = Canned::start(replies.collect()).await;
    let (registrar, metrics, _known) = registrar(&canned.url, Arc::new(Kept::default()), SECRET);
    let (stop, shutdown) = shutdown::channel();
    let task = tokio::spawn(registrar.run(shutdown));
    let looks = || sum(&metrics, "api_requests_total", "code=\"200\",endpoint=\"webhooks\"");
    until("it has tried several times", || looks() >= 8.0).await;
    stop.fire();
    task.await.unwrap();
    assert_eq!(sum(&metrics, "registration_repairs_total", "acme"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_a_list_lacks_is_asked_for_before_another_is_made() {
    let own = hook(true);
    let replies = [reply(200, "[]"), reply(200, &own), reply(200, &own), reply(200, &format!("[{own}]"))];
    let canned = Canned::start(replies.into()).await;
    let state: Arc<dyn State> = Arc::new(Kept::default());
    state.keep("register/acme", &format!(r#"{{"id": "{ID}", "secret": "of another secret"}}"#)).unwrap();
    let (registrar, _metrics, _known) = registrar(&canned.url, state, SECRET);
    let (stop, shutdown) = shutdown::channel();
    let task = tokio::spawn(registrar.run(shutdown));
    until("it has looked again", || canned.lines().len() >= 6).await;
    stop.fire();
    task.await.unwrap();
    let (list, one) = ("GET /events/webhooks", format!("/events/webhooks/{ID}"));
    let expected = [list.to_owned(), format!("GET {one}"), format!("PATCH {one}"), list.to_owned(), list.to_owned()];
    assert_eq!(canned.lines()[..5], expected);
}

const ID: &str = "5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90";

/// As the provider shows it.
fn hook(enabled: bool) -> String {
    let (name, url) = ("e2b-relay", "https://relay.example.com/webhooks/e2b");
    json!({"id": ID, "name": name, "enabled": enabled, "url": url, "events": EVENT_TYPES}).to_string()
}

#[test]
fn it_looks_every_ten_minutes() {
    let settings: Settings = serde_json::from_str(r#"{"url": "https://relay.example.com/"}"#).unwrap();
    assert_eq!(settings.interval, Duration::from_secs(600));
    assert_eq!((settings.name.as_str(), settings.events.types().len()), ("e2b-relay", 6));
}
