//! Checks that need more than one key, or another room's knowledge: what the schema cannot say.

mod durations;
mod files;
mod register;
mod sinks;
mod sources;

use super::Settings;
use super::problem::{KeyPath, Problem};
use super::provenance::Provenance;
use crate::admin::Token;
use crate::sink::InvalidSetting;
use bytesize::ByteSize;
use std::net::SocketAddr;
use std::time::Duration;

/// A smaller store could not hold a few segments and what the sinks have not sent yet.
const LEAST_STORE: ByteSize = ByteSize::mib(64);
/// The provider waits about so long for an answer; see its delivery log's `durationMs` of timed out attempts.
const PROVIDERS_PATIENCE: Duration = Duration::from_secs(10);
/// Names become labels of metrics and parts of file names.
const LONGEST_NAME: usize = 64;

/// What the checks found, without places.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// With one of these the settings cannot be used.
    pub(super) errors: Vec<Problem>,
    /// Allowed, but probably not meant.
    pub(super) warnings: Vec<Problem>,
}

impl Findings {
    fn error(&mut self, key: &KeyPath, message: impl Into<String>, remedy: impl Into<String>) {
        self.errors.push(Problem::new(key, message).remedy(remedy));
    }

    /// What a sink's own check found. Its message holds the remedy.
    fn accept(&mut self, section: &KeyPath, result: Result<(), InvalidSetting>) {
        if let Err(InvalidSetting { key, message }) = result {
            // The rest of `librdkafka.linger.ms` is one key.
            let key = match key.split_once('.') {
                Some((first, rest)) => section.key(first).key(rest),
                None => section.key(&key),
            };
            // What is wrong with a template, say, has been said.
            if !self.errors.iter().any(|error| error.key == key) {
                self.errors.push(Problem::new(&key, message));
            }
        }
    }

    fn warn(&mut self, key: &KeyPath, message: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(Problem::new(key, message).remedy(remedy));
    }
}

/// Runs every check, with `files` also those that look at this machine's disk.
pub(super) fn check(settings: &Settings, provenance: &Provenance, files: bool) -> Findings {
    let mut findings = Findings::default();
    counts_and_names(settings, &mut findings);
    listeners(settings, &mut findings);
    limits(settings, &mut findings);
    sources::check(settings, &mut findings);
    register::check(settings, &mut findings);
    sinks::check(settings, provenance, &mut findings);
    if files {
        files::check(settings, &mut findings);
    }
    durations::check(settings, &mut findings);
    findings
}

fn counts_and_names(settings: &Settings, findings: &mut Findings) {
    let sections: [(&str, Vec<&String>); 2] =
        [("sources", settings.sources.keys().collect()), ("sinks", settings.sinks.keys().collect())];
    for (section, names) in sections {
        let here = KeyPath::of([section]);
        if names.is_empty() {
            findings.error(&here, "there is none", format!("add at least one under `{section}:`"));
        }
        for name in names.into_iter().filter(|name| !is_name(name)) {
            let rule = format!("begin with a to z, go on with a to z, 0 to 9 and `_`, {LONGEST_NAME} at most");
            findings.error(&here.key(name), "is not a usable name", rule);
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= LONGEST_NAME
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn listeners(settings: &Settings, findings: &mut Findings) {
    let key = KeyPath::of(["admin", "listen"]);
    let (public, admin) = (settings.server.listen, settings.admin.listen);
    if clash(public, admin) {
        let message = format!("{admin} is taken by server.listen ({public})");
        findings.error(&key, message, "give the two listeners different ports");
    }
    if let Some(file) = &settings.admin.token_file
        && let Err(error) = Token::read(file)
    {
        let remedy =
            "put a token of 16 or more characters there (`openssl rand -hex 32` makes one), or leave the key out";
        findings.error(&KeyPath::of(["admin", "token_file"]), error.to_string(), remedy);
    }
    if !admin.ip().is_loopback() {
        let message = format!("{admin} can be reached from other machines, and /metrics needs no token");
        findings.warn(&key, message, "keep it on loopback, or behind a firewall");
    }
}

/// Whether the second listener would find its address in use. Port 0 is a free one.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let either = |test: fn(&SocketAddr) -> bool| test(&one) || test(&other);
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || either(|address| address.ip().is_unspecified()))
}

fn limits(settings: &Settings, findings: &mut Findings) {
    let server = &settings.server;
    let here = KeyPath::of(["server"]);
    for (key, size) in [("max_body", server.max_body), ("max_buffered", server.max_buffered)] {
        if size.as_u64() == 0 {
            findings.error(&here.key(key), "is 0, so that nothing could be received", "give it a size above 0");
        }
    }
    if server.max_body > server.max_buffered {
        let message = format!("{} is more than server.max_buffered ({})", server.max_body, server.max_buffered);
        findings.error(&here.key("max_body"), message, "lower it, or raise server.max_buffered");
    }
    for (key, count) in [("max_in_flight", server.max_in_flight), ("max_connections", server.max_connections)] {
        if count == 0 {
            findings.error(&here.key(key), "is 0, so that nothing could be received", "give it 1 or more");
        }
    }
    for (key, time) in [("request_timeout", server.request_timeout), ("commit_timeout", server.commit_timeout)] {
        if time.is_zero() {
            findings.error(&here.key(key), "is 0, so that every request would be too late", "give it a time above 0");
        }
    }
    if server.commit_timeout > PROVIDERS_PATIENCE {
        let message = "is longer than the provider waits for an answer (about 10s)";
        findings.warn(&here.key("commit_timeout"), message, "lower it, so that a late delivery gets its 503");
    }
    let (store, here) = (&settings.store, KeyPath::of(["store"]));
    if store.max_size < LEAST_STORE {
        let message = format!("{} is too small for a store", store.max_size);
        findings.error(&here.key("max_size"), message, format!("give it {LEAST_STORE} or more"));
    }
    if let Some(letters) = store.max_dead_letters_size.filter(|letters| *letters > store.max_size) {
        let message = format!("{letters} is more than store.max_size ({}), of which it is a part", store.max_size);
        findings.error(&here.key("max_dead_letters_size"), message, "lower it, or leave it out");
    }
    if store.dedupe_window.is_zero() {
        findings.error(&here.key("dedupe_window"), "is 0, so that every event would be too old", "the default is 8d");
    }
}
