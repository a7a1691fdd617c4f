//! The composition: by the Compose specification's schema, and each address, name, path, port and version in it by what it
//! stands for.

use super::{ending, faults, read, repository, schema};
use crate::support::daemon::PATIENCE;
use crate::support::load::SECRET;
use crate::support::yaml;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use tokio::process::Command;

const FILE: &str = "deploy/docker/compose.yaml";
/// What paths in it count from.
const FOLDER: &str = "deploy/docker";

/// A service's part of the file, with what it shares.
pub(super) fn service(name: &str) -> Value {
    yaml::file(FILE)["services"][name].clone()
}

fn services() -> serde_json::Map<String, Value> {
    yaml::file(FILE)["services"].as_object().unwrap().clone()
}

fn list<'a>(of: &'a Value, name: &str) -> Vec<&'a str> {
    of[name].as_array().map(|list| list.iter().map(|one| one.as_str().unwrap()).collect()).unwrap_or_default()
}

/// What is mounted from the repository, and where; names of volumes are left out.
fn mounts(service: &Value) -> Vec<(PathBuf, String)> {
    let volumes = list(service, "volumes").into_iter().filter(|volume| volume.starts_with('.'));
    let mounts = volumes.map(|volume| {
        let [from, to, "ro"] = volume.split(':').collect::<Vec<_>>()[..] else { panic!("{volume}: not read-only") };
        (repository().join(FOLDER).join(from), to.to_owned())
    });
    mounts.collect()
}

/// The relay's configuration with the container's folders in another one.
pub(super) fn relay_in(folder: &str) -> String {
    let text = read("deploy/docker/compose/relay.yaml");
    let secrets = repository().join("deploy/docker/compose/secrets");
    text.replace("/run/secrets", secrets.to_str().unwrap()).replace("/var/lib/e2b-relay", folder)
}

#[tokio::test]
async fn it_is_what_the_specification_allows() {
    let (schema, file) = (schema("compose-spec.json").await, yaml::file(FILE));
    assert_eq!(faults(&schema, &file), [""; 0]);
    for (place, wrong) in [
        ("/services/relay/read_onyl", json!(true)),
        ("/services/relay/depends_on/nats/condition", json!("service_well")),
        ("/services/nats/healthcheck/test", json!(5)),
        ("/secrets/admin-token/path", json!("x")),
    ] {
        let mut file = file.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        file.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), wrong);
        assert_ne!(faults(&schema, &file), [""; 0], "{place}");
    }
}

#[test]
fn what_a_service_names_is_there() {
    let (file, services) = (yaml::file(FILE), services());
    let (mut named, mut ports) = (BTreeSet::new(), BTreeSet::new());
    let mut mounted = 0;
    for (name, service) in &services {
        for (path, _) in mounts(service) {
            assert!(path.is_file(), "{name}: {}", path.display());
            mounted += 1;
        }
        for volume in list(service, "volumes").into_iter().filter(|volume| !volume.starts_with('.')) {
            named.insert(volume.split(':').next().unwrap().to_owned());
        }
        for secret in list(service, "secrets") {
            let path = file["secrets"][secret]["file"].as_str().unwrap_or_else(|| panic!("{name}: {secret}"));
            let text = std::fs::read_to_string(repository().join(FOLDER).join(path)).unwrap();
            assert!(text.len() > 16 && text.lines().count() == 1, "{secret}");
        }
        for port in list(service, "ports") {
            let [address, outside, inside] = port.split(':').collect::<Vec<_>>()[..] else { panic!("{port}") };
            assert_eq!(
                (address, outside),
                ("127.0.0.1", inside),
                "{name}: this machine's own, and told as it is inside"
            );
            assert!(ports.insert(outside.to_owned()), "{name}: {outside} is taken twice");
        }
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let well = services[other.as_str()]["healthcheck"]["test"].is_array();
            assert!(how["condition"] != "service_healthy" || well, "{name}: nobody tells whether {other} is healthy");
        }
        if let Some(build) = service.get("build") {
            let context = repository().join(FOLDER).join(build["context"].as_str().unwrap());
            assert!(context.join(build["dockerfile"].as_str().unwrap()).is_file(), "{name}");
            assert_eq!(service["image"], format!("e2b-relay:{}", env!("CARGO_PKG_VERSION")), "{name}");
            assert_eq!(service["pull_policy"], "build", "{name}: an image of that name on a registry is not ours");
        }
    }
    let declared: BTreeSet<String> = file["volumes"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(named, declared);
    assert!(mounted >= 6 && ports.len() >= 8, "{mounted} {ports:?}");
    let grace = services["relay"]["stop_grace_period"].as_str().unwrap();
    assert!(humantime::parse_duration(grace).unwrap() >= 2 * ending(), "{grace}");
}

