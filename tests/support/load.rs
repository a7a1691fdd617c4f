//! Signed deliveries in number, and the ledger of what was sent and how it was answered.
#![cfg(test)]

use super::sign;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What every test's source has.
pub(crate) const SECRET: &str = "a secret for tests, 32 bytes long";

/// What is sent.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
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
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: fastrand::u64(..),
            events: 1_000,
            sandboxes: 100,
            workers: 32,
            repeated: 0.0,
            forged: 0.0,
            insist: false,
        }
    }
}

/// What was answered 200: per sandbox the ids in the order in which they were.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) acknowledged: BTreeMap<String, Vec<String>>,
    pub(crate) duplicates: usize,
    pub(crate) forged: usize,
}

impl Ledger {
    pub(crate) fn count(&self) -> usize {
        self.acknowledged.values().map(Vec::len).sum()
    }
}

/// Sends it all to wherever `target` says at the time.
pub(crate) async fn send(plan: Plan, target: impl Fn() -> String + Clone + Send + Sync + 'static) -> Ledger {
    println!("load: seed {}", plan.seed);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..plan.workers {
        workers.spawn(work(plan.clone(), worker, target.clone(), Arc::clone(&ledger)));
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    Arc::into_inner(ledger).unwrap().into_inner().unwrap()
}

async fn work(plan: Plan, worker: usize, target: impl Fn() -> String + Sync, ledger: Arc<Mutex<Ledger>>) {
    let mut random = fastrand::Rng::with_seed(plan.seed ^ (worker as u64) << 32);
    let client = super::daemon::reqwest_client();
    for number in (worker..plan.events).step_by(plan.workers) {
        // A worker's own sandboxes, so that their events arrive in the order of their numbers.
        let own = (plan.sandboxes / plan.workers).max(1);
        let sandbox = format!("sbx{:06}", worker + plan.workers * random.usize(..own));
        let id = uuid::Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid().to_string();
        let body = body(&id, &sandbox, number, random.bool());
        if random.f64() < plan.forged {
            let forged = body.replace(&id, &format!("forged-{number}"));
            let (status, _) = post(&client, &target(), "not the secret, but also 32 bytes", &forged).await.unwrap();
            assert_eq!(status, 401);
            ledger.lock().unwrap().forged += 1;
        }
        let acknowledged = deliver(&plan, &client, &target, &body).await;
        let repeat = random.f64() < plan.repeated;
        if repeat && acknowledged.is_some() {
            let (status, answer) = post(&client, &target(), SECRET, &body).await.unwrap();
            assert_eq!((status, &answer["duplicate"]), (200, &json!(true)));
        }
        let mut ledger = ledger.lock().unwrap();
        if let Some(answer) = acknowledged {
            assert_eq!(answer["id"], json!(id));
            ledger.acknowledged.entry(sandbox).or_default().push(id);
            ledger.duplicates += usize::from(repeat);
        }
    }
}

/// The answer, if it was 200.
async fn deliver(
    plan: &Plan,
    client: &reqwest::Client,
    target: &(impl Fn() -> String + Sync),
    body: &str,
) -> Option<Value> {
    loop {
        match post(client, &target(), SECRET, body).await {
            Some((200, answer)) => return Some(answer),
            Some((503, _)) | None if plan.insist => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            None => return None,
            Some((status, answer)) => panic!("answered {status}: {answer}"),
        }
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
    let kinds =
        [("created", "create"), ("updated", "update"), ("paused", "pause"), ("resumed", "resume"), ("killed", "kill")];
    let (kind, label) = kinds[number % kinds.len()];
    let (kind, now) = (format!("sandbox.lifecycle.{kind}"), jiff::Timestamp::now().to_string());
    let data =
        json!({"sandbox_metadata": {"user": format!("user-{number}"), "note": "n".repeat(80)}, "number": number});
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
