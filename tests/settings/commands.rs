//! The commands around the configuration, through the real binary.

use super::{Run, SECRET, relay, repository, run};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a file");
}

fn minimal(folder: &Path) {
    let text = format!(
        "sources:\n  acme:\n    webhook:\n      secrets: [\"{SECRET}\"]\nsinks:\n  audit: {{type: file, path: ./a}}\n"
    );
    write(folder, "e2b-relay.yaml", &text);
}

fn show(folder: &Path, files: &[&str], environment: &[(&str, &str)]) -> Value {
    let mut command = relay(folder);
    command.args(["config", "show", "--format", "json"]).envs(environment.iter().copied());
    for file in files {
        command.args(["--config", file]);
    }
    let run = run(&mut command);
    assert_eq!(run.code, Some(0), "{}", run.said());
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    serde_json::from_str(&run.stdout).expect("JSON")
}

#[test]
fn init_writes_what_check_takes_and_only_its_owner_can_read() {
    for sink in ["kafka", "nats", "amqp", "file"] {
        let folder = folder();
        let told = run(relay(folder.path()).args(["init", "--sink", sink]));
        assert_eq!(told.code, Some(0), "{}", told.said());
        for step in ["e2b-relay check", "e2b-relay run", "tunnel", "curl", "signatureSecret"] {
            assert!(told.stdout.contains(step), "{step} is missing in {}", told.stdout);
        }
        let file = folder.path().join("e2b-relay.yaml");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        let secret = text.split('"').find(|part| part.len() == 64).expect("a secret of 64 digits");
        assert!(secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!told.said().contains(secret), "the secret is on the terminal");

        let checked = run(relay(folder.path()).arg("check"));
        assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{}", checked.said());
        assert_eq!(checked.stdout, "valid: 1 source and 1 sink\n");
        let shown = run(relay(folder.path()).args(["config", "show"]));
        assert!(shown.stdout.contains(&format!("type: {sink}")), "{}", shown.stdout);
        assert!(!shown.said().contains(secret));
    }
}

#[test]
fn the_curl_that_init_prints_takes_the_secret_from_the_file() {
    let folder = folder();
    let told = run(relay(folder.path()).args(["init", "--sink", "file"]));
    let line = told.stdout.lines().find(|line| line.trim_start().starts_with("secret=")).expect("the line");
    let printed = std::process::Command::new("sh")
        .args(["-c", &format!("{line}\nprintf %s \"$secret\"")])
        .current_dir(folder.path())
        .output()
        .expect("a shell");
    let secret = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(secret.len(), 64, "{secret:?}");
    assert!(std::fs::read_to_string(folder.path().join("e2b-relay.yaml")).unwrap().contains(&secret));
}

#[test]
fn init_replaces_a_file_only_when_told_to() {
    let folder = folder();
    write(folder.path(), "e2b-relay.yaml", "mine");
    let refused = run(relay(folder.path()).args(["init", "--sink", "file"]));
    assert_eq!(refused.code, Some(74), "{}", refused.said());
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(folder.path().join("e2b-relay.yaml")).unwrap(), "mine");
    let replaced = run(relay(folder.path()).args(["init", "--sink", "file", "--force", "--format", "json"]));
    assert_eq!(replaced.code, Some(0), "{}", replaced.said());
    let result: Value = serde_json::from_str(&replaced.stdout).unwrap();
    assert_eq!(result["config"], "e2b-relay.yaml");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something is left behind");
    assert_eq!(run(relay(folder.path()).arg("check")).code, Some(0));
}

#[test]
fn without_configuration_the_way_to_one_is_told() {
    let run = run(relay(folder().path()).arg("check"));
    assert_eq!(run.code, Some(78));
    assert!(run.stderr.contains("e2b-relay init") && run.stdout.is_empty(), "{}", run.said());
}