/// A line of a script or a pom that ends the search.
fn version_in(path: &str, before: &str, after: &str) -> String {
    let text = read(path);
    let rest = text.split_once(before).unwrap_or_else(|| panic!("{path}: {before}")).1;
    rest.split_once(after).unwrap().0.to_owned()
}

#[test]
fn brokers_are_of_the_versions_that_the_tests_run_against() {
    let kafka = version_in("tests/brokers/pom.xml", "<version>1</version>", "</dependency>");
    let kafka = kafka.split_once("<version>").unwrap().1.split_once("</version>").unwrap().0.to_owned();
    for name in ["kafka", "kafka-topics"] {
        assert_eq!(service(name)["image"], format!("apache/kafka:{kafka}"), "{name}");
    }
    let nats = version_in("tests/brokers/nats", "version=v", "\n");
    assert_eq!(service("nats")["image"], format!("nats:{nats}-alpine"));
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap();
        let (_, version) = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image} has no version"));
        assert!(version.contains(|letter: char| letter.is_ascii_digit()), "{name}: {image}");
    }
}

#[tokio::test]
async fn the_relay_finds_everybody_by_name_and_password() {
    let text = read("deploy/docker/compose/relay.yaml");
    let relay: Value = yaml::file("deploy/docker/compose/relay.yaml");
    let e2b = &relay["sources"]["e2b"];
    let [kafka] = &list(&relay["sinks"]["lake"], "brokers")[..] else { panic!("{text}") };
    let environment =
        |service: &str, name: &str| self::service(service)["environment"][name].as_str().unwrap().to_owned();
    assert!(environment("kafka", "KAFKA_ADVERTISED_LISTENERS").contains(&format!("://{kafka},")), "{kafka}");
    let topic = format!("--topic={}", relay["sinks"]["lake"]["topic"].as_str().unwrap());
    assert!(list(&service("kafka-topics"), "command").contains(&topic.as_str()), "{topic}");
    let (user, password) =
        (environment("rabbitmq", "RABBITMQ_DEFAULT_USER"), environment("rabbitmq", "RABBITMQ_DEFAULT_PASS"));
    assert_eq!(relay["sinks"]["queue"]["url"], format!("amqp://{user}:{password}@rabbitmq:5672/%2f"));
    let nats = service("nats");
    let of_nats = |flag: &str| {
        let given = list(&nats, "command").into_iter().find_map(|argument| argument.strip_prefix(flag));
        given.unwrap_or_else(|| panic!("{flag}")).to_owned()
    };
    let [server] = &list(&relay["sinks"]["bus"], "servers")[..] else { panic!("{text}") };
    assert_eq!(*server, format!("nats://{}:{}@nats:4222", of_nats("--user="), of_nats("--pass=")));
    let simulate = service("e2b");
    assert!(list(&simulate, "command").contains(&"--listen=0.0.0.0:3000"));
    assert_eq!(
        (&e2b["api"]["url"], &e2b["register"]["url"]),
        (&json!("http://e2b:3000"), &json!("http://relay:8080/webhooks/e2b"))
    );
    let (_, mounted) = mounts(&service("relay")).remove(0);
    let arguments: Vec<Value> = serde_json::from_str(&version_in("deploy/docker/Dockerfile", "\nCMD ", "\n")).unwrap();
    assert_eq!(arguments[2], mounted, "the image reads another file");

    let folder = tempfile::tempdir().unwrap();
    check(&relay_in(folder.path().to_str().unwrap()), "4 sinks").await;
}

