//! A Prometheus server of a test's own.

use super::rules::hastened;
use crate::support::daemon::{PATIENCE, reqwest_client};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Between two scrapes, and between two looks at the rules.
const INTERVAL: &str = "1s";

/// Killed when dropped.
pub(super) struct Prometheus {
    folder: tempfile::TempDir,
    url: String,
    client: reqwest::Client,
    /// Name, which is the label `instance`, and address.
    targets: Mutex<BTreeMap<String, String>>,
    /// Alerts that have fired and ended.
    seen: Mutex<BTreeSet<String>>,
    _child: Child,
}

impl Prometheus {
    /// It scrapes nothing yet. The rules are those of `deploy/`, hastened.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yml"), hastened()).unwrap();
        std::fs::write(folder.path().join("targets.json"), "[]").unwrap();
        let configuration = format!(
            "global: {{scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, evaluation_interval: {INTERVAL}}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: e2b-relay, file_sd_configs: [{{files: [targets.json], refresh_interval: 1s}}]}}]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), configuration).unwrap();
        let client = reqwest_client();
        for _ in 0..3 {
            // It cannot tell which port it got, so that one is chosen here; somebody may take it first.
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Command::new("prometheus")
                .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .expect("prometheus; tests/run installs it");
            let url = format!("http://127.0.0.1:{port}");
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().unwrap().is_none() {
                let ready = client.get(format!("{url}/-/ready")).send().await;
                if ready.is_ok_and(|reply| reply.status() == 200) {
                    return Self {
                        folder,
                        url,
                        client,
                        targets: Mutex::default(),
                        seen: Mutex::default(),
                        _child: child,
                    };
                }
                assert!(Instant::now() < deadline, "Prometheus is not ready in time");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        panic!("Prometheus does not start; it says why above");
    }

    /// Scrapes the admin listener at `address` as `instance` from now on.
    pub(super) fn scrape(&self, instance: &str, address: &str) {
        self.targets.lock().unwrap().insert(instance.to_owned(), address.to_owned());
        self.write_targets();
    }

    /// Does not scrape it any more.
    pub(super) fn leave(&self, instance: &str) {
        self.targets.lock().unwrap().remove(instance);
        self.write_targets();
    }

    fn write_targets(&self) {
        let targets = self.targets.lock().unwrap();
        let targets: Value =
            targets.iter().map(|(name, address)| json!({"targets": [address], "labels": {"instance": name}})).collect();
        let path = self.folder.path().join("targets.json");
        std::fs::write(path.with_extension("new"), targets.to_string()).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), parameters).unwrap();
        let answer: Value = self.client.get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"].clone()
    }

    /// Labels and value of each series that an expression has now.
    pub(super) async fn query(&self, expression: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let data = self.get("query", &[("query", expression)]).await;
        let series = data["result"].as_array().unwrap().iter();
        let value = |one: &Value| one["value"][1].as_str().unwrap().parse().unwrap();
        series.map(|one| (serde_json::from_value(one["metric"].clone()).unwrap(), value(one))).collect()
    }

    /// An alert of an instance that fires now.
    async fn firing(&self, name: &str, instance: &str) -> Option<Value> {
        let data = self.get("alerts", &[]).await;
        let mut alerts = data["alerts"].as_array().unwrap().iter();
        let is_it = |one: &&Value| {
            one["state"] == "firing" && one["labels"]["alertname"] == name && one["labels"]["instance"] == instance
        };
        alerts.find(is_it).cloned()
    }

    /// Waits until it fires.
    pub(super) async fn fires(&self, name: &str, instance: &str) {
        let began = Instant::now();
        let alert =
            self.until(&format!("{name} fires for {instance}"), async || self.firing(name, instance).await).await;
        println!("{name} fires for {instance} after {:.1?}: {}", began.elapsed(), alert["annotations"]["summary"]);
        // What a template cannot fill in.
        let said = alert["annotations"].to_string();
        assert!(!said.contains("no value") && !said.contains("{{") && !said.contains("error"), "{said}");
    }

    /// Waits until it does not fire any more.
    pub(super) async fn clears(&self, name: &str, instance: &str) {
        let began = Instant::now();
        let is_over = async || self.firing(name, instance).await.is_none().then_some(());
        self.until(&format!("{name} ends for {instance}"), is_over).await;
        println!("{name} ends for {instance} after {:.1?}", began.elapsed());
        self.seen.lock().unwrap().insert(name.to_owned());
    }

    /// The alerts that have ended before eyes.
    pub(super) fn seen(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits for it.
    pub(super) async fn until<T>(&self, what: &str, found: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found().await {
                return found;
            }
            assert!(Instant::now() < deadline, "not in time: {what}\n{:#}", self.get("alerts", &[]).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every alert that has fired for an instance since it was first scraped.
    pub(super) async fn ever_fired(&self, instance: &str) -> Vec<String> {
        let expression = format!("max_over_time(ALERTS{{alertstate=\"firing\", instance=\"{instance}\"}}[1h])");
        self.query(&expression).await.into_iter().map(|(labels, _)| labels["alertname"].clone()).collect()
    }
}
