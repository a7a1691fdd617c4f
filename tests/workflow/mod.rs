//! `.github/workflows`: by the schema of such files, by actionlint, and by what their commands name.

use crate::image::{faults, schema};
use crate::support::seed::soak;
use crate::support::yaml;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const FILE: &str = ".github/workflows/ci.yml";
/// To build actionlint, where nobody has.
const BUILD: Duration = Duration::from_secs(600);

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `None` where there is neither actionlint nor Go, which `tests/run` builds it by; never in the soak.
async fn actionlint() -> Option<PathBuf> {
    let mut command = Command::new(repository().join("tests/workflow/actionlint"));
    command.stderr(Stdio::inherit()).kill_on_drop(true);
    if soak() {
        command.arg("fetch");
    }
    let output = tokio::time::timeout(BUILD, command.output()).await.expect("it does not end").unwrap();
    assert!(output.status.success(), "actionlint cannot be had: run tests/workflow/actionlint fetch");
    let path = String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
    if path.is_empty() {
        println!("no actionlint on the PATH, and none was built: the workflow is held against its schema alone");
    }
    (!path.is_empty()).then(|| path.into())
}

/// Each step, with the name of its job.
fn steps(file: &Value) -> Vec<(String, Value)> {
    let jobs = file["jobs"].as_object().unwrap().iter();
    jobs.flat_map(|(name, job)| job["steps"].as_array().unwrap().iter().map(move |step| (name.clone(), step.clone())))
        .collect()
}

#[tokio::test]
async fn the_workflow_is_what_github_takes() {
    let (schema, file) = (schema("github-workflows.json").await, yaml::file(FILE));
    assert_eq!(faults(&schema, &file), [""; 0]);
    for (place, wrong) in
        [("/jobs/test/run-on", json!("x")), ("/jobs/lint/steps", json!({})), ("/permissions/contents", json!("some"))]
    {
        let mut file = file.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        file.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), wrong);
        assert_ne!(faults(&schema, &file), [""; 0], "{place}");
    }
}

#[tokio::test]
async fn actionlint_finds_nothing_and_would() {
    let Some(actionlint) = actionlint().await else { return };
    let lint = async |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ci.yml");
        std::fs::write(&file, text).unwrap();
        // What else this machine has to judge scripts with is not ours to rest on.
        let arguments = ["-no-color", "-shellcheck=", "-pyflakes="];
        let output = Command::new(&actionlint).args(arguments).arg(&file).kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        said
    };
    let text = std::fs::read_to_string(repository().join(FILE)).unwrap();
    assert_eq!(lint(&text).await, "");
    for (right, wrong, told) in [
        ("steps.rust.outputs.version", "steps.rusty.outputs.version", "rusty"),
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-1.04", "ubuntu-1.04"),
        ("github.ref }}", "github.reff }}", "reff"),
        ("contents: read", "contents: raed", "raed"),
    ] {
        assert!(text.contains(right), "{right}");
        let said = lint(&text.replacen(right, wrong, 1)).await;
        assert!(said.contains(told), "{wrong}: {said}");
    }
}

#[test]
fn it_may_nothing_but_read_ends_in_time_and_runs_what_is_pinned_and_there() {
    let file = yaml::file(FILE);
    assert_eq!(file["permissions"], json!({"contents": "read"}));
    for (name, job) in file["jobs"].as_object().unwrap() {
        assert!(job["timeout-minutes"].as_u64().is_some_and(|minutes| minutes <= 90), "{name}");
        assert!(job.get("permissions").is_none(), "{name}");
    }
    let text = std::fs::read_to_string(repository().join(FILE)).unwrap();
    let (mut used, mut named) = (0, 0);
    for (job, step) in steps(&file) {
        if let Some(action) = step["uses"].as_str() {
            let (_, commit) = action.split_once('@').unwrap();
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{job}: {action}");
            assert!(text.contains(&format!("{action} # v")), "{job}: {action}: which version is that?");
            assert!(!action.starts_with("actions/checkout") || step["with"]["persist-credentials"] == false, "{job}");
            used += 1;
        }
        let said = format!(
            "{} {}",
            step["run"].as_str().unwrap_or_default(),
            step["with"]["file"].as_str().unwrap_or_default()
        );
        for word in said.split_whitespace().map(|word| word.trim_matches(['"', '$', '(', ')', ';'])) {
            if ["tests/", "deploy/"].iter().any(|folder| word.starts_with(folder)) && !word.contains('*') {
                assert!(repository().join(word).exists(), "{job}: {word}");
                named += 1;
            }
        }
    }
    assert!(used >= 8 && named >= 5, "{used} {named}");
    let image = format!("e2b-relay:{}", env!("CARGO_PKG_VERSION"));
    for word in text.split_whitespace().filter(|word| word.starts_with("e2b-relay:")) {
        assert_eq!(word, image);
    }
    // Nothing that .ci/run wants is left out; tests/run installs what it needs.
    let wanted = std::fs::read_to_string(repository().join(".ci/run")).unwrap();
    let runs: Vec<String> =
        steps(&file).iter().filter_map(|(_, step)| Some(step["run"].as_str()?.replace(" --locked", ""))).collect();
    let commands = wanted.lines().filter(|line| line.starts_with("cargo") || *line == "tests/run");
    assert_eq!(commands.filter(|command| runs.iter().any(|run| run == command)).count(), 3, "{runs:?}");
}
