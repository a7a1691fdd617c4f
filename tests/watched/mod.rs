//! What `deploy/` has for operators to watch by: alert rules and a dashboard, by Prometheus' own tools and server.

mod rules;

use std::path::{Path, PathBuf};
use tokio::process::Command;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

/// Prometheus' tool; what it says if it is content.
async fn promtool(arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(deploy("prometheus")).kill_on_drop(true);
    if let Some(input) = input {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), input).unwrap();
        command.stdin(file.reopen().unwrap());
    }
    let output = command.output().await.expect("promtool; tests/run installs it");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = format!("{}{}", said(&output.stdout), said(&output.stderr));
    if output.status.success() { Ok(all) } else { Err(all) }
}
