//! Paths and secrets, over all sources.

use super::Findings;
use crate::client::{Client, Limits};
use crate::e2b;
use crate::settings::Settings;
use crate::settings::problem::KeyPath;
use crate::source;
use crate::source::webhook::{DEFAULT_PATH, MAX_SECRETS};
use std::collections::BTreeMap;
use std::time::Duration;

/// Taken by the public listener itself.
const RESERVED: &str = "/readyz";
/// Shorter secrets are refused, in bytes.
const SHORTEST_SECRET: usize = 16;
/// Shorter secrets are warned about, in bytes: E2B's dashboard asks for as many characters.
const GOOD_SECRET: usize = 32;

/// The provider's own rhythm (e2b-dev/infra `packages/orchestrator/pkg/metrics/sandboxes.go`).
const SAMPLED_EVERY: Duration = Duration::from_secs(5);

pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let here = KeyPath::of(["sources"]);
    let is_empty = |source: &source::Settings| source.webhook.is_none() && source.api.is_none();
    for name in settings.sources.iter().filter(|(_, source)| is_empty(source)).map(|(name, _)| name) {
        let message = "has neither `webhook` nor `api`, so that nothing could reach it";
        findings.error(&here.key(name), message, "give it `webhook: {secrets: [...]}`");
    }
    paths(settings, findings);
    secrets(settings, findings);
    apis(settings, findings);
    backfills(settings, findings);
    pollers(settings, findings);
}

fn paths(settings: &Settings, findings: &mut Findings) {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, source) in &settings.sources {
        let Some(webhook) = &source.webhook else { continue };
        let key = KeyPath::of(["sources", name, "webhook"]);
        let Some(path) = webhook.path.as_deref() else {
            if settings.sources.len() > 1 {
                let remedy = format!("with several sources each needs its own, such as `{DEFAULT_PATH}/{name}`");
                findings.error(&key, "lacks `path`", remedy);
            }
            continue;
        };
        let key = key.key("path");
        if !path.starts_with('/') {
            findings.error(&key, format!("`{}` does not begin with `/`", path.escape_debug()), "begin it with `/`");
        } else if let Some(odd) = path.chars().find(|odd| !odd.is_ascii_graphic() || "?#{}*\\".contains(*odd)) {
            let message = format!("holds `{}`, which is not part of a plain path", odd.escape_debug());
            findings.error(&key, message, "percent-encode it, or leave it out");
        } else if path == RESERVED {
            findings.error(&key, format!("{RESERVED} is the listener's own"), "choose another path");
        } else if let Some(other) = known.insert(path, name) {
            let message = format!("`{path}` is the path of source `{other}` too");
            findings.error(&key, message, "give each source its own path");
        }
    }
}

fn secrets(settings: &Settings, findings: &mut Findings) {
    let mut known: BTreeMap<&str, KeyPath> = BTreeMap::new();
    for (name, source) in &settings.sources {
        let Some(webhook) = &source.webhook else { continue };
        let list = KeyPath::of(["sources", name, "webhook", "secrets"]);
        match webhook.secrets.len() {
            0 => findings.error(&list, "is empty", "give the secret that the webhook was registered with"),
            count if count > MAX_SECRETS => {
                let message = format!("{count} are more than {MAX_SECRETS}");
                findings.error(&list, message, "take out those that are rotated away");
            }
            _ => {}
        }
        for (place, secret) in webhook.secrets.iter().enumerate() {
            let (key, secret) = (list.index(place), secret.expose());
            match secret.len() {
                short if short < SHORTEST_SECRET => {
                    let message = format!("{short} bytes are too short for a secret");
                    let remedy = format!("take {GOOD_SECRET} or more; `openssl rand -hex 32` makes one");
                    findings.error(&key, message, remedy);
                }
                short if short < GOOD_SECRET => {
                    let message = format!("{short} bytes are few for a secret");
                    findings.warn(&key, message, format!("take {GOOD_SECRET} or more, as E2B's dashboard asks for"));
                }
                _ => {}
            }
            if let Some(other) = known.get(secret) {
                // With one secret in two sources, a delivery for one could be played to the other.
                let message = format!("is the same secret as {other}");
                findings.error(&key, message, "use each secret once");
            } else {
                known.insert(secret, key);
            }
        }
    }
}