#[test]
fn the_command_line_has_its_own_exit_codes() {
    let folder = folder();
    minimal(folder.path());
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["check", "--help"], 0),
        (&[], 64),
        (&["nosuch"], 64),
        (&["check", "--nosuch"], 64),
        (&["init"], 64),
        (&["init", "--sink", "ftp"], 64),
        (&["check", "--log-level", "loud"], 64),
        (&["dev", "--drop-deliveries", "2"], 64),
        (&["dev", "--listen", "0.0.0.0:8080"], 64),
        (&["test", "--event", "nosuch.json"], 74),
        (&["check", "--config", "nosuch.yaml"], 78),
        (&["replay", "--dry-run"], 64),
        (&["store", "verify"], 74),
    ] {
        let run = run(relay(folder.path()).args(arguments));
        assert_eq!(run.code, Some(code), "{arguments:?}: {}", run.said());
        let (result, diagnostics) = (!run.stdout.is_empty(), !run.stderr.is_empty());
        assert_eq!((result, diagnostics), (code == 0, code != 0), "{arguments:?}: {}", run.said());
    }
}

#[test]
fn what_is_registered_has_its_defaults_and_is_warned_about_where_nobody_may_take_it() {
    let folder = folder();
    let register = |secrets: &str, more: &str| {
        let api = "api: {api_key: e2b_0123}";
        let text = format!("sources:\n  acme:\n    webhook: {{secrets: [{secrets}]{more}}}\n    {api}\n");
        let sinks = "sinks: {audit: {type: file, path: ./a}}\n";
        let url = "    register: {url: 'https://relay.example.com/webhooks/e2b'}\n";
        write(folder.path(), "e2b-relay.yaml", &format!("{text}{url}{sinks}"));
    };
    register(SECRET, "");
    let files = ["e2b-relay.yaml"];
    let shown = &show(folder.path(), &files, &[])["sources"]["acme"]["register"];
    let url = "https://relay.example.com/webhooks/e2b";
    assert_eq!(*shown, serde_json::json!({"url": url, "name": "e2b-relay", "events": "all", "interval": "10m"}));
    let environment = [("E2B_RELAY__SOURCES__ACME__REGISTER__EVENTS", r#"["killed", "paused"]"#)];
    let shown = &show(folder.path(), &files, &environment)["sources"]["acme"]["register"];
    assert_eq!(shown["events"], serde_json::json!(["killed", "paused"]), "a list of the environment is JSON");

    register(SECRET, ", path: /hooks, signature: hmac");
    let environment = [
        ("E2B_RELAY__SOURCES__ACME__REGISTER__URL", "http://relay.example.com/webhooks/e2b"),
        ("E2B_RELAY__SOURCES__ACME__REGISTER__EVENTS", r#"["sandbox.lifecycle.forked"]"#),
        ("E2B_RELAY__SOURCES__ACME__BACKFILL__WEBHOOK_ID", "5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90"),
    ];
    let run = run(relay(folder.path()).args(["check", "--format", "json"]).envs(environment));
    assert_eq!(run.code, Some(0), "{}", run.said());
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let warned: Vec<&str> =
        report["warnings"].as_array().unwrap().iter().map(|warning| warning["key"].as_str().unwrap()).collect();
    let here = "sources.acme.register";
    let expected = [
        &*format!("{here}.url"),
        &format!("{here}.url"),
        &format!("{here}.events[0]"),
        "sources.acme.webhook.signature",
        "sources.acme.backfill.webhook_id",
    ];
    assert_eq!(warned, expected, "{report:#}");
}

#[test]
fn later_files_and_then_the_environment_win() {
    let folder = folder();
    minimal(folder.path());
    let more = "[server]\nmax_connections = 7\nlisten = \"127.0.0.1:1\"\n[sinks.audit]\ntypes = [\"a\", \"b\"]\n";
    write(folder.path(), "more.toml", more);
    let files = ["e2b-relay.yaml", "more.toml"];
    let shown = show(folder.path(), &files, &[]);
    assert_eq!(shown["server"]["max_connections"], 7);
    assert_eq!(shown["server"]["listen"], "127.0.0.1:1");
    assert_eq!(shown["sinks"]["audit"]["types"], serde_json::json!(["a", "b"]));
    assert_eq!(shown["sinks"]["audit"]["type"], "file");

    let environment = [
        ("E2B_RELAY__SERVER__LISTEN", "127.0.0.1:2"),
        ("E2B_RELAY__SERVER__MAX_CONNECTIONS", "8"),
        ("E2B_RELAY__SERVER__MAX_BODY", "2MiB"),
        ("E2B_RELAY__SINKS__AUDIT__TYPES", r#"["c"]"#),
        ("E2B_RELAY__SINKS__OUT__TYPE", "stdout"),
        ("E2B_RELAY__SERVER__TLS", r#"{"cert_file": "c.pem", "key_file": "/k.pem"}"#),
        ("E2B_RELAY_OTHER", "not ours"),
    ];
    let shown = show(folder.path(), &files, &environment);
    assert_eq!(shown["server"]["listen"], "127.0.0.1:2");
    assert_eq!(shown["server"]["max_connections"], 8);
    assert_eq!(shown["server"]["max_body"], "2MiB");
    assert_eq!(shown["sinks"]["audit"]["types"], serde_json::json!(["c"]));
    assert_eq!(shown["sinks"]["out"]["type"], "stdout");
    let here = folder.path().canonicalize().unwrap();
    assert_eq!(shown["server"]["tls"]["cert_file"], here.join("c.pem").to_str().unwrap());
    assert_eq!(shown["server"]["tls"]["key_file"], "/k.pem");
}

#[test]
fn variables_are_put_in_after_parsing_and_only_once() {
    let folder = folder();
    let text = format!(
        "server:\n  max_connections: \"${{COUNT}}\"\n  listen: 127.0.0.1:${{PORT:-1234}}\nsources:\n  acme:\n    webhook:\n      \
         secrets: [\"{SECRET}\"]\nsinks:\n  lake:\n    type: kafka\n    brokers: \"${{BROKERS}}\"\n    key: \"${{KEY}}$$${{EMPTY:-x}}\"\n"
    );
    write(folder.path(), "e2b-relay.yaml", &text);
    let environment = [("COUNT", "12"), ("BROKERS", r#"["h:1", "h:2"]"#), ("KEY", "a: ${COUNT} # \"'"), ("EMPTY", "")];
    let shown = show(folder.path(), &["e2b-relay.yaml"], &environment);
    assert_eq!(shown["server"]["max_connections"], 12);
    assert_eq!(shown["server"]["listen"], "127.0.0.1:1234");
    assert_eq!(shown["sinks"]["lake"]["brokers"], serde_json::json!(["h:1", "h:2"]));
    assert_eq!(shown["sinks"]["lake"]["key"], "a: ${COUNT} # \"'$x");
}

#[test]
fn a_variable_is_needed_only_where_nothing_replaces_it() {
    let folder = folder();
    write(
        folder.path(),
        "e2b-relay.yaml",
        "sources:\n  acme:\n    webhook:\n      secrets: [\"${NOT_SET}\"]\nsinks:\n  out: {type: stdout}\n",
    );
    let secrets = format!("[\"{SECRET}\"]");
    let run = run(relay(folder.path()).arg("check").env("E2B_RELAY__SOURCES__ACME__WEBHOOK__SECRETS", secrets));
    assert_eq!(run.code, Some(0), "{}", run.said());
}

#[test]
fn secrets_come_from_files_one_to_a_line() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    write(&folder.path().join("secrets"), "webhook", &format!("{SECRET}\nanother-{SECRET}\n"));
    write(
        folder.path(),
        "e2b-relay.yaml",
        "sources:\n  acme:\n    webhook:\n      secrets_file: secrets/webhook\nsinks:\n  out: {type: stdout}\n",
    );
    // From elsewhere: the path counts from the file's folder.
    let file = folder.path().join("e2b-relay.yaml");
    let shown = show(Path::new("/"), &[file.to_str().unwrap()], &[]);
    assert_eq!(shown["sources"]["acme"]["webhook"]["secrets"], serde_json::json!(["***", "***"]));
    let here = folder.path().join("data");
    assert_eq!(shown["store"]["path"], here.to_str().unwrap());
}

#[test]
fn warnings_are_told_and_do_not_fail() {
    let folder = folder();
    let text = "admin:\n  listen: 0.0.0.0:9464\nserver:\n  commit_timeout: 20s\nsources:\n  acme:\n    webhook:\n      secrets: \
                [sixteen-bytes-at-least]\nsinks:\n  lake:\n    type: kafka\n    brokers: [\"127.0.0.1:9092\"]\n    topic: \
                \"e2b.{{ type }}\"\n    key: \"{{ id }}\"\n";
    write(folder.path(), "e2b-relay.yaml", text);
    let text = run(relay(folder.path()).arg("check"));
    assert_eq!(text.code, Some(0), "{}", text.said());
    let Run { stdout, .. } = run(relay(folder.path()).args(["check", "--format", "json"]));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["valid"], true);
    for (key, line) in [
        ("admin.listen", 2),
        ("server.commit_timeout", 4),
        ("sources.acme.webhook.secrets[0]", 8),
        ("sinks.lake.topic", 13),
        ("sinks.lake.key", 14),
    ] {
        let warnings = report["warnings"].as_array().unwrap();
        assert!(warnings.iter().any(|one| one["key"] == key && one["line"] == line), "{key}: {warnings:#?}");
        assert!(text.stdout.contains(&format!("warning: e2b-relay.yaml:{line}: {key}: ")), "{}", text.stdout);
    }
}

#[test]
fn faults_are_told_to_programs_too() {
    let folder = folder();
    write(folder.path(), "e2b-relay.yaml", "server:\n  lisen: x\nsources:\nsinks:\n");
    let run = run(relay(folder.path()).args(["check", "--format", "json"]));
    assert_eq!(run.code, Some(78));
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let error = &report["errors"][0];
    assert_eq!((&error["file"], &error["line"]), (&Value::from("e2b-relay.yaml"), &Value::from(2)));
    assert_eq!((&error["key"], &error["message"]), (&Value::from("server.lisen"), &Value::from("unknown key")));
    assert_eq!(error["remedy"], "did you mean `listen`?");
}

#[test]
fn the_schema_is_printed() {
    let run = run(relay(folder().path()).args(["config", "schema"]));
    assert_eq!(run.code, Some(0));
    let schema: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["server"]["properties"]["max_body"]["default"], "1MiB");
}

const EVENT: &str = r#"{"id": "f5911677-cb60-498f-afed-f68143b3cc59", "type": "sandbox.lifecycle.killed", "version": "v2",
 "timestamp": "2025-08-06T20:59:36Z", "event_category": "lifecycle", "event_label": "kill",
 "event_data": {"sandbox_metadata": {"env": "prod"}}, "sandbox_id": "iz62km2v0zwlow3i7icxv",
 "sandbox_team_id": "460355b3-4f64-48f9-9a16-4442817f79f5"}"#;

const ROUTES: &str = r#"
sources:
  acme: {team_id: 460355b3-4f64-48f9-9a16-4442817f79f5, webhook: {secrets: ["0123456789abcdef0123456789abcdef"]}}
sinks:
  audit: {type: file, path: ./a, format: raw}
  bus: {type: nats, servers: ["nats://127.0.0.1:1"]}
  created: {type: stdout, types: ["*.created"]}
  dev: {type: stdout, filter: 'event_data.sandbox_metadata.env == "dev"'}
  lake: {type: kafka, brokers: ["127.0.0.1:1"], topic: "e2b.{{ event_data.sandbox_metadata.env }}"}
  lost: {type: kafka, brokers: ["127.0.0.1:1"], topic: "e2b.{{ event_data.sandbox_metadata.nosuch }}"}
"#;

#[test]
fn test_shows_what_each_sink_would_make_of_an_event() {
    let folder = folder();
    write(folder.path(), "e2b-relay.yaml", ROUTES);
    write(folder.path(), "event.json", EVENT);
    let text = run(relay(folder.path()).args(["test", "--event", "event.json"]));
    assert_eq!(text.code, Some(0), "{}", text.said());
    assert!(text.stdout.contains("created (stdout): not taken: type\n"), "{}", text.stdout);
    let json = run(relay(folder.path()).args(["test", "--event", "event.json", "--format", "json"]));
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(report["id"], "f5911677-cb60-498f-afed-f68143b3cc59");
    let sink = |name: &str| report["sinks"].as_array().unwrap().iter().find(|one| one["sink"] == name).unwrap();
    assert_eq!((&sink("created")["outcome"], &sink("created")["reason"]), (&"skip".into(), &"type".into()));
    assert_eq!(sink("dev")["reason"], "filter");
    assert_eq!((&sink("lost")["outcome"], &sink("lost")["reason"]), (&"dead_letter".into(), &"template".into()));
    assert_eq!(sink("lake")["to"], "e2b.prod");
    assert_eq!(sink("lake")["key"], "iz62km2v0zwlow3i7icxv");
    assert_eq!(sink("bus")["to"], "e2b.sandbox.lifecycle.killed.iz62km2v0zwlow3i7icxv");
    let raw: Value = serde_json::from_str(sink("audit")["payload"].as_str().unwrap()).unwrap();
    assert_eq!(raw["id"], "f5911677-cb60-498f-afed-f68143b3cc59");
    assert!(raw["raw_base64"].is_string());

    let record: Value = serde_json::from_str(sink("lake")["payload"].as_str().unwrap()).unwrap();
    let schema = std::fs::read_to_string(repository().join("config/record.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let errors: Vec<String> = validator.iter_errors(&record).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{record:#}");
    let mut without = record.clone();
    without["relay"]["origin"] = "elsewhere".into();
    assert!(!validator.is_valid(&without), "the record's schema takes anything");
}

#[test]
fn test_says_what_would_be_refused() {
    let folder = folder();
    write(folder.path(), "e2b-relay.yaml", ROUTES);
    for (event, words) in [
        (EVENT.replace("460355b3", "00000000"), "would be answered 401"),
        (EVENT.replace("timestamp", "time"), "would be answered 400: `timestamp` is missing"),
        (format!("{EVENT} {{}}"), "would be answered 400"),
        (format!("{{\"x\": \"{}\"}}", "x".repeat(2_000_000)), "would be answered 413"),
    ] {
        write(folder.path(), "event.json", &event);
        let run = run(relay(folder.path()).args(["test", "--event", "event.json"]));
        assert_eq!(run.code, Some(64), "{}", run.said());
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
}

#[test]
fn check_connect_asks_every_sink_and_says_what_each_answered() {
    let folder = folder();
    let text = format!(
        "sources:\n  acme: {{webhook: {{secrets: [\"{SECRET}\"]}}}}\nsinks:\n  audit: {{type: file, path: ./a}}\n  \
         lake: {{type: kafka, brokers: [\"127.0.0.1:1\"]}}\n  bus: {{type: nats, servers: [\"nats://127.0.0.1:1\"]}}\n  \
         queue: {{type: amqp, url: \"amqp://u:p@127.0.0.1:1\"}}\n"
    );
    write(folder.path(), "e2b-relay.yaml", &text);
    let run = run(relay(folder.path()).args(["check", "--connect", "--format", "json"]));
    assert_eq!(run.code, Some(69), "{}", run.said());
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["valid"], true);
    let answers = report["sinks"].as_array().unwrap();
    let available: Vec<(&str, bool)> =
        answers.iter().map(|one| (one["sink"].as_str().unwrap(), one["available"].as_bool().unwrap())).collect();
    assert_eq!(available, [("audit", true), ("bus", false), ("lake", false), ("queue", false)]);
    assert!(answers.iter().all(|one| !one["answer"].as_str().unwrap().is_empty()), "{answers:#?}");
}
