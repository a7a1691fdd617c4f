//! Every key that may bear a secret is set to a canary, and no canary comes out anywhere.

use super::{Run, relay, run};
use e2b_relay::settings::{self, Environment};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

/// What must not be seen. Each canary is this and a number, so that a failure tells which one sang.
const CANARY: &str = "c4n4ry";

/// A seed has no room for that: this one must not be seen either.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

/// A configuration that passes its check; `{}` becomes the next canary, of 32 bytes and more. A certificate is no secret, and
/// librdkafka tells it.
const CONFIGURATION: &str = r#"
server: {listen: "127.0.0.1:0"}
admin: {listen: "127.0.0.1:0"}
sources:
  acme: {webhook: {path: /a, secrets: ["{}", "{}"]}, api: {url: "http://127.0.0.1:1", api_key: "{}"}}
  zeta: {webhook: {path: /z, secrets_file: secrets.txt}}
sinks:
  typed:
    type: kafka
    brokers: ["127.0.0.1:1"]
    tls: {key_password: "{}"}
    sasl: {mechanism: PLAIN, username: relay, password: "{}"}
    format: avro
    schema_registry: {url: "http://127.0.0.1:1", username: relay, password: "{}"}
  tokens:
    type: kafka
    brokers: ["127.0.0.1:1"]
    sasl: {mechanism: OAUTHBEARER, token_url: "http://127.0.0.1:1/", client_id: relay, client_secret: "{}"}
  passed:
    type: kafka
    brokers: ["127.0.0.1:1"]
    librdkafka:
      security.protocol: sasl_ssl
      sasl.mechanism: OAUTHBEARER
      sasl.username: relay
      sasl.password: "{}"
      sasl.oauthbearer.config: "principal={}"
      ssl.key.password: "{}"
      ssl.keystore.password: "{}"
      debug: all
  pem:
    type: kafka
    brokers: ["127.0.0.1:1"]
    librdkafka:
      security.protocol: ssl
      ssl.key.pem: "{}\n-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVzJ7pO6mBPHhtDxr\n\
        ZX20uOjiHuy+eA3BoTKpWqAmHzWhRANCAASDhPKKCeq7lrZgUgYTuytsVMl1Gtdf\n\
        ow9WQcvLr3n9UFtwgPyPjI7XvWQa/AQJaY14CzBcGDhrHQ9xiClVf/5R\n\
        -----END PRIVATE KEY-----\n"
      ssl.certificate.pem: "-----BEGIN CERTIFICATE-----\n\
        MIIBejCCAR+gAwIBAgIUDQ0wI+4oj2+zG+IAPryi8FYHOkYwCgYIKoZIzj0EAwIw\n\
        ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEzMDA0MzIxMVoYDzIxMjYxMTA2MDQz\n\
        MjExWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
        AASDhPKKCeq7lrZgUgYTuytsVMl1Gtdfow9WQcvLr3n9UFtwgPyPjI7XvWQa/AQJ\n\
        aY14CzBcGDhrHQ9xiClVf/5Ro1MwUTAdBgNVHQ4EFgQU/YNOtLEgQGstQIr4UP5p\n\
        E3agz5IwHwYDVR0jBBgwFoAU/YNOtLEgQGstQIr4UP5pE3agz5IwDwYDVR0TAQH/\n\
        BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAvz9C9Bfw+/3lVQy81l858pbYzJK1\n\
        G3SoWHkSEc/raxACIQCBIHJ2N4SvEew5OwLkspAQ8y358KY3HSmxZgfE/tYRUQ==\n\
        -----END CERTIFICATE-----\n"
      debug: all
  user: {type: nats, servers: ["nats://relay:{}@127.0.0.1:1"]}
  bare: {type: nats, servers: ["nats://{}@127.0.0.1:1"]}
  token: {type: nats, servers: ["nats://127.0.0.1:1"], token: "{}"}
  nkey: {type: nats, servers: ["nats://127.0.0.1:1"], nkey: "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"}
  credentials:
    type: nats
    servers: ["nats://127.0.0.1:1"]
    credentials: "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n\
      SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n------END USER NKEY SEED------\n"
  queue: {type: amqp, url: "amqp://relay:{}@127.0.0.1:1/%2f"}
  from_file: {type: amqp, url_file: url.txt}
  cluster: {type: amqp, urls: ["amqp://relay:{}@127.0.0.1:1/%2f", "amqps://{}@127.0.0.1:1"]}
