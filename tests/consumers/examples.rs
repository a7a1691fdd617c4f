//! The examples as programs.

use crate::sdk::output_of;
use crate::support::daemon::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    TypeScript,
}

impl Language {
    pub(super) const ALL: [Self; 2] = [Self::Python, Self::TypeScript];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::TypeScript => "typescript",
        }
    }
}

/// The examples where they find their packages, and a folder for what they write.
pub(super) struct Examples {
    folder: tempfile::TempDir,
    installed: PathBuf,
}

impl Examples {
    /// Installs what they need, where `tests/run` has not yet.
    pub(super) async fn new() -> Self {
        let install = repository().join("tests/consumers/install");
        let output = Command::new(install).stderr(Stdio::inherit()).output().await.unwrap();
        assert!(output.status.success(), "the examples' packages cannot be had: run tests/consumers/install");
        let installed = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        let examples = Self { folder: tempfile::tempdir().unwrap(), installed };
        for language in Language::ALL {
            let (from, to) = (repository().join("examples/consumers").join(language.name()), examples.of(language));
            std::fs::create_dir(&to).unwrap();
            for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
                // Not what a reader of the examples has installed beside them.
                if entry.file_type().unwrap().is_file() {
                    std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
                }
            }
        }
        let packages = examples.installed.join("typescript/node_modules");
        std::os::unix::fs::symlink(packages, examples.of(Language::TypeScript).join("node_modules")).unwrap();
        examples
    }

    /// Where the programs of a language are.
    pub(super) fn of(&self, language: Language) -> PathBuf {
        self.folder.path().join(language.name())
    }

    pub(super) fn python(&self) -> Command {
        let mut command = Command::new(self.installed.join("python/bin/python"));
        command.current_dir(self.of(Language::Python));
        command
    }

    pub(super) fn node(&self) -> Command {
        let mut command = Command::new(self.installed.join("node/bin/node"));
        command.current_dir(self.of(Language::TypeScript));
        command
    }

    /// A consumer with its database; `broker` is `kafka`, `nats` or `amqp`.
    pub(super) fn consumer(&self, language: Language, broker: &str, arguments: &[&str]) -> Consumer {
        let database = self.folder.path().join(format!("{}.db", language.name()));
        let (interpreter, script) = match language {
            Language::Python => (self.python(), format!("{broker}_consumer.py")),
            Language::TypeScript => (self.node(), format!("{broker}.ts")),
        };
        let interpreter = interpreter.as_std().get_program().to_owned();
        let mut command = vec![interpreter, self.of(language).join(script).into()];
        command.extend(arguments.iter().map(Into::into));
        command.push(database.clone().into());
        Consumer { command, database, reader: self.installed.join("python/bin/python") }
    }
}

/// One that is started again and again.
pub(super) struct Consumer {
    command: Vec<OsString>,
    database: PathBuf,
    reader: PathBuf,
}

/// What its database holds.
#[derive(Debug, Deserialize)]
pub(super) struct Tables {
    pub(super) seen: BTreeSet<String>,
    /// Events and milliseconds.
    pub(super) sandboxes: BTreeMap<String, (u64, u64)>,
    pub(super) gaps: Vec<[String; 3]>,
    /// Bodies and reasons.
    pub(super) poison: Vec<(String, String)>,
}

impl Consumer {
    fn start(&self, before: &[&str]) -> Running {
        let mut words = before.iter().map(OsString::from).chain(self.command.iter().cloned());
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// Runs it until an effect's commit has reached the disk's cache, and the program has not gone on: SIGKILL as it enters
    /// the system call that ends the commit, its `syncs`-th in this life. What it printed until then.
    pub(super) async fn killed_between_effect_and_acknowledgement(&self, syncs: usize) -> Vec<String> {
        let at = format!("inject=fsync,fdatasync:signal=KILL:when={syncs}");
        let mut running = self.start(&["strace", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", &at]);
        let mut printed = Vec::new();
        while let Some(line) = running.next_line().await {
            printed.push(line);
        }
        assert_eq!(running.child.wait().await.unwrap().signal(), Some(9), "strace ends as the program did");
        printed
    }

    /// Runs it until it has said something of all of these, and then ends it in good order. What it printed.
    pub(super) async fn until_told(&self, mut ids: BTreeSet<String>) -> Vec<String> {
        let mut running = self.start(&[]);
        let mut printed = Vec::new();
        while !ids.is_empty() {
            let line = running.next_line().await.expect("it ended");
            ids.remove(id_of(&line));
            printed.push(line);
        }
        let pid = Pid::from_raw(running.child.id().unwrap() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = tokio::time::timeout(PATIENCE, running.child.wait()).await.expect("it does not end").unwrap();
        assert!(ended.success(), "{ended}");
        printed
    }

    pub(super) async fn tables(&self) -> Tables {
        let mut command = Command::new(&self.reader);
        command.arg(repository().join("tests/consumers/tables.py")).arg(&self.database);
        serde_json::from_slice(&output_of(&mut command).await).unwrap()
    }
}

/// `applied ID` or `known ID`; of `poison: REASON` none.
pub(super) fn id_of(line: &str) -> &str {
    let id = line.strip_prefix("applied ").or_else(|| line.strip_prefix("known "));
    id.or_else(|| line.starts_with("poison: ").then_some("")).unwrap_or_else(|| panic!("{line}"))
}

struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    async fn next_line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("it says nothing more").unwrap();
        if let Some(line) = &line {
            println!("consumer: {line}");
        }
        line
    }
}
