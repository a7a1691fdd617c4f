//! Every command that asks a daemon, on a terminal and piped: the same table on both, colours and progress on the terminal
//! alone, JSON that programs can read.

use super::{asking, command, deliver, event, home, run};
use crate::simulate::{KEY, Running};
use crate::support::daemon::{Daemon, Home};
use crate::support::load::SECRET;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const ESCAPE: char = '\u{1b}';

/// The command on a terminal of its own; standard output and error are both there. `script` is in every Linux.
fn on_terminal(command: &Command) -> Command {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<String> =
        words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"))).collect();
    let mut terminal = Command::new("script");
    terminal.args(["-qefc", &quoted.join(" "), "/dev/null"]).env_clear().env("TERM", "xterm").env("SHELL", "/bin/sh");
    terminal.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null()).kill_on_drop(true);
    terminal
}

/// What is left to see when all is drawn, without colours.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = sequence.find(|letter: char| letter.is_ascii_alphabetic()).unwrap();
        // What was on the line is wiped out.
        if sequence[end..].starts_with('K') {
            plain.truncate(plain.rfind('\n').map_or(0, |at| at + 1));
        }
        rest = &sequence[end + 1..];
    }
    (plain + rest).replace("\r\n", "\n").replace('\r', "")
}

/// A provider whose events come, and deliveries that leave dead letters and a copy in quarantine.
async fn start() -> (Running, Home, Daemon) {
    let provider = Running::start(Options { sandboxes: 6, ..Options::default() }).await;
    provider.happen(60, 600).await;
    let home = Home::new(&format!(
        "sources:\n  acme:\n    webhook: {{secrets: ['{SECRET}']}}\n    api: {{url: '{}', api_key: {KEY}}}\n    \
         backfill: {{interval: 200ms}}\n\
         sinks:\n  audit: {{type: file, path: ./audit.ndjson}}\n  \
         broken: {{type: file, path: ./broken.ndjson, filter: 'type.endsWith(\"created\") ? type * 2 == 4 : true'}}\n",
        provider.base
    ));
    let daemon = home.start().await;
    daemon.until("all are settled", |metrics| metrics.settled("audit") >= 60 && metrics.settled("broken") >= 60).await;
    assert_eq!(deliver(&daemon, "[1]").await, 400);
    (provider, home, daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_the_same_piped_and_coloured_on_a_terminal_unless_that_is_not_wanted() {
    let (_provider, home, daemon) = start().await;
    for (arguments, heading, colour) in [
        (&["sandboxes"][..], "ID ", "\u{1b}[1mSTATE"),
        (&["events", "--limit", "100"], "TIME ", "\u{1b}[32msandbox.lifecycle.created"),
        (&["events", "--summary"], "60 events", "\u{1b}[1mTYPE"),
        (&["sources"], "SOURCE ", "\u{1b}[32mok"),
        (&["sinks", "list"], "SINK ", "\u{1b}[32mup"),
        (&["dead-letters", "list"], "SINK ", "\u{1b}[31mfilter"),
        (&["quarantine", "list"], "ID ", "\u{1b}[1mREASON"),
    ] {
        let piped = run(asking(&home, &daemon, arguments)).await;
        assert!(piped.code == Some(0) && piped.err.is_empty(), "{arguments:?}: {piped:?}");
        assert!(piped.out.starts_with(heading) && !piped.out.contains(ESCAPE), "{arguments:?}: {}", piped.out);
        let shown = run(on_terminal(&asking(&home, &daemon, arguments))).await;
        assert!(shown.code == Some(0) && shown.out.contains(colour), "{arguments:?}: {shown:?}");
        // These go on meanwhile, or say up to when they count.
        if !["sandboxes", "sources", "--summary"].iter().any(|word| arguments.contains(word)) {
            assert_eq!(plain(&shown.out), piped.out, "{arguments:?}");
        }
        let mut without = on_terminal(&asking(&home, &daemon, arguments));
        let without = run({
            without.env("NO_COLOR", "1");
            without
        });
        let never = run(on_terminal(&asking(&home, &daemon, &[&["--color", "never"], arguments].concat())));
        for shown in [without.await, never.await] {
            assert!(shown.code == Some(0) && !shown.out.contains(ESCAPE), "{arguments:?}: {shown:?}");
        }
        let always = run(asking(&home, &daemon, &[&["--color", "always"], arguments].concat())).await;
        assert!(always.out.contains(colour), "{arguments:?}: {always:?}");
        let json = run(on_terminal(&asking(&home, &daemon, &[arguments, &["--format", "json"]].concat()))).await;
        let json: Value = serde_json::from_str(&json.out).unwrap();
        assert!(json.is_array() || json.is_object());
    }
    let tap = tokio::spawn(run(on_terminal(&asking(&home, &daemon, &["tap", "--limit", "1"]))));
    let mut number = 0;
    while !tap.is_finished() {
        let event = event(&format!("tapped-{number}"), "sbx", &json!({}));
        assert_eq!(deliver(&daemon, &event).await, 200);
        number += 1;
    }
    let shown = tap.await.unwrap();
    assert!(shown.code == Some(0) && shown.out.contains("\u{1b}[1mTIME") && shown.out.contains(" sbx "), "{shown:?}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_its_time_shows_that_on_a_terminal_only_and_leaves_the_result() {
    // The backfill waits for a provider that is slow.
    let provider = Running::start(Options { slow_by: Duration::from_millis(100), ..Options::default() }).await;
    provider.happen(2_500, 3000).await;
    provider.always(Fault::SlowReplies);
    let home = home(&provider);
    let daemon = home.start().await;
    for (arguments, progress, result) in [
        (&["backfill", "--since", "2h"][..], "backfill", "2500 events found: 2500 new"),
        (&["replay", "--sink", "audit"], "replay", "2500 events found, 2500 sent"),
    ] {
        let shown = run(on_terminal(&asking(&home, &daemon, arguments))).await;
        assert_eq!(shown.code, Some(0), "{shown:?}");
        assert!(shown.out.contains(&format!(" {progress} ")) && shown.out.contains(ESCAPE), "{arguments:?}: {shown:?}");
        assert!(plain(&shown.out).trim_start().starts_with(result), "{:?} of {shown:?}", plain(&shown.out));
        let piped = run(asking(&home, &daemon, arguments)).await;
        assert!(piped.err.is_empty() && !piped.out.contains(ESCAPE) && piped.out.starts_with("2500 "), "{piped:?}");
        let json = run(asking(&home, &daemon, &[arguments, &["--format", "json"]].concat())).await.json();
        assert_eq!(json["found"], 2500);
    }
    assert!(daemon.terminate().await.success());
    let config = home.configuration();
    let verify = command(&["store", "verify", "--config", config.to_str().unwrap()]);
    let shown = run(on_terminal(&verify)).await;
    assert!(shown.out.contains(" store verify ") && shown.out.contains("100 %"), "{shown:?}");
    assert!(plain(&shown.out).trim_start().starts_with("audit: 2500 accepted = 2500 delivered"), "{shown:?}");
    let piped = run(verify).await;
    assert!(piped.code == Some(0) && piped.err.is_empty() && !piped.out.contains(ESCAPE), "{piped:?}");
}

#[tokio::test]
async fn every_shell_gets_completions_and_bash_completes_by_them() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef e2b-relay"), ("fish", "complete -c e2b-relay")] {
        let ran = run(command(&["completions", shell])).await;
        assert!(ran.code == Some(0) && ran.out.contains(word) && ran.out.contains("quarantine"), "{shell}: {ran:?}");
    }
    let script = "source <(\"$1\" completions bash); COMP_WORDS=(e2b-relay dead-letters re); COMP_CWORD=2; \
                  _e2b__relay e2b-relay re dead-letters; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash", env!("CARGO_BIN_EXE_e2b-relay")]);
    assert_eq!(run(bash).await.out, "retry\n");
    let unknown = run(command(&["completions", "tcsh"])).await;
    assert!(unknown.code == Some(64) && unknown.err.contains("fish"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_only_the_head_is_not_told_of_a_fault() {
    let (_provider, home, daemon) = start().await;
    let asked = asking(&home, &daemon, &["events", "--format", "json", "--limit", "60"]);
    let asked = asked.as_std();
    let words: Vec<&str> =
        std::iter::once(asked.get_program()).chain(asked.get_args()).filter_map(|w| w.to_str()).collect();
    let mut shell = Command::new("bash");
    shell.args(["-c", "\"$@\" | head -c 1", "bash"]).args(words);
    let ran = run(shell).await;
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("[", ""), "{}", json!(ran.err));
    assert!(daemon.terminate().await.success());
}
