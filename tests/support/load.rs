//! Signed deliveries in number, and the ledger of what was sent and how it was answered.
#![cfg(test)]

use super::oracle::{Answer, Ledger};
use super::{seed, sign};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::{RwLock, Semaphore};

/// What every test's source has.
pub(crate) const SECRET: &str = "a secret for tests, 32 bytes long";

/// What is sent.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Another one for each load that one daemon gets: it makes the ids.
    pub(crate) seed: u64,
    /// Most events.
    pub(crate) events: usize,
    pub(crate) sandboxes: usize,
    /// Deliveries under way at once; each sandbox's come one after another.
    pub(crate) workers: usize,
    /// Part of the events that is sent twice.
    pub(crate) repeated: f64,
    /// Part of the events beside which one with a wrong signature is sent.
    pub(crate) forged: f64,
    /// Each is sent until it is acknowledged, over restarts of the relay, as the provider does.
    pub(crate) insist: bool,
    /// Each event takes a permit; closed, no more are sent.
    pub(crate) permits: Option<Arc<Semaphore>>,
    /// What deliveries are signed with.
    pub(crate) secret: Secret,
    /// What its metadata says for `kind`, by the event's number: for filters and templates to look at.
    pub(crate) kind: fn(usize) -> Value,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: seed::random("load").u64(..),
            events: 1_000,
            sandboxes: 100,
            workers: 32,
            repeated: 0.0,
            forged: 0.0,
            insist: false,
            permits: None,
            secret: Secret::default(),
            kind: |_| json!("usual"),
        }
    }
}

/// A secret that can be rotated while deliveries are sent. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Secret(Arc<RwLock<String>>);

impl Default for Secret {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(SECRET.to_owned())))
    }
}

impl Secret {
    /// From now on this one; once it returns, no delivery is under way that was signed with the one before.
    pub(crate) async fn rotate(&self, secret: &str) {
        *self.0.write().await = secret.to_owned();
    }
}

/// What was sent, and what else was seen.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) ledger: Ledger,
    /// Repetitions, each of which was told to be one.
    pub(crate) duplicates: usize,
    /// Deliveries with a wrong signature, each of which was refused.
    pub(crate) forged: usize,
}

