//! Which of the webhooks at the provider is the relay's own, and in what it differs from the settings. Pure.

use super::settings::Settings;
use crate::client::normal_url;
use crate::e2b::{NewWebhook, Webhook, WebhookChange};
use crate::secret::Secret;

/// It cannot be told whether one of the name is the relay's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// There are several.
    #[error(
        "there are {} webhooks `{name}` at the provider ({}), and nobody can tell which one is this relay's: delete or \
         rename the others with `e2b-relay webhooks delete` or `update`, or choose another `register.name`",
        .ids.len(), .ids.join(", ")
    )]
    Several {
        /// That they share.
        name: String,
        /// As the provider lists them.
        ids: Vec<String>,
    },
    /// The only one delivers to somebody else.
    #[error(
        "the webhook `{name}` at the provider ({id}) delivers to {found} and not to {wanted}, so that it may be another \
         relay's: choose another `register.name`, or take that one over with `e2b-relay webhooks ensure --adopt`"
    )]
    Elsewhere {
        /// Of both.
        name: String,
        /// Of the one that is there.
        id: String,
        /// Its URL, without parameters.
        found: String,
        /// The settings' URL.
        wanted: String,
    },
}

/// The relay's own among `listed`: the one of the id that was kept, else the only one of the name if it delivers here.
/// `None` where there is none yet.
///
/// # Errors
/// If there are others of the name, and it cannot be told whether one is the relay's.
pub fn find<'w>(
    listed: &'w [Webhook],
    settings: &Settings,
    kept_id: Option<&str>,
) -> Result<Option<&'w Webhook>, Conflict> {
    let kept = listed.iter().find(|webhook| kept_id == Some(&*webhook.id));
    if kept.is_some() {
        return Ok(kept);
    }
    let named: Vec<&Webhook> = listed.iter().filter(|webhook| webhook.name == settings.name).collect();
    match named.as_slice() {
        [] => Ok(None),
        [one] if delivers_to(one, &settings.url) => Ok(Some(one)),
        [one] => Err(Conflict::Elsewhere {
            name: settings.name.clone(),
            id: one.id.clone(),
            found: shown(&one.url),
            wanted: settings.url.clone(),
        }),
        several => Err(several_of(settings, several)),
    }
}

/// Others of the relay's name beside its own. It is known by its id, and stays the relay's; still one of them is too many.
pub(super) fn namesakes(listed: &[Webhook], settings: &Settings, own_id: &str) -> Option<Conflict> {
    let named = |webhook: &&Webhook| webhook.id == own_id || webhook.name == settings.name;
    let named: Vec<&Webhook> = listed.iter().filter(named).collect();
    (named.len() > 1).then(|| several_of(settings, &named))
}

fn several_of(settings: &Settings, several: &[&Webhook]) -> Conflict {
    Conflict::Several { name: settings.name.clone(), ids: several.iter().map(|webhook| webhook.id.clone()).collect() }
}

/// Whether the webhook's URL is `url`, however each is spelled.
pub fn delivers_to(webhook: &Webhook, url: &str) -> bool {
    match (normal_url(&webhook.url), normal_url(url)) {
        (Ok(one), Ok(other)) => one == other,
        _ => webhook.url == url,
    }
}

/// Somebody else's URL for people to read: its parameters may be his secret.
fn shown(url: &str) -> String {
    match normal_url(url) {
        Ok(url) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
        Err(_) => "another URL".to_owned(),
    }
}

/// What the relay's own webhook lacks.
#[derive(Debug, Clone, Default)]
pub struct Drift {
    /// What puts it right.
    pub change: WebhookChange,
    /// The settings' words for it; empty where it is in line.
    pub differs: Vec<&'static str>,
}

