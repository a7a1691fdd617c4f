//! The image, built as the Dockerfile says and run as a container: in the soak, for which `tests/run` makes what it begins
//! with. See `tests/image/container` for what stands in for a registry's Rust image.

use super::repository;
use crate::support::daemon::PATIENCE;
use crate::support::load::SECRET;
use crate::support::seed::soak;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// To make the base, where nobody has, and the image with everything that it is compiled from.
const BUILD: Duration = Duration::from_secs(3600);

/// No right that it could do without. The limits that podman would set by itself are more than some machines allow.
const CONFINED: [&str; 10] = [
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "all",
    "--security-opt",
    "no-new-privileges",
    "--ulimit",
    "nofile=16384:16384",
    "--ulimit",
    "nproc=4096:4096",
];

/// A store of images and containers, and podman on it.
struct Store {
    folder: tempfile::TempDir,
}

impl Store {
    async fn script(&self, verb: &str, arguments: &[&str], patience: Duration) -> Output {
        let mut command = Command::new(repository().join("tests/image/container"));
        command.arg(verb).arg(self.folder.path()).args(arguments).kill_on_drop(true);
        tokio::time::timeout(patience, command.output()).await.unwrap_or_else(|_| panic!("{arguments:?}")).unwrap()
    }

    /// What podman ended with and said.
    async fn podman(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.script("podman", arguments, PATIENCE).await;
        (output.status.code(), said(&output))
    }

