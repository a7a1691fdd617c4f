//! Defaults that rest on more than the key itself: on another key, or on the environment.

use super::Settings;
use super::layer::Environment;
use super::problem::{KeyPath, Problem};
use crate::e2b;
use crate::secret::Secret;
use crate::source::webhook;

/// The path of the only source; that a source with an API is backfilled, and its sandboxes are reconciled.
pub(super) fn of_keys(settings: &mut Settings) {
    for source in settings.sources.values_mut().filter(|source| source.api.is_some()) {
        source.backfill.get_or_insert_default();
        source.reconcile.get_or_insert_default();
    }
    for webhook in settings.sources.values_mut().filter_map(|source| source.webhook.as_mut()) {
        webhook.path.get_or_insert_with(|| webhook::DEFAULT_PATH.to_owned());
    }
}

/// Address and key of each API that names none, by the variables that the provider's SDKs read. The keys taken from
/// there are added to `secrets`.
pub(super) fn of_environment(
    settings: &mut Settings,
    environment: &Environment,
    secrets: &mut Vec<String>,
) -> Result<(), Problem> {
    let sources = settings.sources.iter_mut();
    for (name, api) in sources.filter_map(|(name, source)| Some((name, source.api.as_mut()?))) {
        let here = KeyPath::of(["sources", name, "api"]);
        let variable = |variable: &str| match environment.get(variable) {
            Ok(value) => Ok(value.filter(|value| !value.is_empty())),
            Err(error) => Err(Problem::new(&here, format!("the variable {variable} {error}"))),
        };
        if api.url.is_none() {
            let url = match (variable("E2B_API_URL")?, variable("E2B_DOMAIN")?) {
                (Some(url), _) => url.to_owned(),
                (None, Some(domain)) => format!("https://api.{domain}"),
                (None, None) => e2b::DEFAULT_URL.to_owned(),
            };
            api.url = Some(url);
        }
        if api.api_key.is_none()
            && let Some(key) = variable(e2b::KEY_VARIABLE)?
        {
            secrets.push(key.to_owned());
            api.api_key = Some(Secret::new(key));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source;
    use std::ffi::OsString;

    fn filled(api: e2b::Settings, variables: &[(&str, &str)]) -> (e2b::Settings, Vec<String>) {
        let mut settings = Settings {
            server: Default::default(),
            admin: Default::default(),
            store: Default::default(),
            sources: Default::default(),
            sinks: Default::default(),
        };
        let source = source::Settings { api: Some(api), ..Default::default() };
        settings.sources.insert("acme".to_owned(), source);
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let mut secrets = Vec::new();
        of_environment(&mut settings, &variables.collect(), &mut secrets).expect("unicode");
        (settings.sources["acme"].api.clone().expect("there"), secrets)
    }

    #[test]
    fn an_api_is_where_the_providers_own_sdks_look() {
        for (variables, expected) in [
            (&[][..], "https://api.e2b.app"),
            (&[("E2B_DOMAIN", "e2b.example")], "https://api.e2b.example"),
            (&[("E2B_DOMAIN", "e2b.example"), ("E2B_API_URL", "http://127.0.0.1:3000")], "http://127.0.0.1:3000"),
            (&[("E2B_API_URL", "")], "https://api.e2b.app"),
        ] {
            assert_eq!(filled(e2b::Settings::default(), variables).0.url.as_deref(), Some(expected));
        }
        let own = e2b::Settings { url: Some("http://127.0.0.1:1".to_owned()), ..Default::default() };
        let (api, _) = filled(own, &[("E2B_API_URL", "http://127.0.0.1:2")]);
        assert_eq!(api.url.as_deref(), Some("http://127.0.0.1:1"));
    }

    #[test]
    fn the_key_of_the_environment_is_a_secret_and_the_settings_own_comes_first() {
        let (api, secrets) = filled(e2b::Settings::default(), &[("E2B_API_KEY", "e2b_0123")]);
        assert_eq!((api.api_key.expect("a key").expose(), &*secrets), ("e2b_0123", &["e2b_0123".to_owned()][..]));
        let own = e2b::Settings { api_key: Some(Secret::new("e2b_4567")), ..Default::default() };
        assert_eq!(filled(own, &[("E2B_API_KEY", "e2b_0123")]).0.api_key.expect("a key").expose(), "e2b_4567");
    }
}