/// `e2b-relay check` on a text, and what it says of it.
async fn check(text: &str, says: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("e2b-relay.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
    command.args(["check", "--config"]).arg(&file).env_clear().env("E2B_WEBHOOK_SECRET", SECRET).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it does not end").unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(says), "{said}");
}

#[tokio::test]
async fn the_readme_configures_a_container() {
    let readme = read("deploy/docker/README.md");
    let [block] = &readme.split("```yaml\n").skip(1).collect::<Vec<_>>()[..] else { panic!("not one block") };
    let block = block.split_once("```").unwrap().0;
    let folder = tempfile::tempdir().unwrap();
    check(&block.replace("/var/lib/e2b-relay", folder.path().to_str().unwrap()), "1 sink").await;
    for (_, to) in mounts(&service("relay")) {
        assert!(readme.contains(&format!(":{to}:ro")), "{to}");
    }
    // What it tells to look at is what is there.
    for service in services().values() {
        for port in list(service, "ports") {
            let outside = port.rsplit_once(':').unwrap().0;
            assert!(readme.contains(outside) || outside.ends_with(":5672"), "{outside}");
        }
    }
    let tag = format!("e2b-relay:{}", env!("CARGO_PKG_VERSION"));
    assert!(readme.matches(&tag).count() >= 2, "{tag}");
}

#[tokio::test]
async fn prometheus_takes_its_configuration_and_the_relay_answers_to_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for (path, to) in mounts(&service("prometheus")) {
        let name = to.strip_prefix("/etc/prometheus/").expect("where the image looks");
        std::fs::copy(path, folder.path().join(name)).unwrap();
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "config"]).arg(folder.path().join("prometheus.yml")).kill_on_drop(true);
    let output = promtool.output().await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("rules found"), "{said}");
    let job = &yaml::file("deploy/docker/compose/prometheus.yml")["scrape_configs"][0];
    assert_eq!(job["job_name"], "e2b-relay", "the rules want that name");
    let target = job["static_configs"][0]["targets"][0].as_str().unwrap();
    let relay = yaml::file("deploy/docker/compose/relay.yaml");
    let (host, port) = target.split_once(':').unwrap();
    assert!(
        services().contains_key(host) && list(&relay["admin"], "hosts").contains(&host),
        "{host} would be answered 421"
    );
    assert_eq!(relay["admin"]["listen"], format!("0.0.0.0:{port}"));
}

#[test]
fn grafana_has_the_dashboard_and_where_it_reads() {
    let mounts = mounts(&service("grafana"));
    let to =
        |name: &str| mounts.iter().find(|(path, _)| path.ends_with(name)).unwrap_or_else(|| panic!("{name}")).1.clone();
    let source = &yaml::file("deploy/docker/compose/grafana/datasources.yaml")["datasources"][0];
    assert!(to("grafana/datasources.yaml").starts_with("/etc/grafana/provisioning/datasources/"));
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/e2b-relay.json")).unwrap();
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!((&variable["type"], &variable["query"]), (&json!("datasource"), &source["type"]));
    assert!(services().contains_key("prometheus") && source["url"] == "http://prometheus:9090", "{source}");
    let scraped = &yaml::file("deploy/docker/compose/prometheus.yml")["global"]["scrape_interval"];
    assert_eq!(&source["jsonData"]["timeInterval"], scraped);
    let provider = &yaml::file("deploy/docker/compose/grafana/dashboards.yaml")["providers"][0];
    assert!(to("grafana/dashboards.yaml").starts_with("/etc/grafana/provisioning/dashboards/"));
    let lies = to("grafana/e2b-relay.json");
    assert_eq!(lies, format!("{}/e2b-relay.json", provider["options"]["path"].as_str().unwrap()));
    assert_eq!(service("grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"], lies.as_str());
}