"#;

fn canary(number: usize) -> String {
    format!("{CANARY}-{number:02}-0123456789abcdef0123456789")
}

/// The text with a canary in the place of every `{}`.
fn with_canaries(text: &str, first: usize) -> String {
    let mut parts = text.split("{}");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        write!(filled, "{}{part}", canary(first + number)).unwrap();
    }
    filled
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("e2b-relay.yaml", with_canaries(CONFIGURATION, 0));
    write("secrets.txt", format!("{}\n{}\n", canary(90), canary(91)));
    write("url.txt", format!("amqp://relay:{}@127.0.0.1:1\n", canary(92)));
    folder
}

fn assert_silent(what: &str, said: &str) {
    if let Some(at) = [CANARY, SEED].into_iter().find_map(|secret| said.find(secret)) {
        let line = said[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = said[at..].find('\n').map_or(said.len(), |end| at + end);
        panic!("{what} says: {}", &said[line..end]);
    }
}

/// The keys of the schema that are secrets, by type of sink.
fn secrets_of(schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let here = format!("{path}.{key}");
        if inner["writeOnly"] == true || inner["items"]["writeOnly"] == true {
            keys.insert(here.clone());
        }
        secrets_of(inner, &here, keys);
    }
    for choice in schema["oneOf"].as_array().into_iter().chain(schema["anyOf"].as_array()).flatten() {
        let kind = choice.pointer("/properties/type/const").and_then(Value::as_str);
        secrets_of(choice, &kind.map_or(path.to_owned(), |kind| format!("{path}<{kind}>")), keys);
    }
    if schema["additionalProperties"].is_object() {
        secrets_of(&schema["additionalProperties"], &format!("{path}.*"), keys);
    }
}

/// A new key for a secret must come into the test above before it can go out into the world.
#[test]
fn every_key_for_a_secret_has_a_canary() {
    let mut keys = BTreeSet::new();
    secrets_of(&settings::schema(), "", &mut keys);
    let expected = [
        ".sinks.*<amqp>.schema_registry.password",
        ".sinks.*<amqp>.url",
        ".sinks.*<amqp>.urls",
        ".sinks.*<file>.schema_registry.password",
        ".sinks.*<kafka>.sasl.client_secret",
        ".sinks.*<kafka>.sasl.password",
        ".sinks.*<kafka>.schema_registry.password",
        ".sinks.*<kafka>.tls.key_password",
        ".sinks.*<nats>.credentials",
        ".sinks.*<nats>.nkey",
        ".sinks.*<nats>.schema_registry.password",
        ".sinks.*<nats>.servers",
        ".sinks.*<nats>.token",
        ".sinks.*<stdout>.schema_registry.password",
        ".sources.*.api.api_key",
        ".sources.*.webhook.secrets",
    ];
    assert_eq!(keys.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    for key in expected {
        let name = key.rsplit('.').next().unwrap();
        let is_secret = |line: &str| line.contains("{}") || line.contains(SEED);
        assert!(CONFIGURATION.lines().any(|line| line.contains(&format!("{name}: ")) && is_secret(line)), "{key}");
    }
}

#[test]
fn commands_say_no_canary() {
    let folder = folder();
    for arguments in [
        &["check"][..],
        &["check", "--format", "json"],
        &["config", "show"],
        &["config", "show", "--format", "json"],
        &["config", "schema"],
    ] {
        let run = run(relay(folder.path()).args(["--log-level", "trace"]).args(arguments));
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.said());
        assert_silent(&format!("{arguments:?}"), &run.said());
    }
    let shown = run(relay(folder.path()).args(["config", "show"])).stdout;
    assert!(shown.matches("***").count() >= 19, "too little is masked:\n{shown}");
}