/// Sends it all to wherever `target` says at the time.
pub(crate) async fn send(plan: Plan, target: impl Fn() -> String + Clone + Send + Sync + 'static) -> Sent {
    let sent = Arc::new(Mutex::new(Sent::default()));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..plan.workers {
        workers.spawn(work(plan.clone(), worker, target.clone(), Arc::clone(&sent)));
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    Arc::into_inner(sent).unwrap().into_inner().unwrap()
}

/// Deliveries without an end, as many as it is told to, to whichever daemon is there; each is sent until it is
/// acknowledged.
pub(crate) struct Ongoing {
    webhook: Arc<Mutex<String>>,
    permits: Arc<Semaphore>,
    sending: tokio::task::JoinHandle<Sent>,
}

impl Ongoing {
    /// Sends nothing yet. `purpose` tells its seed from others'.
    pub(crate) fn begin(purpose: &str, kind: fn(usize) -> Value) -> Self {
        Self::signed(purpose, kind, Secret::default())
    }

    /// The same with a secret that can be rotated.
    pub(crate) fn signed(purpose: &str, kind: fn(usize) -> Value, secret: Secret) -> Self {
        let webhook = Arc::new(Mutex::new(String::new()));
        let permits = Arc::new(Semaphore::new(0));
        let target = {
            let webhook = Arc::clone(&webhook);
            move || webhook.lock().unwrap().clone()
        };
        let plan = Plan {
            seed: seed::random(purpose).u64(..),
            events: usize::MAX,
            insist: true,
            permits: Some(Arc::clone(&permits)),
            secret,
            kind,
            ..Plan::default()
        };
        Self { webhook, permits, sending: tokio::spawn(send(plan, target)) }
    }

    /// So many more, and there.
    pub(crate) fn go_on(&self, webhook: String, events: usize) {
        *self.webhook.lock().unwrap() = webhook;
        self.permits.add_permits(events);
    }

    /// There, and so many from now on.
    pub(crate) fn top_up(&self, webhook: String, events: usize) {
        self.go_on(webhook, events.saturating_sub(self.permits.available_permits()));
    }

    /// Once all that was allowed is acknowledged.
    pub(crate) async fn end(self) -> Ledger {
        while self.permits.available_permits() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        self.permits.close();
        self.sending.await.unwrap().ledger
    }
}

async fn work(plan: Plan, worker: usize, target: impl Fn() -> String + Sync, sent: Arc<Mutex<Sent>>) {
    let mut random = fastrand::Rng::with_seed(plan.seed ^ (worker as u64) << 32);
    let client = super::daemon::reqwest_client();
    for number in (worker..plan.events).step_by(plan.workers) {
        if let Some(permits) = &plan.permits {
            let Ok(permit) = permits.acquire().await else { return };
            permit.forget();
        }
        // A worker's own sandboxes, so that their events arrive in the order of their numbers.
        let own = (plan.sandboxes / plan.workers).max(1);
        let sandbox = format!("sbx{:06}", worker + plan.workers * random.usize(..own));
        let id = uuid::Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid().to_string();
        let now = jiff::Timestamp::now();
        let body = body_of(&id, &sandbox, number, random.bool(), &(plan.kind)(number), now);
        if random.f64() < plan.forged {
            let forged_id = format!("forged-{number}");
            let forged = body.replace(&id, &forged_id);
            let (status, _) = post(&client, &target(), "not the secret, but also 32 bytes", &forged).await.unwrap();
            assert_eq!(status, 401);
            let mut sent = sent.lock().unwrap();
            sent.ledger.note(&sandbox, &forged_id, Answer::Rejected);
            sent.forged += 1;
        }
        let answer = deliver(&plan, &client, &target, &body, &id).await;
        let repeat = answer == Answer::Acknowledged && random.f64() < plan.repeated;
        if repeat {
            let (status, answer) = post(&client, &target(), SECRET, &body).await.unwrap();
            assert_eq!((status, &answer["duplicate"]), (200, &json!(true)));
        }
        let mut sent = sent.lock().unwrap();
        sent.ledger.note(&sandbox, &id, answer);
        sent.duplicates += usize::from(repeat);
    }
}

/// Delivers one event; while the plan insists, until it is acknowledged.
async fn deliver(
    plan: &Plan,
    client: &reqwest::Client,
    target: &(impl Fn() -> String + Sync),
    body: &str,
    id: &str,
) -> Answer {
    let mut is_first = true;
    loop {
        // Held until it is answered.
        let secret = plan.secret.0.read().await;
        let answered = post(client, &target(), &secret, body).await;
        drop(secret);
        match answered {
            Some((200, answer)) => {
                assert_eq!(answer["id"], json!(id));
                assert!(
                    !is_first || answer.get("duplicate").is_none(),
                    "{id} was sent before: its plan's seed is another's"
                );
                return Answer::Acknowledged;
            }
            Some((503, _)) | None if plan.insist => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Some((503, _)) | None => return Answer::Unknown,
            Some((status, answer)) => panic!("answered {status}: {answer}"),
        }
        is_first = false;
    }
}

/// Status and body; `None` when nobody answers.
pub(crate) async fn post(client: &reqwest::Client, url: &str, secret: &str, body: &str) -> Option<(u16, Value)> {
    let (name, signature) = sign::e2b(secret, body.as_bytes());
    let request = client.post(url).header(name, signature).header("content-type", "application/json");
    let response = request.body(body.to_owned()).send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.json().await.ok()?))
}

/// An event in one of the two spellings, about 600 bytes.
pub(crate) fn body(id: &str, sandbox: &str, number: usize, snake_case: bool) -> String {
    body_of(id, sandbox, number, snake_case, &json!("usual"), jiff::Timestamp::now())
}

/// The same with the `kind` of its metadata, and of that time.
pub(crate) fn body_of(
    id: &str,
    sandbox: &str,
    number: usize,
    snake_case: bool,
    metadata: &Value,
    at: jiff::Timestamp,
) -> String {
    let kinds =
        [("created", "create"), ("updated", "update"), ("paused", "pause"), ("resumed", "resume"), ("killed", "kill")];
    let (kind, label) = kinds[number % kinds.len()];
    let (kind, now) = (format!("sandbox.lifecycle.{kind}"), at.to_string());
    let data = json!({"sandbox_metadata": {"user": format!("user-{number}"), "kind": metadata, "note": "n".repeat(80)}, "number": number});
    let (execution, build) = ("1dae9e1c-9957-4ce7-a236-a99d5779aadf", "a979a14b-bdcc-49e6-bc04-1189fc9fe7c2");
    let (template, team) = ("rki5dems9wqfm4r03t7g", "460355b3-4f64-48f9-9a16-4442817f79f5");
    let event = if snake_case {
        json!({"id": id, "version": "v2", "type": kind, "timestamp": now, "event_category": "lifecycle", "event_label": label,
            "event_data": data, "sandbox_id": sandbox, "sandbox_execution_id": execution, "sandbox_template_id": template,
            "sandbox_build_id": build, "sandbox_team_id": team})
    } else {
        json!({"id": id, "version": "v1", "type": kind, "timestamp": now, "eventCategory": "lifecycle", "eventLabel": label,
            "eventData": data, "sandboxId": sandbox, "sandboxExecutionId": execution, "sandboxTemplateId": template,
            "sandboxBuildId": build, "sandboxTeamId": team})
    };
    event.to_string()
}