fn apis(settings: &Settings, findings: &mut Findings) {
    let mut known: BTreeMap<(&str, &str), KeyPath> = BTreeMap::new();
    for (name, source) in &settings.sources {
        let Some(api) = &source.api else { continue };
        let here = KeyPath::of(["sources", name, "api"]);
        let url = api.url.as_deref().unwrap_or(e2b::DEFAULT_URL);
        match Client::new(url, Limits::default()) {
            Err(error) => findings.error(&here.key("url"), error.to_string(), "write it like https://api.e2b.app"),
            Ok(client) if url.starts_with("http://") && !is_loopback(&client.peer()) => {
                let message = "is not https: whoever is on the way can read the key";
                findings.warn(&here.key("url"), message, "use https, if the API has it");
            }
            Ok(_) => {}
        }
        if api.max_calls_per_minute == 0 {
            let message = "is 0, so that nothing could be asked";
            findings.error(&here.key("max_calls_per_minute"), message, "give it 1 or more");
        }
        if api.timeout.is_zero() {
            findings.error(&here.key("timeout"), "is 0, so that every reply would be too late", "the default is 10s");
        }
        let Some(key) = &api.api_key else {
            let message = format!("lacks `api_key`, and {} is not set", e2b::KEY_VARIABLE);
            findings.error(&here, message, "make a key at https://e2b.dev/dashboard and set one of the two");
            continue;
        };
        let (here, key_text) = (here.key("api_key"), key.expose());
        if key_text.is_empty() || !key_text.bytes().all(|byte| byte.is_ascii_graphic()) {
            findings.error(&here, "is empty or holds characters that no header can", "copy it again");
        } else if !api.has_usual_key() {
            let message = "does not look like one of E2B's: `e2b_` and hexadecimal digits";
            findings.warn(&here, message, "leave it, if the installation has other keys");
        }
        if let Some(other) = known.insert((url, key_text), here.clone()) {
            findings.warn(
                &here,
                format!("is the same key as {other}"),
                "every event then comes twice, once by each source",
            );
        }
    }
}

/// Of `host:port`.
pub(super) fn is_loopback(peer: &str) -> bool {
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// What asks the API needs one, and rests between two looks.
fn pollers(settings: &Settings, findings: &mut Findings) {
    for (name, source) in &settings.sources {
        let here = KeyPath::of(["sources", name]);
        let metrics = source.metrics.as_ref().map(|metrics| metrics.interval);
        let reconcile = source.reconcile.as_ref().map(|reconcile| reconcile.interval);
        let asks =
            [("metrics", metrics.is_some()), ("reconcile", reconcile.is_some()), ("verify_kills", source.verify_kills)];
        for (key, _) in asks.iter().filter(|(_, asks)| *asks && source.api.is_none()) {
            findings.error(&here.key(key), "has no `api` beside it to ask", format!("give sources.{name} an `api`"));
        }
        for (section, interval, default) in [("metrics", metrics, "5s"), ("reconcile", reconcile, "5m")] {
            if interval.is_some_and(|interval| interval.is_zero()) {
                let remedy = format!("the default is {default}");
                findings.error(&here.key(section).key("interval"), "is 0, so that it would never rest", remedy);
            }
        }
        if metrics.is_some_and(|interval| !interval.is_zero() && interval < SAMPLED_EVERY) {
            let message = "is shorter than the 5 s between two samples";
            findings.warn(&here.key("metrics").key("interval"), message, "5s sees each sample");
        }
    }
}

fn backfills(settings: &Settings, findings: &mut Findings) {
    for (name, source) in &settings.sources {
        let here = KeyPath::of(["sources", name, "backfill"]);
        if source.backfill.is_some() && source.api.is_none() {
            findings.error(&here, "has no `api` beside it to ask", format!("give sources.{name} an `api`"));
        }
        if source.backfill.is_none() && source.api.is_none() {
            continue;
        }
        let backfill = source.backfill.clone().unwrap_or_default();
        if backfill.interval.is_zero() {
            findings.error(&here.key("interval"), "is 0, so that it would never rest", "the default is 30s");
        }
        let (window, needed) = (settings.store.dedupe_window, backfill.lookback + backfill.overlap);
        if backfill.enabled && window < needed {
            let shown = |time| humantime::format_duration(time);
            let message = format!("{} is less than lookback and overlap of sources.{name}.backfill", shown(window));
            let remedy = format!("give it {} or more, since what is fetched again must be known", shown(needed));
            findings.error(&KeyPath::of(["store", "dedupe_window"]), message, remedy);
        }
    }
}