/// Compares what can be read back; the secret cannot.
pub fn drift(webhook: &Webhook, settings: &Settings) -> Drift {
    let mut drift = Drift::default();
    if webhook.name != settings.name {
        drift.change.name = Some(settings.name.clone());
        drift.differs.push("name");
    }
    if !delivers_to(webhook, &settings.url) {
        drift.change.url = Some(settings.url.clone());
        drift.differs.push("url");
    }
    if !settings.events.are_met_by(&webhook.events) {
        drift.change.events = Some(settings.events.types());
        drift.differs.push("events");
    }
    if !webhook.enabled {
        drift.change.enabled = Some(true);
        drift.differs.push("enabled");
    }
    drift
}

/// What is registered where there is none.
pub fn fresh(settings: &Settings, secret: &Secret) -> NewWebhook {
    NewWebhook {
        name: settings.name.clone(),
        url: settings.url.clone(),
        events: settings.events.types(),
        enabled: true,
        signature_secret: secret.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        serde_json::from_str(r#"{"url": "https://relay.example.com/webhooks/e2b"}"#).unwrap()
    }

    fn webhook(id: &str, name: &str, url: &str) -> Webhook {
        Webhook {
            id: id.to_owned(),
            team_id: None,
            name: name.to_owned(),
            created_at: None,
            url: url.to_owned(),
            enabled: true,
            events: settings().events.types(),
        }
    }

    const HERE: &str = "https://relay.example.com/webhooks/e2b";
    const ELSEWHERE: &str = "https://other.example.com/webhooks/e2b?token=hunter2";

    fn found(listed: &[Webhook], kept: Option<&str>) -> Result<Option<String>, Conflict> {
        find(listed, &settings(), kept).map(|own| own.map(|own| own.id.clone()))
    }

    #[test]
    fn the_own_one_is_known_by_its_id_and_else_by_name_and_url_together() {
        let own = |id: &str| Ok(Some(id.to_owned()));
        let (here, there) = (webhook("h", "e2b-relay", HERE), webhook("t", "e2b-relay", ELSEWHERE));
        let renamed = webhook("r", "renamed", HERE);
        assert_eq!(found(&[], None), Ok(None));
        assert_eq!(found(std::slice::from_ref(&renamed), None), Ok(None), "another's, though it delivers here");
        assert_eq!(found(std::slice::from_ref(&renamed), Some("r")), own("r"));
        assert_eq!(found(std::slice::from_ref(&here), None), own("h"));
        assert_eq!(found(std::slice::from_ref(&here), Some("gone")), own("h"));
        assert_eq!(found(std::slice::from_ref(&there), Some("t")), own("t"), "the settings' URL was changed");
        assert_eq!(found(&[here.clone(), there.clone()], Some("t")), own("t"));
        for kept in [None, Some("gone")] {
            let error = found(std::slice::from_ref(&there), kept).unwrap_err();
            assert!(matches!(&error, Conflict::Elsewhere { id, .. } if id == "t"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            let error = found(&[here.clone(), there.clone()], kept).unwrap_err();
            assert!(matches!(&error, Conflict::Several { ids, .. } if ids == &["h", "t"]), "{error}");
        }
        assert_eq!(namesakes(&[here.clone(), renamed.clone()], &settings(), "h"), None);
        assert!(namesakes(&[renamed, here.clone()], &settings(), "r").is_some(), "renamed back they would be two");
        assert!(namesakes(&[here, there], &settings(), "t").is_some());
    }

    #[test]
    fn only_what_differs_is_changed() {
        let same = webhook("h", "e2b-relay", "HTTPS://RELAY.example.com:443/webhooks/e2b");
        assert!(drift(&same, &settings()).differs.is_empty(), "the provider may spell a URL otherwise");
        let mut other = webhook("h", "x", ELSEWHERE);
        other.enabled = false;
        other.events.pop();
        let Drift { change, differs } = drift(&other, &settings());
        assert_eq!(differs, ["name", "url", "events", "enabled"]);
        assert_eq!(
            (change.enabled, change.url.as_deref(), change.signature_secret.is_none()),
            (Some(true), Some(HERE), true)
        );
    }
}
