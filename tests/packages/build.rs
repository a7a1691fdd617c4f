//! Packages of the binary under test, by `deploy/package`.

use crate::support::seed::soak;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// To build the tools takes a minute or two, where nobody has.
const BUILD: Duration = Duration::from_secs(1800);
/// The time that everything gets.
const EPOCH: u64 = 1_767_225_600;
const TOOLS: [&str; 2] = ["cargo-deb", "cargo-cyclonedx"];

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A `PATH` with the tools: the second only where it is there, and in the soak, which builds it.
async fn path() -> OsString {
    static PATH: OnceCell<OsString> = OnceCell::const_new();
    let path = PATH.get_or_init(|| async {
        let mut command = Command::new(repository().join("tests/packages/tools"));
        command.arg("fetch").args(&TOOLS[..if soak() { 2 } else { 1 }]).stderr(Stdio::inherit()).kill_on_drop(true);
        let output = tokio::time::timeout(BUILD, command.output()).await.expect("it does not end").unwrap();
        assert!(output.status.success(), "cargo-deb cannot be had: run tests/packages/tools fetch cargo-deb");
        let folder = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        let present = std::env::var_os("PATH").unwrap_or_default();
        std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&present))).unwrap()
    });
    path.await.clone()
}

/// Whether there is a list of parts.
pub(super) async fn has_sbom() -> bool {
    std::env::split_paths(&path().await).any(|folder| folder.join(TOOLS[1]).is_file())
}

/// What one run has made.
pub(super) struct Packages {
    folder: tempfile::TempDir,
}

impl Packages {
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The one file whose name ends so.
    pub(super) fn file(&self, ending: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path());
        let found: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
        let [one] = found.as_slice() else { panic!("not one {ending}: {found:?}") };
        one.clone()
    }

    pub(super) fn deb(&self) -> PathBuf {
        self.file(".deb")
    }

    pub(super) fn sums(&self) -> String {
        std::fs::read_to_string(self.file("SHA256SUMS")).unwrap()
    }
}

/// With that revision of the Debian package, run by a user of such a `umask` and time zone.
pub(super) async fn packages(revision: &str, umask: &str, zone: &str) -> Packages {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"umask "$0" && exec "$@""#, umask]);
    command.arg(repository().join("deploy/package")).args(["--fast", "--revision", revision]);
    command.arg("--binary").arg(env!("CARGO_BIN_EXE_e2b-relay")).arg("--output").arg(folder.path());
    if !has_sbom().await {
        command.arg("--without-sbom");
    }
    for name in ["CARGO_TARGET_DIR", "DEBEMAIL", "DEBFULLNAME", "RUSTC_BOOTSTRAP"] {
        command.env_remove(name);
    }
    command.env("PATH", path().await).env("TZ", zone).env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    let output = command.kill_on_drop(true).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Packages { folder }
}