#[test]
fn peers_that_refuse_bring_no_canary_out() {
    let folder = folder();
    let run = run(relay(folder.path()).args(["--log-level", "trace", "check", "--connect"]));
    assert_eq!(run.code, Some(69), "{}", run.said());
    assert_eq!(run.stdout.matches(": unavailable: ").count(), 13, "{}", run.stdout);
    assert_silent("check --connect", &run.said());
}

#[test]
fn faults_show_no_canary() {
    let head =
        "sinks: {out: {type: stdout}}\nsources: {acme: {webhook: {secrets: [\"0123456789abcdef0123456789abcdef\"]}}}\n";
    let sources = "sinks: {out: {type: stdout}}\nsources:\n  acme:\n    webhook:\n";
    let sound = "sources: {acme: {webhook: {secrets: [\"0123456789abcdef0123456789abcdef\"]}}}\nsinks: ";
    let passed = format!("{sound}{{k: {{type: kafka, brokers: [\"h:1\"], librdkafka: {{security.protocol: ssl, ");
    let nats = format!("{sound}{{n: {{type: nats, servers: [\"nats://h:1\"], ");
    for (number, text) in [
        // A secret in the wrong place, of the wrong type, or beside itself.
        format!("{sources}      secrets: {{}}\n"),
        format!("{sources}      secrets: {{a: \"{{}}\"}}\n"),
        format!("{sources}      secrets: [[\"{{}}\"]]\n"),
        format!("{sources}      secrets: [\"{{}}\"]\n      secrets_file: x\n"),
        format!("{sources}      secrets: [\"{{}}\"]\n      secret: \"{{}}\"\n"),
        format!("{sources}      secrets: [\"{CANARY}\"]\n"),
        format!("{sources}      secrets: [\"{CANARY}-twice-0123456789abcdef0123456\", \"{CANARY}-twice-0123456789abcdef0123456\"]\n"),
        // What the parsers stumble over.
        format!("{sources}      secrets: [\"{{}}\n"),
        format!("{sources}      secrets: [\"{{}}\"] \"\n"),
        format!("{sources}      secrets: [\"{{}}\"]\n      secrets: [\"{{}}\"]\n"),
        // Peers' addresses that cannot be used.
        format!("{head}sinks: {{q: {{type: amqp, url: \"http://u:{{}}@h\"}}}}\n"),
        "sinks: {q: {type: amqp, url: \"amqp://u:{}@h:x\"}}\n".to_owned(),
        "sinks: {n: {type: nats, servers: [\"nats://u:{}@h:x\"]}}\n".to_owned(),
        "sinks: {n: {type: nats, servers: [\"http://u:{}@h\"]}}\n".to_owned(),
        "sinks: {k: {type: kafka, brokers: [\"h:1\"], librdkafka: {sasl.password: [\"{}\"]}}}\n".to_owned(),
        "sinks: {k: {type: kafka, brokers: [\"h:1\"], librdkafka: {sasl.passwort: \"{}\"}}}\n".to_owned(),
        "sinks: {k: {type: kafka, brokers: [\"h:1\"], sasl: {mechanism: X, username: u, password: \"{}\"}}}\n".to_owned(),
        // What only the clients' libraries can read.
        format!("{passed}ssl.key.pem: \"-----BEGIN PRIVATE KEY-----\\n{{}}\\n-----END PRIVATE KEY-----\\n\"}}}}}}\n"),
        format!("{passed}ssl.certificate.pem: \"-----BEGIN CERTIFICATE-----\\n{{}}\\n-----END CERTIFICATE-----\\n\"}}}}}}\n"),
        format!("{nats}nkey: \"{{}}\"}}}}\n"),
        format!("{nats}credentials: \"{{}}\"}}}}\n"),
    ]
    .iter()
    .enumerate()
    {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("e2b-relay.yaml"), with_canaries(text, 0)).unwrap();
        for format in ["text", "json"] {
            let run = run(relay(folder.path()).args(["check", "--log-level", "trace", "--format", format]));
            assert_eq!(run.code, Some(78), "{number}: {text}\n{}", run.said());
            assert_silent(&format!("{number}: {text}"), &run.said());
        }
    }
}

