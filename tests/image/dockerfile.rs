//! The Dockerfile: by its linter, and by what the chart, Cargo.toml and the binary say.

use super::{read, repository};
use crate::sdk::python;
use crate::support::daemon::Home;
use crate::support::load::SECRET;
use crate::support::yaml;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const FILE: &str = "deploy/docker/Dockerfile";

/// Its instructions, each on one line, with what the first word is.
fn instructions() -> Vec<(String, String)> {
    let text: String =
        read(FILE).lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| line.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).unwrap())
        .collect()
}

/// What the instructions of a name say, in the last stage.
fn last_stage(name: &str) -> Vec<String> {
    let mut said = Vec::new();
    for (instruction, rest) in instructions() {
        if instruction == "FROM" {
            said.clear();
        } else if instruction == name {
            said.push(rest);
        }
    }
    assert!(!said.is_empty(), "no {name}");
    said
}

fn only(name: &str) -> String {
    let [only] = &last_stage(name)[..] else { panic!("not one {name}") };
    only.clone()
}

/// A line `name = "value"` of Cargo.toml's first section.
fn of_package(name: &str) -> String {
    let text = read("Cargo.toml");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = \""))).unwrap();
    line.strip_suffix('"').unwrap().to_owned()
}

/// What the linter says of a text; nothing, if it is content.
async fn lint(text: &str) -> String {
    let hadolint = Path::new(&python().await).parent().unwrap().join("hadolint");
    let mut command = Command::new(hadolint);
    command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[tokio::test]
async fn its_linter_finds_nothing_and_would() {
    let text = read(FILE);
    assert_eq!(lint(&text).await, "");
    for (right, wrong, told) in [
        ("# hadolint ignore=DL3008\n", "", "DL3008"),
        ("rust:1.91-slim-trixie AS root", "rust AS root", "DL3006"),
        ("--no-install-recommends ", "", "DL3015"),
        ("CMD [\"run\", ", "CMD [\"run\" ", "DL3025"),
        ("USER 65532:65532\n", "USER root\n", "DL3002"),
    ] {
        assert!(text.contains(right), "{right}");
        let said = lint(&text.replacen(right, wrong, 1)).await;
        assert!(said.contains(told), "{wrong}: {said}");
    }
}

#[test]
fn it_is_of_this_version_and_built_with_the_oldest_rust() {
    let base = format!("rust:{}-slim-trixie", of_package("rust-version"));
    let froms: Vec<String> = instructions().into_iter().filter(|(name, _)| name == "FROM").map(|(_, of)| of).collect();
    assert_eq!(froms, [format!("{base} AS build"), format!("{base} AS root"), "scratch".to_owned()]);
    let labels = only("LABEL");
    for (label, value) in [
        ("title", of_package("name")),
        ("description", of_package("description")),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("licenses", of_package("license")),
    ] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=\"{value}\"")), "{label}: {labels}");
    }
    let builds = instructions().into_iter().find(|(_, rest)| rest.contains("cargo build")).unwrap().1;
    assert!(builds.contains("--locked") && builds.contains("E2B_RELAY_REVISION="), "{builds}");
    assert!(read("src/app.rs").contains("option_env!(\"E2B_RELAY_REVISION\")"));
}

#[test]
fn its_user_folders_ports_and_arguments_are_those_of_the_chart() {
    let manifests = yaml::documents("deploy/kubernetes/e2b-relay.yaml");
    let set = manifests.iter().find(|one| one["kind"] == "StatefulSet").unwrap();
    let pod = &set["spec"]["template"]["spec"];
    let security = &pod["securityContext"];
    let user = format!("{}:{}", security["runAsUser"], security["runAsGroup"]);
    assert_eq!(only("USER"), user);
    let container = &pod["containers"][0];
    let data = container["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "data").unwrap();
    let data = data["mountPath"].as_str().unwrap();
    assert_eq!((only("VOLUME"), only("WORKDIR")), (format!("[\"{data}\"]"), data.to_owned()));
    assert_eq!(only("ENV"), format!("TMPDIR={data}"), "the one place that can be written");
    assert!(last_stage("COPY").contains(&format!("--from=root --chown={user} /data {data}")), "a new volume's owner");
    let ports: Vec<String> =
        container["ports"].as_array().unwrap().iter().map(|port| port["containerPort"].to_string()).collect();
    assert_eq!(only("EXPOSE"), ports.join(" "));
    let own: Vec<Value> = serde_json::from_str(&only("CMD")).unwrap();
    assert_eq!(
        own[..3],
        container["args"].as_array().unwrap()[..3],
        "the chart gives its own arguments to the same entry"
    );
    assert_eq!(only("ENTRYPOINT"), "[\"/usr/bin/e2b-relay\"]");
    let (liveness, startup) = (&container["livenessProbe"], &container["startupProbe"]);
    let health = only("HEALTHCHECK");
    let minutes = startup["periodSeconds"].as_u64().unwrap() * startup["failureThreshold"].as_u64().unwrap() / 60;
    for part in [
        format!("--interval={}s ", liveness["periodSeconds"]),
        format!("--timeout={}s ", liveness["timeoutSeconds"]),
        format!("--retries={} ", liveness["failureThreshold"]),
        format!("--start-period={minutes}m "),
    ] {
        assert!(health.contains(&part), "{part}: {health}");
    }
}

/// What `.dockerignore` lets through.
fn let_through() -> BTreeSet<String> {
    let text = read(".dockerignore");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines[0], "*");
    lines[1..].iter().map(|line| line.strip_prefix('!').expect(line).to_owned()).collect()
}

#[test]
fn what_is_copied_is_there_is_let_through_and_is_all_that_the_crate_is_built_from() {
    let mut copied = BTreeSet::new();
    for (_, rest) in instructions().into_iter().filter(|(name, rest)| name == "COPY" && !rest.contains("--from=")) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        copied.extend(words[..words.len() - 1].iter().map(|&word| word.to_owned()));
    }
    for path in &copied {
        assert!(repository().join(path).exists(), "{path}");
    }
    assert_eq!(let_through(), copied);
    let mut included = 0;
    let mut folders = vec![repository().join("src")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for name in text.split("include_str!(\"").skip(1) {
                let whole = folder.join(name.split_once('"').unwrap().0).canonicalize().unwrap();
                let below = whole.strip_prefix(repository().canonicalize().unwrap()).unwrap().to_owned();
                assert!(copied.iter().any(|copied| below.starts_with(copied)), "{}: not copied", below.display());
                included += 1;
            }
        }
    }
    assert!(included > 3, "only {included} includes were found");
}

/// The image's own judgement, of a daemon that lives and of one that does not any more.
#[tokio::test]
async fn the_health_check_fails_when_the_daemon_is_gone() {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    let daemon = home.start().await;
    let health = only("HEALTHCHECK");
    let words: Vec<String> = serde_json::from_str(health.split_once(" CMD ").unwrap().1).unwrap();
    assert_eq!(words[0], "/usr/bin/e2b-relay");
    let arguments: Vec<String> = words[1..].iter().map(|word| word.replace("127.0.0.1:9464", &daemon.admin)).collect();
    assert_ne!(arguments, words[1..], "{words:?}");
    let check = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_e2b-relay"));
        // The next configuration, with a fault in it, says nothing of the daemon that runs.
        command.args(&arguments).env_clear().current_dir(home.path()).kill_on_drop(true);
        command.output().await.unwrap().status.code()
    };
    std::fs::write(home.configuration(), "sinks: {}\n").unwrap();
    assert_eq!(check().await, Some(0));
    assert!(daemon.terminate().await.success());
    assert_eq!(check().await, Some(69));
}