    /// The same, where it must go well; what stands on standard output.
    async fn done(&self, arguments: &[&str]) -> String {
        let output = self.script("podman", arguments, PATIENCE).await;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A field of a container.
    async fn field(&self, field: &str) -> String {
        self.done(&["inspect", "relay", "--format", &format!("{{{{{field}}}}}")]).await
    }

    /// `podman run`, as the README says one should, in a network of its own, with nobody in it.
    async fn run(&self, how: &[&str], configuration: &Path, command: &[&str]) -> (Option<i32>, String) {
        let mount = format!("{}:/etc/e2b-relay:ro", configuration.display());
        let mounts = ["--volume", "data:/var/lib/e2b-relay", "--volume", &mount, "e2b-relay"];
        self.podman(&[&["run", "--network", "none"], &CONFINED[..], how, &mounts, command].concat()).await
    }

    /// Starts it, and waits until it is healthy.
    async fn start(&self, configuration: &Path) {
        // The interval is the service manager's, and there may be none.
        let how = ["--detach", "--name", "relay", "--health-interval", "disable"];
        let (code, said) = self.run(&how, configuration, &[]).await;
        assert_eq!(code, Some(0), "{said}");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.healthy().await != Some(0) {
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(
                in_time && self.field(".State.Running").await == "true",
                "{}",
                self.podman(&["logs", "relay"]).await.1
            );
        }
    }

    async fn healthy(&self) -> Option<i32> {
        self.podman(&["healthcheck", "run", "relay"]).await.0
    }

    /// A delivery from within; its answer.
    async fn deliver(&self, id: &str) -> Value {
        let set = format!("id={id}");
        let trigger = ["trigger", "killed", "--url", "http://localhost:8080/webhooks/e2b", "--secret", SECRET];
        let arguments =
            [&["exec", "relay", "/usr/bin/e2b-relay"], &trigger[..], &["--format", "json", "--set", &set]].concat();
        serde_json::from_str(&self.done(&arguments).await).unwrap()
    }

    /// SIGTERM, and what it ended with.
    async fn stop(&self) -> String {
        self.done(&["stop", "--time", "60", "relay"]).await;
        self.field(".State.ExitCode").await
    }
}

/// A test that fails leaves no container behind.
impl Drop for Store {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(repository().join("tests/image/container"));
        command.arg("podman").arg(self.folder.path()).args(["rm", "--force", "--all", "--time", "0"]);
        let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Each line `name: value` of what the kernel says of a process.
fn status(pid: &str, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap().split_whitespace().next().unwrap().to_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// For what ends by itself.
const ONCE: [&str; 2] = ["--rm", "--no-healthcheck"];

const CONFIGURATION: &str = "store: {path: /var/lib/e2b-relay/data}\n\
     sinks: {audit: {type: file, path: /var/lib/e2b-relay/audit.ndjson}}\n";

#[tokio::test]
async fn the_image_is_built_runs_without_rights_keeps_its_store_and_is_judged_right() {
    if !soak() {
        println!("in the soak only");
        return;
    }
    let store = Store { folder: tempfile::tempdir().unwrap() };
    let fetch = Command::new(repository().join("tests/image/container")).arg("fetch").kill_on_drop(true).output();
    let fetched = tokio::time::timeout(BUILD, fetch).await.expect("it does not end").unwrap();
    assert!(fetched.status.success(), "{}", said(&fetched));
    let built = store.script("build", &[], BUILD).await;
    assert!(built.status.success(), "{}", said(&built));
    holds_what_it_needs(&store).await;

    let configuration = tempfile::tempdir().unwrap();
    let file = configuration.path().join("e2b-relay.yaml");
    // Its own user reads it, whoever that is out here.
    std::fs::set_permissions(configuration.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(&file, format!("sources: {{a: {{webhook: {{secrets: ['{SECRET}']}}}}}}\n{CONFIGURATION}")).unwrap();
    store.start(configuration.path()).await;
    let pid = store.field(".State.Pid").await;
    for (name, value) in
        [("Uid", "65532"), ("Gid", "65532"), ("CapEff", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")]
    {
        assert_eq!(status(&pid, name), value, "{name}");
    }
    let answer = store.deliver("one").await;
    assert_eq!((&answer["status"], &answer["body"]["id"]), (&200.into(), &"one".into()), "{answer}");
    // Commands find daemon and token by the configuration.
    let sinks = store.done(&["exec", "relay", "e2b-relay", "sinks", "list", "--format", "json"]).await;
    let sinks: Value = serde_json::from_str(&sinks).unwrap();
    assert_eq!(sinks["sinks"][0]["up"], true, "{sinks}");
    assert_ne!(store.podman(&["exec", "relay", "sh"]).await.0, Some(0), "a shell");

    // One that stands still does not answer; nothing of its configuration on the disk makes it unhealthy.
    std::fs::write(&file, "sinks: {}\n").unwrap();
    assert_eq!(store.healthy().await, Some(0));
    let process = Pid::from_raw(pid.parse().unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    assert_eq!(store.healthy().await, Some(1));
    kill_process(process, Signal::CONT).unwrap();
    assert_eq!(store.healthy().await, Some(0));
    assert_eq!(store.stop().await, "0");

    // Another container takes over the volume, as in an upgrade.
    store.done(&["rm", "relay"]).await;
    let (code, said) = store.run(&ONCE, configuration.path(), &[]).await;
    assert!(code == Some(78) && said.contains("/etc/e2b-relay/e2b-relay.yaml"), "{code:?}: {said}");
    std::fs::write(&file, format!("sources: {{a: {{webhook: {{secrets: ['{SECRET}']}}}}}}\n{CONFIGURATION}")).unwrap();
    store.start(configuration.path()).await;
    let answer = store.deliver("one").await;
    assert_eq!((&answer["status"], &answer["body"]["duplicate"]), (&200.into(), &true.into()), "{answer}");
    assert_eq!(store.deliver("two").await["status"], 200);
    assert_eq!(store.stop().await, "0");
    store.done(&["rm", "relay"]).await;
    let volume = store.done(&["volume", "inspect", "data", "--format", "{{.Mountpoint}}"]).await;
    let records = std::fs::read_to_string(Path::new(&volume).join("audit.ndjson")).unwrap();
    let ids =
        records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned());
    assert_eq!(ids.collect::<Vec<_>>(), ["one", "two"]);
    let (code, said) = store.run(&ONCE, configuration.path(), &["store", "verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    println!("{said}");
}

async fn holds_what_it_needs(store: &Store) {
    let inspected: Value = serde_json::from_str(&store.done(&["image", "inspect", "e2b-relay"]).await).unwrap();
    let image = &inspected[0]["Config"];
    assert_eq!(image["User"], "65532:65532");
    assert_eq!(image["Labels"]["org.opencontainers.image.revision"], "of-the-test");
    let root = store.done(&["image", "mount", "e2b-relay"]).await;
    let root = Path::new(&root);
    assert_eq!(names(&root.join("usr/bin")), ["e2b-relay"], "nothing else can be run");
    assert_eq!(
        names(&root.join("var/lib/dpkg/status.d")),
        ["base-files", "ca-certificates", "gcc-14-base", "libc6", "libgcc-s1"]
    );
    let authorities = std::fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(authorities.matches("BEGIN CERTIFICATE").count() > 100);
    let release = std::fs::read_to_string(root.join("usr/lib/os-release")).unwrap();
    assert!(release.contains("VERSION_CODENAME=trixie"), "{release}");
    store.done(&["image", "unmount", "e2b-relay"]).await;
    println!("{} MB", inspected[0]["Size"].as_u64().unwrap() / 1_000_000);
}
