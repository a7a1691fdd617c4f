//! Paths and secrets, over all sources.

use super::Findings;
use crate::settings::Settings;
use crate::settings::problem::KeyPath;
use crate::source::webhook::{DEFAULT_PATH, MAX_SECRETS};
use std::collections::BTreeMap;

/// Taken by the public listener itself.
const RESERVED: &str = "/readyz";
/// Shorter secrets are refused, in bytes.
const SHORTEST_SECRET: usize = 16;
/// Shorter secrets are warned about, in bytes: E2B's dashboard asks for as many characters.
const GOOD_SECRET: usize = 32;

pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let here = KeyPath::of(["sources"]);
    for name in settings.sources.iter().filter(|(_, source)| source.webhook.is_none()).map(|(name, _)| name) {
        let message = "has no `webhook`, so that nothing could reach it";
        findings.error(&here.key(name), message, "give it `webhook: {secrets: [...]}`");
    }
    paths(settings, findings);
    secrets(settings, findings);
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
