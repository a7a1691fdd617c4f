//! The manifests in `deploy/kubernetes`, as they are committed: by Kubernetes' own schemas, and by running what they
//! configure. Whether they are what the chart renders is `helm`'s part.

mod chart;
mod helm;

use crate::sdk::script_at;
use crate::support::daemon::{Home, PATIENCE, reqwest_client};
use crate::support::load::SECRET;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The oldest that the chart's `kubeVersion` takes, and the latest that the schemas know.
const VERSIONS: [&str; 2] = ["1.27", "1.37"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn committed() -> String {
    std::fs::read_to_string(repository().join("deploy/kubernetes/e2b-relay.yaml")).unwrap()
}

/// The manifests of a text, once Kubernetes' schemas have taken them; else what they say.
async fn validate(text: &str) -> Result<Vec<Value>, String> {
    let mut command = script_at("tests/kubernetes/validate.py").await;
    command.args(VERSIONS).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = text.to_owned();
    let fed = tokio::spawn(async move { input.write_all(text.as_bytes()).await });
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it does not end").unwrap();
    fed.await.unwrap().unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The only one of its kind, or of its kind and name.
fn only<'a>(manifests: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = manifests.iter().filter(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    let (Some(only), None) = (found.next(), found.next()) else { panic!("not one {kind} {name}") };
    only
}

/// The configuration in a rendered ConfigMap or Secret, with the pod's folders put below `home`.
fn configuration(manifests: &[Value], home: &Path) -> String {
    let held = manifests.iter().find(|one| one["metadata"]["name"].as_str().unwrap().ends_with("-config")).unwrap();
    let data = if held["kind"] == "Secret" { &held["stringData"] } else { &held["data"] };
    let folder = home.to_str().unwrap();
    ["/run/secrets/e2b-relay", "/var/lib/e2b-relay"]
        .iter()
        .fold(data["e2b-relay.yaml"].as_str().unwrap().to_owned(), |text, of_pod| text.replace(of_pod, folder))
}

/// What a Secret would put beside it.
fn put_secrets(folder: &Path) {
    let files = [
        ("webhook-secret", SECRET),
        ("other-secret", "another-secret-of-32-characters-or-so"),
        ("admin-token", "operators-token-of-the-test"),
        ("api-key", crate::simulate::KEY),
        ("kafka-password", "password"),
        ("amqp-url", "amqp://relay:password@127.0.0.1/%2f"),
    ];
    for (name, content) in files {
        std::fs::write(folder.join(name), format!("{content}\n")).unwrap();
    }
}

/// `e2b-relay check` on what was rendered.
async fn check(manifests: &[Value]) {
    let folder = tempfile::tempdir().unwrap();
    put_secrets(folder.path());
    // Certificates are read when the listener begins.
    let file = folder.path().join("e2b-relay.yaml");
    std::fs::write(&file, configuration(manifests, folder.path())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.args(["check", "--config"]).arg(&file).env("E2B_API_KEY", crate::simulate::KEY).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it does not end").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_committed_manifests_are_what_kubernetes_takes() {
    let manifests = validate(&committed()).await.unwrap();
    let kinds: Vec<&str> = manifests.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    for kind in ["StatefulSet", "ConfigMap", "Service", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    assert!(!kinds.contains(&"Secret"), "secrets are named, not committed");
    for file in ["namespace.yaml", "kustomization.yaml"] {
        let text = std::fs::read_to_string(repository().join("deploy/kubernetes").join(file)).unwrap();
        if file == "namespace.yaml" {
            validate(&text).await.unwrap();
        } else {
            assert!(text.contains("\n  - namespace.yaml\n  - e2b-relay.yaml\n"), "{text}");
        }
    }
    check(&manifests).await;
}

#[tokio::test]
async fn a_manifest_with_a_fault_is_seen() {
    let text = committed();
    for (right, wrong, told) in [
        ("readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "readOnlyRootFileSystem"),
        ("replicas: 1\n", "replicas: one\n", "replicas"),
        ("kind: NetworkPolicy", "kind: NetworkPolitics", "NetworkPolitics"),
        ("serviceName: ", "serviceNames: ", "serviceName"),
        ("replicas: 1\n", "replicas: 1\n  replicas: 1\n", "stands twice"),
    ] {
        assert!(text.contains(right), "{right}");
        let fault = validate(&text.replacen(right, wrong, 1)).await.expect_err(wrong);
        assert!(fault.contains(told), "{wrong}: {fault}");
    }
}

/// As the profile `restricted` of the Pod Security Standards wants it, and with nothing writable but the volume.
fn assert_restricted(pod: &Value) {
    let security = &pod["securityContext"];
    assert_eq!(
        (&security["runAsNonRoot"], &security["seccompProfile"]),
        (&json!(true), &json!({"type": "RuntimeDefault"}))
    );
    assert!(security["runAsUser"].as_u64().is_some_and(|user| user > 0), "{security}");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false, "E2B_RELAY_… are the relay's own variables");
    for name in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod.get(name).is_none(), "{name}");
    }
    let [container] = &pod["containers"].as_array().unwrap()[..] else { panic!("not one container") };
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(mount["name"] == "data" || mount["readOnly"] == true, "{mount}");
    }
}

