//! What is in the packages, and what Debian's own judge says of it.

use super::build::{Packages, packages, repository};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use tokio::process::Command;

async fn output(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program}: {}{said}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// What is only in the repository, and the licence, which Debian keeps in one place for all.
const ELSEWHERE: [&str; 7] =
    ["src/", "tests/", "benches/", "../benches/", "deploy/package", "CONTRIBUTING.md", "LICENSE"];

/// Every link of a document to a file beside it.
fn links(text: &str) -> BTreeSet<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

#[tokio::test]
async fn the_same_binary_makes_the_same_bytes_whoever_packs_it() {
    let (one, other) = (packages("1", "022", "UTC").await, packages("1", "077", "Pacific/Auckland").await);
    assert_eq!(one.sums(), other.sums());
    assert!(one.sums().lines().count() >= 2, "{}", one.sums());
    let mut check = Command::new("sha256sum");
    let check = check.args(["--check", "--strict", "SHA256SUMS"]).current_dir(one.folder()).output().await.unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    judge_debian_package(&one).await;
    judge_tarball(&one).await;
    judge_list_of_parts(&one);
    // What the pages call them.
    if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        for (page, package) in [("README.md", ".deb"), ("deploy/OPERATIONS.md", ".deb"), ("README.md", ".tar.gz")] {
            let name = one.file(package).file_name().unwrap().to_str().unwrap().to_owned();
            assert!(std::fs::read_to_string(repository().join(page)).unwrap().contains(&name), "{page} has no {name}");
        }
    }
}

async fn judge_debian_package(packages: &Packages) {
    let said = output("lintian", &["--fail-on", "error,warning", "--allow-root"], &packages.deb()).await;
    assert_eq!(said, "", "what is all right is explained in deploy/debian/lintian-overrides");
    let listed = output("dpkg-deb", &["--contents"], &packages.deb()).await;
    let files: BTreeSet<(&str, &str)> = listed
        .lines()
        .map(|line| (line.split(' ').next().unwrap(), line.split_whitespace().last().unwrap()))
        .filter(|(mode, _)| !mode.starts_with('d'))
        .collect();
    for (mode, file) in [
        ("-rwxr-xr-x", "./usr/bin/e2b-relay"),
        ("-rw-r--r--", "./etc/e2b-relay/e2b-relay.yaml"),
        ("-rw-r--r--", "./usr/lib/systemd/system/e2b-relay.service"),
        ("-rw-r--r--", "./usr/lib/systemd/system/e2b-relay.socket"),
        ("-rw-r--r--", "./usr/share/bash-completion/completions/e2b-relay"),
        ("-rw-r--r--", "./usr/share/zsh/vendor-completions/_e2b-relay"),
        ("-rw-r--r--", "./usr/share/fish/vendor_completions.d/e2b-relay.fish"),
        ("-rw-r--r--", "./usr/share/doc/e2b-relay/deploy/OPERATIONS.md"),
        ("-rw-r--r--", "./usr/share/doc/e2b-relay/copyright"),
    ] {
        assert!(files.contains(&(mode, file)), "no {mode} {file} in {files:#?}");
    }
    assert_eq!(output("dpkg-deb", &["--info"], &packages.deb()).await.matches("conffiles").count(), 1);
    // Documents lead to one another as in the repository, where they do not lead to what is only there.
    let mut followed = 0;
    for document in ["README.md", "docs/CONFIGURATION.md", "docs/DAEMON.md", "deploy/OPERATIONS.md"] {
        let text = std::fs::read_to_string(repository().join(document)).unwrap();
        let folder = Path::new("./usr/share/doc/e2b-relay").join(document).parent().unwrap().to_owned();
        for link in links(&text).into_iter().filter(|link| !ELSEWHERE.iter().any(|place| link.starts_with(place))) {
            let target = folder.join(link).display().to_string().replace("docs/../", "").replace("deploy/../", "");
            assert!(files.iter().any(|(_, name)| name.starts_with(&target)), "{document} leads to {target}");
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links");
}

async fn judge_tarball(packages: &Packages) {
    let listed = output("tar", &["--list", "--file"], &packages.file(".tar.gz")).await;
    let names: Vec<&str> = listed.lines().collect();
    let root = names[0];
    assert!(root.starts_with(&format!("e2b-relay-{}-", env!("CARGO_PKG_VERSION"))) && root.ends_with('/'), "{root}");
    for file in [
        "e2b-relay",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "config/e2b-relay.yaml",
        "deploy/OPERATIONS.md",
        "deploy/systemd/e2b-relay.service",
        "completions/_e2b-relay",
    ] {
        assert!(names.contains(&format!("{root}{file}").as_str()), "no {file} in {names:#?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar")
        .args(["--extract", "--directory"])
        .arg(folder.path())
        .arg("--file")
        .arg(packages.file(".tar.gz"))
        .status()
        .await
        .unwrap();
    assert!(unpacked.success());
    let root = folder.path().join(root);
    let version = output(root.join("e2b-relay").to_str().unwrap(), &[], Path::new("--version")).await;
    assert_eq!(version, format!("e2b-relay {}\n", env!("CARGO_PKG_VERSION")));
}

/// What crates.io and `cargo install` would build from.
#[tokio::test]
async fn the_crate_holds_what_a_build_wants_and_no_more() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--allow-dirty", "--offline"]).current_dir(repository());
    let output = cargo.kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    let files: BTreeSet<&str> = listed.lines().collect();
    let tops: BTreeSet<&str> = files.iter().map(|file| file.split('/').next().unwrap()).collect();
    let made = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig"];
    let ours = ["CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "config", "deploy", "docs", "src"];
    assert!(tops.iter().all(|top| made.contains(top) || ours.contains(top)), "{tops:?}");
    // Every file that the source takes in as it is.
    let mut taken = 0;
    for file in files.iter().filter(|file| file.ends_with(".rs")) {
        let text = std::fs::read_to_string(repository().join(file)).unwrap();
        for rest in text.split("include_str!(\"").skip(1) {
            let target = Path::new(file).parent().unwrap().join(rest.split('"').next().unwrap());
            let absolute = std::fs::canonicalize(repository().join(&target)).unwrap();
            let name = absolute.strip_prefix(std::fs::canonicalize(repository()).unwrap()).unwrap();
            assert!(files.contains(name.to_str().unwrap()), "{file} takes in {name:?}, which is not in the crate");
            taken += 1;
        }
    }
    assert!(taken > 4, "only {taken} files are taken in");
}

/// Where there is one.
fn judge_list_of_parts(packages: &Packages) {
    if !packages.sums().contains(".cdx.json") {
        println!("no cargo-cyclonedx on the PATH, and none was built: no list of parts is tested");
        return;
    }
    let text = std::fs::read_to_string(packages.file(".cdx.json")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&list["bomFormat"], &list["metadata"]["component"]["name"]),
        (&"CycloneDX".into(), &"e2b-relay".into())
    );
    let parts = list["components"].as_array().unwrap();
    let names: BTreeSet<&str> = parts.iter().map(|part| part["name"].as_str().unwrap()).collect();
    // What is linked, the C libraries among it, and not what only tests want.
    assert!(["openssl-src", "rdkafka-sys", "sled"].iter().all(|name| names.contains(name)), "{names:?}");
    assert!(!names.contains("proptest"));
    for part in parts {
        assert!(!part["licenses"].as_array().unwrap().is_empty(), "{}: which licence?", part["name"]);
    }
    // Nothing of the machine.
    assert!(!text.contains(std::env::temp_dir().to_str().unwrap()));
}