#[test]
fn a_secret_that_a_variable_brings_to_the_wrong_key_is_not_shown() {
    let good = "sources: {acme: {webhook: {secrets: [\"0123456789abcdef0123456789abcdef\"]}}}\n";
    for key in [
        "server: {listen: \"${V}\"}\nsinks: {out: {type: stdout}}\n",
        "server: {max_body: \"${V}\"}\nsinks: {out: {type: stdout}}\n",
        "server: {request_timeout: \"${V}\"}\nsinks: {out: {type: stdout}}\n",
        "server: {max_connections: \"${V}\"}\nsinks: {out: {type: stdout}}\n",
        "sinks: {out: {type: \"${V}\"}}\n",
        "sinks: {out: {type: stdout, filter: \"${V} ==\"}}\n",
        "sinks: {out: {type: stdout, types: [\"[${V}\"]}}\n",
        "sinks: {out: {type: stdout, format: \"${V}\"}}\n",
        "sinks: {out: {type: stdout, start: \"${V}\"}}\n",
        "sinks: {out: {type: stdout, sources: [\"${V}\"]}}\n",
        "sinks: {k: {type: kafka, brokers: [\"${V}\"]}}\n",
        "sinks: {k: {type: kafka, brokers: [\"h:1\"], topic: \"{{ ${V}\"}}\n",
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("e2b-relay.yaml"), format!("{good}{key}")).unwrap();
        let run = run(relay(folder.path()).arg("check").env("V", canary(0)));
        assert_eq!(run.code, Some(78), "{key}: {}", run.said());
        assert_silent(key, &run.said());
    }
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{good}sinks: {{out: {{type: stdout}}}}\n");
    std::fs::write(folder.path().join("e2b-relay.yaml"), text).unwrap();
    for name in ["E2B_RELAY__SERVER__LISTEN", "E2B_RELAY__SINKS__OUT__FORMAT", "E2B_RELAY__SERVER__TLS", "E2B_RELAY__X"]
    {
        let run = run(relay(folder.path()).arg("check").env(name, canary(0)));
        assert_eq!(run.code, Some(78), "{name}: {}", run.said());
        assert_silent(name, &run.said());
    }
}

#[test]
fn settings_and_a_panic_over_them_show_no_canary() {
    let folder = folder();
    let loaded = settings::load(&[folder.path().join("e2b-relay.yaml")], &Environment::default()).unwrap();
    assert_silent("Debug", &format!("{:?}\n{:#?}", loaded, loaded.settings));
    assert_silent("Serialize", &serde_json::to_string(&loaded.settings).unwrap());
    let panic = std::panic::catch_unwind(|| panic!("{:?}", loaded.settings)).unwrap_err();
    assert_silent("a panic", panic.downcast_ref::<String>().expect("a message"));
}

/// The daemon with clients that cannot reach anyone, at the most talkative level, until it is told to end.
#[test]
fn the_daemon_says_no_canary_at_trace() {
    let folder = folder();
    let Run { code, stdout, stderr } = start_and_stop(folder.path());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("TRACE") || stderr.contains("DEBUG") || stderr.lines().count() > 5, "too quiet: {stderr}");
    assert_silent("the daemon", &format!("{stdout}{stderr}"));
}

/// Runs until deliveries are taken, asks for the metrics, and ends it by SIGTERM. The metrics are in `stdout`.
fn start_and_stop(folder: &Path) -> Run {
    let mut child = relay(folder)
        .args(["--log-level", "trace", "--log-format", "json", "run"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stderr = String::new();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let admin = loop {
        let mut line = String::new();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "ended before it took deliveries:\n{stderr}");
        stderr.push_str(&line);
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(admin) = line["admin"].as_str() {
            break admin.to_owned();
        }
    };
    let mut stdout = String::new();
    let mut metrics = TcpStream::connect(&admin).unwrap();
    metrics
        .write_all(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    metrics.read_to_string(&mut stdout).unwrap();
    assert!(stdout.contains("e2b_relay_sink_up"), "{stdout}");
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    said.read_to_string(&mut stderr).unwrap();
    Run { code: child.wait().unwrap().code(), stdout, stderr }
}