#[tokio::test]
async fn the_pod_has_no_more_rights_than_it_needs_and_time_to_end() {
    let manifests = validate(&committed()).await.unwrap();
    let set = &only(&manifests, "StatefulSet", "e2b-relay")["spec"];
    assert_eq!(set["replicas"], 1);
    let pod = &set["template"]["spec"];
    assert_restricted(pod);
    let ending = e2b_relay::app::LAST_REQUESTS + e2b_relay::deliver::DRAIN + e2b_relay::app::LAST_LINES;
    let given = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(
        given >= 2 * ending,
        "{given:?} to end, and the daemon may drain for {ending:?}, and closes the store then"
    );
    let probe = &pod["containers"][0]["startupProbe"];
    let recovery = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
    assert!(recovery >= 600, "{recovery} s to open the store");
    // The claim holds what the store may grow to.
    let claim = &set["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
    assert_eq!(claim, "20Gi");
    let store = e2b_relay::store::Settings::default();
    assert!(store.max_size.as_u64() + store.max_samples_size.as_u64() < 15 << 30, "the chart's volume is too small");
    let admin = &only(&manifests, "Service", "e2b-relay-admin")["spec"];
    assert_eq!((&set["serviceName"], &admin["clusterIP"]), (&json!("e2b-relay-admin"), &json!("None")));
    assert_eq!(admin["ports"][0]["targetPort"], "admin");
    assert_eq!(
        only(&manifests, "Service", "e2b-relay")["spec"]["ports"].as_array().unwrap().len(),
        1,
        "deliveries only"
    );
}

#[tokio::test]
async fn the_daemon_runs_as_configured_and_answers_its_probes() {
    let manifests = validate(&committed()).await.unwrap();
    let home = Home::new("");
    put_secrets(home.path());
    let text = configuration(&manifests, home.path());
    for listen in ["0.0.0.0:8080", "0.0.0.0:9464"] {
        assert!(text.contains(listen), "{text}");
    }
    let text = text.replace("0.0.0.0:8080", "127.0.0.1:0").replace("0.0.0.0:9464", "127.0.0.1:0");
    std::fs::write(home.configuration(), text).unwrap();
    let daemon = home.start().await;
    let container = &only(&manifests, "StatefulSet", "e2b-relay")["spec"]["template"]["spec"]["containers"][0];
    let args: Vec<&str> = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    assert_eq!(args[..3], ["run", "--config", "/etc/e2b-relay/e2b-relay.yaml"]);
    let ports: Vec<&Value> = container["ports"].as_array().unwrap().iter().collect();
    assert_eq!((&ports[0]["name"], &ports[0]["containerPort"]), (&json!("public"), &json!(8080)));
    assert_eq!((&ports[1]["name"], &ports[1]["containerPort"]), (&json!("admin"), &json!(9464)));
    let client = reqwest_client();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"], "admin", "{probe}");
        let url = format!("http://{}{}", daemon.admin, get["path"].as_str().unwrap());
        assert_eq!(client.get(&url).send().await.unwrap().status(), 200, "{probe}: {url}");
    }
    // What a load balancer asks, and what a Pod asks by the name of the service.
    assert_eq!(client.get(format!("http://{}/readyz", daemon.public)).send().await.unwrap().status(), 200);
    for (host, status) in [("e2b-relay-admin.e2b-relay.svc:9464", 200), ("elsewhere.e2b-relay.svc:9464", 421)] {
        let url = format!("http://{}/metrics", daemon.admin);
        assert_eq!(client.get(url).header("host", host).send().await.unwrap().status(), status, "{host}");
    }
    // With no admin-token in the Secret the daemon makes its own, on the volume.
    assert!(home.path().join("data/admin-token").is_file());
    assert!(daemon.terminate().await.success());
}

/// The folder of the chart.
fn chart() -> PathBuf {
    repository().join("deploy/helm/e2b-relay")
}
