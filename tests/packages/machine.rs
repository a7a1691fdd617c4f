//! A machine to install on: this one's files, with everything that is written kept apart from them in memory, and processes
//! of its own that end with it. The network is this one's. Only root can have it.

use crate::support::daemon::PATIENCE;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// `$0` is a folder that nobody else sees what is mounted in.
const BOOT: &str = r#"
set -e
cd "$0"
mount -t tmpfs -o size=1g tmpfs .
cd "$0"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
mount -t proc proc root/proc
mount --rbind /dev root/dev
mount -t tmpfs tmpfs root/run
mount -t tmpfs tmpfs root/tmp
# Of a machine that is not to start services.
rm -f root/usr/sbin/policy-rc.d
echo ready
exec cat
"#;

/// What dpkg keeps for itself.
const DPKGS_OWN: [&str; 2] = ["/var/lib/dpkg/", "/var/log/dpkg.log"];

pub(super) struct Machine {
    folder: tempfile::TempDir,
    /// All of it ends when this does.
    boot: Child,
    before: BTreeSet<String>,
}

impl Machine {
    /// One on which no systemd runs.
    pub(super) async fn boot() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", BOOT]).arg(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut boot = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(boot.stdout.take().unwrap()).read_line(&mut said).await.unwrap();
        assert_eq!(said, "ready\n", "this test needs a mount namespace and an overlay, which only root may have");
        let mut machine = Self { folder, boot, before: BTreeSet::new() };
        machine.before = machine.written();
        machine
    }

    /// One that the scripts take to be run by systemd; `systemctl` is what does as if.
    pub(super) async fn boot_systemd(systemctl: &Path) -> Self {
        let mut machine = Self::boot().await;
        std::fs::create_dir_all(machine.path("/run/systemd/system")).unwrap();
        // With the state of all services whose users are made up. systemd shows each its own; here they may pass.
        machine.must(&["install", "-d", "-m", "711", "/var/lib/private"]).await;
        machine.must(&["cp", "/usr/bin/systemctl", "/usr/bin/systemctl.real"]).await;
        machine.put(systemctl, "/usr/bin/systemctl");
        std::fs::set_permissions(machine.path("/usr/bin/systemctl"), PermissionsExt::from_mode(0o755)).unwrap();
        machine.before = machine.written();
        machine
    }

    fn mounted(&self) -> PathBuf {
        let pid = self.boot.id().expect("the machine has ended");
        PathBuf::from(format!("/proc/{pid}/root{}", self.folder.path().display()))
    }

    /// Where a file of its is for who looks from outside; a link to an absolute path leads elsewhere.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.mounted().join("root").join(inside.trim_start_matches('/'))
    }

    pub(super) fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    pub(super) fn put(&self, outside: &Path, inside: &str) {
        std::fs::copy(outside, self.path(inside)).unwrap();
    }

    /// A command in it; `before` goes before what enters it.
    pub(super) fn command(&self, before: &[&str], program: impl AsRef<OsStr>) -> Command {
        let pid = self.boot.id().expect("the machine has ended");
        let mut words: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        words.push("nsenter".to_owned());
        words.push(format!("--mount=/proc/{pid}/ns/mnt"));
        words.push(format!("--pid=/proc/{pid}/ns/pid_for_children"));
        words.extend(["chroot".to_owned(), self.folder.path().join("root").display().to_string()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program).env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Whether it ended well, and its standard output.
    pub(super) async fn run(&self, words: &[&str]) -> (bool, String) {
        let mut command = self.command(&[], words[0]);
        let ended = tokio::time::timeout(PATIENCE, command.args(&words[1..]).output());
        let output = ended.await.unwrap_or_else(|_| panic!("it does not end: {}", words.join(" "))).unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        println!("{}: {out}{err}", words.join(" "));
        (output.status.success(), out)
    }

    /// The same for what has to end well.
    pub(super) async fn must(&self, words: &[&str]) -> String {
        let (well, out) = self.run(words).await;
        assert!(well, "{}", words.join(" "));
        out
    }

    pub(super) async fn install(&self, package: &Path) -> String {
        self.put(package, "/tmp/package.deb");
        self.must(&["dpkg", "--install", "/tmp/package.deb"]).await
    }

    /// What was written, removed, or made, and is not as in the beginning; folders end with `/`. Not dpkg's own.
    pub(super) fn left(&self) -> BTreeSet<String> {
        let is_dpkgs = |path: &String| DPKGS_OWN.iter().any(|own| path.starts_with(own));
        self.written().difference(&self.before).filter(|path| !is_dpkgs(path)).cloned().collect()
    }

    fn written(&self) -> BTreeSet<String> {
        let upper = self.mounted().join("upper");
        let mut found = BTreeSet::new();
        let mut folders = vec![upper.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = format!("/{}", entry.path().strip_prefix(&upper).unwrap().display());
                if !entry.file_type().unwrap().is_dir() {
                    found.insert(path);
                    continue;
                }
                folders.push(entry.path());
                // A folder that is there anyway holds something that was written.
                if !Path::new(&path).is_dir() {
                    found.insert(path + "/");
                }
            }
        }
        found
    }
}
