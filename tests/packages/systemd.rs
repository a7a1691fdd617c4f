//! The same with a real systemd, in the soak: `systemd-nspawn` boots this machine's files, kept apart in memory, with a
//! network of its own and no other service.

use super::build::{packages, repository};
use crate::support::seed::soak;
use std::time::Duration;
use tokio::process::Command;

/// Far more than it takes; it ends by itself.
const MOST: Duration = Duration::from_secs(600);

/// `$0` is a folder that nobody else sees what is mounted in, `$1` and `$2` are the packages, `$3` is what is run, `$4` is
/// where that puts what it has seen.
const BOOT: &str = r#"
set -e
cd "$0"
mount -t tmpfs -o size=2g tmpfs .
cd "$0"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
rm -f root/usr/sbin/policy-rc.d root/etc/machine-id
touch root/etc/machine-id
mkdir root/debs root/seen
cp "$1" root/debs/1.deb
cp "$2" root/debs/2.deb
cp "$3" root/debs/life
cat >root/etc/systemd/system/life.target <<T
[Unit]
DefaultDependencies=no
Requires=sysinit.target life.service
T
cat >root/etc/systemd/system/life.service <<T
[Unit]
After=sysinit.target
[Service]
Type=oneshot
ExecStart=/debs/life
ExecStopPost=/usr/bin/systemctl --force --force poweroff
TimeoutStartSec=500
T
exec systemd-nspawn --quiet --directory=root --register=no --keep-unit --private-network --bind="$4:/seen" --boot \
    --console=pipe systemd.unit=life.target
"#;

#[tokio::test]
async fn a_real_systemd_runs_upgrades_and_forgets_the_service() {
    if !soak() {
        println!("only in the soak, which installs systemd-container");
        return;
    }
    let (first, second) = (packages("1", "022", "UTC").await, packages("2", "022", "UTC").await);
    let (folder, seen) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", BOOT]).arg(folder.path());
    command.args([first.deb(), second.deb(), repository().join("tests/packages/life")]).arg(seen.path());
    let ended = tokio::time::timeout(MOST, command.kill_on_drop(true).output());
    let output = ended.await.expect("it does not end").unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{}", std::fs::read_to_string(seen.path().join("log")).expect("systemd did not come up"));
    println!("{}", std::fs::read_to_string(seen.path().join("verdict")).expect("it did not go well: see above"));
}
