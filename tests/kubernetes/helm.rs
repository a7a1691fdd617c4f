//! The chart, rendered by Helm: where it is on the PATH or was built before, and in the soak, which builds it.

use super::{chart, check, committed, repository, validate};
use crate::support::seed::soak;
use crate::support::yaml;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::future::IntoFuture;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// A Helm that Go has built by itself knows no version of Kubernetes and takes an old one.
const VERSION: [&str; 2] = ["--kube-version", "1.37.0"];
/// To build it takes minutes, where nobody has.
const BUILD: Duration = Duration::from_secs(1800);

/// `None` where there is none; never in the soak.
async fn helm() -> Option<PathBuf> {
    let mut command = Command::new(repository().join("tests/kubernetes/helm"));
    command.stderr(Stdio::inherit()).kill_on_drop(true);
    if soak() {
        command.arg("fetch");
    }
    let output = tokio::time::timeout(BUILD, command.output()).await.expect("it does not end").unwrap();
    assert!(output.status.success(), "Helm cannot be had: run tests/kubernetes/helm fetch");
    let path = String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
    if path.is_empty() {
        println!("no helm on the PATH, and none was built: the committed manifests alone are tested");
    }
    (!path.is_empty()).then(|| path.into())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A command of Helm's on the chart, with further arguments.
async fn on_chart(helm: &PathBuf, command: &[&str], arguments: &[&str]) -> Output {
    let mut helm = Command::new(helm);
    helm.args(command).arg(chart()).args(VERSION).args(arguments).kill_on_drop(true).output().await.unwrap()
}

async fn render(helm: &PathBuf, arguments: &[&str]) -> Vec<Value> {
    let output = on_chart(helm, &["template", "relay", "--namespace", "events"], arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    validate(&String::from_utf8(output.stdout).unwrap()).await.unwrap_or_else(|fault| panic!("{arguments:?}: {fault}"))
}

#[tokio::test]
async fn the_committed_manifests_are_what_the_chart_renders() {
    let Some(helm) = helm().await else { return };
    let render = repository().join("deploy/kubernetes/render");
    let output = Command::new(render).env("HELM", helm).kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // Not the text: another Helm may set its lines otherwise.
    let rendered = validate(&String::from_utf8(output.stdout).unwrap()).await.unwrap();
    let committed = validate(&committed()).await.unwrap();
    let differ = |(rendered, committed): &(&Value, &Value)| rendered != committed;
    let differing: Vec<_> = rendered.iter().zip(&committed).filter(differ).collect();
    let same = differing.is_empty() && rendered.len() == committed.len();
    assert!(same, "deploy/kubernetes/render makes them anew; rendered and committed: {differing:#?}");
}

/// The values in `tests/kubernetes/values`, and the defaults.
#[tokio::test]
async fn every_set_of_values_renders_is_taken_and_configures_a_daemon() {
    let Some(helm) = helm().await else { return };
    let folder = repository().join("tests/kubernetes/values");
    let mut sets: Vec<Option<PathBuf>> =
        std::fs::read_dir(folder).unwrap().map(|entry| Some(entry.unwrap().path())).collect();
    assert!(sets.len() >= 3);
    sets.push(None);
    let mut ruled = false;
    for set in sets {
        let arguments = set.iter().flat_map(|file| ["--values", file.to_str().unwrap()]).collect::<Vec<_>>();
        let lint = on_chart(&helm, &["lint", "--strict"], &arguments).await;
        assert!(lint.status.success(), "{arguments:?}: {}", said(&lint));
        let manifests = render(&helm, &arguments).await;
        check(&manifests).await;
        for rules in manifests.iter().filter(|one| one["kind"] == "PrometheusRule") {
            assert_eq!(rules["spec"], yaml::file("deploy/prometheus/rules.yml"));
            ruled = true;
        }
        println!("{arguments:?}: {} manifests", manifests.len());
    }
    assert!(ruled, "no set has the alert rules");
}

#[tokio::test]
async fn what_the_chart_cannot_do_is_refused_with_the_reason() {
    let Some(helm) = helm().await else { return };
    for (set, reason) in [
        ("replicaCount=2", "each replica would have a store of its own"),
        ("config.server.listen=0.0.0.0:80", "set listenAddress, or service.port"),
        ("config.admin.listen=0.0.0.0:80", "set listenAddress"),
        ("config.server.tls.cert_file=x", "set tls.existingSecret"),
        ("config.admin.token_file=x", "set adminToken"),
        ("config.store.path=/data", "it is on the volume of persistence"),
        ("ingress.enabled=true", "ingress.host"),
        ("image.pullpolicy=Always", "pullpolicy"),
        ("ingress.enabled=true,ingress.host=x.example.com,config.sources.a.api.api_key=x", "nothing to route"),
    ] {
        let output = on_chart(&helm, &["template", "relay"], &["--set", set]).await;
        let said = said(&output);
        assert!(!output.status.success() && said.contains(reason), "{set}: {said}");
    }
}

/// Of a cluster's API what the chart asks, with one half of the Secret there: an upgrade from a version that made no token.
#[tokio::test]
async fn a_secret_that_the_cluster_has_is_kept() {
    let Some(helm) = helm().await else { return };
    let kinds = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources":
        [{"name": "secrets", "singularName": "secret", "namespaced": true, "kind": "Secret", "verbs": ["get"]}]});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "relay-e2b-relay-secrets"},
        "data": {"webhook-secret": "a2VwdA=="}});
    let cluster = Router::new()
        .route("/api/v1", get(|| async { Json(kinds) }))
        .route("/api/v1/namespaces/events/secrets/relay-e2b-relay-secrets", get(|| async { Json(secret) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(axum::serve(listener, cluster).into_future());
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server}}], "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]});
    let file = folder.path().join("config");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(helm);
    command.args(["template", "relay", "--namespace", "events", "--dry-run=server"]).args(VERSION).arg(chart());
    let output = command.env("KUBECONFIG", file).env("NO_PROXY", "*").kill_on_drop(true).output().await.unwrap();
    serving.abort();
    assert!(output.status.success(), "{}", said(&output));
    let manifests = validate(&String::from_utf8(output.stdout).unwrap()).await.unwrap();
    let data = &manifests.iter().find(|one| one["kind"] == "Secret").unwrap()["data"];
    assert_eq!(data["webhook-secret"], "a2VwdA==");
    assert_eq!(data["admin-token"].as_str().unwrap().len(), 64, "what is missing is drawn");
}

#[tokio::test]
async fn secrets_are_drawn_anew_only_where_none_is_named() {
    let Some(helm) = helm().await else { return };
    let drawn = |manifests: &[Value]| {
        let secret = manifests.iter().find(|one| one["kind"] == "Secret");
        secret.map(|secret| secret["data"].as_object().unwrap().clone()).unwrap_or_default()
    };
    let (one, another) = (drawn(&render(&helm, &[]).await), drawn(&render(&helm, &[]).await));
    for name in ["webhook-secret", "admin-token"] {
        let secret = one[name].as_str().unwrap();
        assert!(secret.len() == 64 && another[name] != secret, "{name}");
    }
    let named = ["--set", "secrets.existingSecret=a,adminToken.existingSecret=b"];
    assert!(drawn(&render(&helm, &named).await).is_empty());
    let own = ["--set", "secrets.existingSecret=a,adminToken.create=false"];
    assert!(drawn(&render(&helm, &own).await).is_empty());
}
