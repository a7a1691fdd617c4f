//! What a daemon was busy with, by its own log (`e2b_relay::store::phase`), and killing it in the middle of that.
#![cfg(test)]

use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Follows the log of one daemon.
#[derive(Debug, Default)]
pub(crate) struct Phases(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many of each have begun and not ended.
    open: BTreeMap<String, usize>,
    aim: Option<Aim>,
}

/// Kill when a phase begins.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    pub(crate) phase: &'static str,
    /// So much later: what takes long is hit in its middle too.
    pub(crate) later: Duration,
}

impl Phases {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on the daemon is killed when that phase begins.
    pub(crate) fn aim(&self, aim: Aim) {
        self.state().aim = Some(aim);
    }

    /// What is going on; of a dead daemon whose log was read to its end: what was cut short.
    pub(crate) fn open(&self) -> BTreeSet<String> {
        let state = self.state();
        state.open.iter().filter(|(_, count)| **count > 0).map(|(phase, _)| phase.clone()).collect()
    }

    /// Whether the line belongs here. Called by the thread that reads the log, so that nothing comes between the line
    /// and the kill.
    pub(crate) fn line(&self, line: &str, pid: Pid) -> bool {
        if !line.contains("\"e2b_relay::store::phase\"") {
            return false;
        }
        let phase = line.split("\"phase\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a phase");
        let mut state = self.state();
        let open = state.open.entry(phase.to_owned()).or_default();
        if line.contains("\"message\":\"begins\"") {
            *open += 1;
            if let Some(aim) = state.aim.take_if(|aim| aim.phase == phase) {
                drop(state);
                std::thread::park_timeout(aim.later);
                let _ = kill_process(pid, Signal::KILL);
            }
        } else {
            *open -= 1;
        }
        true
    }
}

#[test]
fn what_has_begun_and_not_ended_is_what_was_cut_short() {
    let phases = Phases::default();
    let pid = rustix::process::getpid();
    let line = |phase: &str, message: &str| {
        let line = format!(
            "{{\"level\":\"TRACE\",\"message\":\"{message}\",\"phase\":\"{phase}\",\"target\":\"e2b_relay::store::phase\"}}"
        );
        assert!(phases.line(&line, pid));
    };
    line("recovery", "begins");
    line("recovery", "ends");
    for message in ["begins", "begins", "ends"] {
        line("position", message);
    }
    line("commit", "begins");
    assert!(!phases.line("{\"level\":\"INFO\",\"message\":\"begins\"}", pid));
    assert_eq!(phases.open(), BTreeSet::from(["commit".to_owned(), "position".to_owned()]));
}
