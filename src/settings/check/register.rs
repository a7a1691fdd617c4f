//! What is registered at the provider, over all sources: what the provider would refuse, and what would send deliveries
//! where nobody takes them.

use super::Findings;
use super::sources::is_loopback;
use crate::client::{normal_url, path_of, peer_of};
use crate::e2b::{self, EVENT_TYPES, SHORTEST_SECRET};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::settings::problem::KeyPath;
use crate::settings::walk::nearest;
use crate::source;
use crate::source::register::{self, Events};
use crate::source::webhook::DEFAULT_PATH;
use crate::verify::Accept;
use std::collections::BTreeMap;

/// In bytes; the provider names no limit.
const LONGEST_NAME: usize = 255;

pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let sources = settings.sources.iter();
    for (name, source, register) in sources.filter_map(|(name, source)| Some((name, source, source.register.as_ref()?)))
    {
        let here = KeyPath::of(["sources", name, "register"]);
        if source.api.is_none() {
            let remedy = format!("give sources.{name} an `api`");
            findings.error(&here, "has no `api` beside it to register with", remedy);
        }
        url(source, register, &here.key("url"), findings);
        if register.name.trim().is_empty() || register.name.len() > LONGEST_NAME {
            let message = format!("is empty or longer than {LONGEST_NAME} bytes");
            findings.error(&here.key("name"), message, format!("the default is {}", register::DEFAULT_NAME));
        }
        events(&register.events, &here.key("events"), findings);
        if register.interval.is_zero() {
            findings.error(&here.key("interval"), "is 0, so that it would never rest", "the default is 10m");
        }
        webhook(name, source, &here, findings);
    }
    twins(settings, findings);
}

fn url(source: &source::Settings, register: &register::Settings, key: &KeyPath, findings: &mut Findings) {
    let url = match normal_url(&register.url) {
        Ok(url) => url,
        Err(error) => {
            findings.error(key, error.to_string(), "write it like https://relay.example.com/webhooks/e2b");
            return;
        }
    };
    let api = source.api.as_ref().and_then(|api| api.url.as_deref()).unwrap_or(e2b::DEFAULT_URL);
    if host_is_loopback(&url) && !host_is_loopback(api) {
        let message = "is on this machine, where the provider cannot reach it";
        findings.error(key, message, "give the public address; on a laptop that of a tunnel");
    } else if url.starts_with("http://") && !host_is_loopback(&url) {
        let message = "is not https: whoever is on the way reads the events, and can send them again";
        findings.warn(key, message, "use https, by server.tls or by a proxy in front");
    }
    let Some(webhook) = &source.webhook else { return };
    let wanted = webhook.path.as_deref().unwrap_or(DEFAULT_PATH);
    if let Ok(path) = path_of(&url)
        && path != wanted
    {
        let message = format!("has the path {path}, and the relay takes deliveries at {wanted}");
        findings.warn(key, message, "let them be the same, unless a proxy in front changes the path");
    }
}

fn host_is_loopback(url: &str) -> bool {
    peer_of(url).is_ok_and(|peer| is_loopback(&peer))
}

fn events(events: &Events, key: &KeyPath, findings: &mut Findings) {
    let Events::Types(written) = events else { return };
    if written.is_empty() {
        findings.error(key, "is empty, so that nothing would be delivered", "leave it out for all types");
    }
    for (place, kind) in written.iter().enumerate() {
        let here = key.index(place);
        if events.types().get(place).is_some_and(|full| EVENT_TYPES.contains(&full.as_str())) {
            continue;
        }
        let short: Vec<&str> = EVENT_TYPES.iter().filter_map(|known| known.rsplit('.').next()).collect();
        let near = nearest(kind, &EVENT_TYPES).or_else(|| nearest(kind, &short));
        let remedy = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are all, {}", short.join(", ")),
        };
        if kind.contains('.') && !kind.contains(['*', ' ']) {
            findings.warn(&here, "is no type that is known here; the provider may refuse it", remedy);
        } else {
            findings.error(&here, "is no type of event", remedy);
        }
    }
}

/// Whether what is registered is taken here.
fn webhook(name: &str, source: &source::Settings, here: &KeyPath, findings: &mut Findings) {
    let Some(webhook) = &source.webhook else {
        let remedy = format!("give sources.{name} a `webhook`");
        findings.error(here, "has no `webhook` beside it that would take the deliveries", remedy);
        return;
    };
    let key = KeyPath::of(["sources", name, "webhook"]);
    let newest = webhook.secrets.len().saturating_sub(1);
    let length = webhook.secrets.last().map(Secret::expose).map(|secret| secret.chars().count());
    if let Some(length) = length.filter(|length| *length < SHORTEST_SECRET) {
        let message = format!("{length} characters are too few to be registered, and the last secret is");
        let remedy = format!("take {SHORTEST_SECRET} or more; `openssl rand -hex 32` makes one");
        findings.error(&key.key("secrets").index(newest), message, remedy);
    }
    if webhook.signature == Accept::Hmac {
        let message = "takes X-E2B-Signature alone, which the provider's webhooks do not carry";
        findings.warn(&key.key("signature"), message, "leave it out, or take `register` out");
    }
    if source.backfill.as_ref().is_some_and(|backfill| backfill.webhook_id.is_some()) {
        let key = KeyPath::of(["sources", name, "backfill", "webhook_id"]);
        findings.warn(&key, "stands beside `register`, which knows the id", "take it out");
    }
}

/// Two sources would take one webhook from each other, or get each other's deliveries.
fn twins(settings: &Settings, findings: &mut Findings) {
    let mut names: BTreeMap<(&str, &str, &str), KeyPath> = BTreeMap::new();
    let mut urls: BTreeMap<String, KeyPath> = BTreeMap::new();
    for (name, source) in &settings.sources {
        let (Some(register), Some(api)) = (&source.register, &source.api) else { continue };
        let here = KeyPath::of(["sources", name, "register"]);
        let account = (api.url.as_deref().unwrap_or_default(), api.api_key.as_ref().map_or("", Secret::expose));
        if let Some(other) = names.insert((account.0, account.1, &register.name), here.key("name")) {
            let message = format!("`{}` is the name in {other} too, with the same key", register.name.escape_debug());
            findings.error(&here.key("name"), message, "give each its own, or they would change one webhook in turn");
        }
        let Ok(url) = normal_url(&register.url) else { continue };
        if let Some(other) = urls.insert(url, here.key("url")) {
            let message = format!("is the URL in {other} too");
            findings.error(&here.key("url"), message, "give each source its own path");
        }
    }
}
