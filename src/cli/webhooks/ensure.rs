//! `webhooks ensure`: the relay's own webhook, once and by hand. The daemon's store, with the id that it keeps, is the
//! daemon's; what is ours is told here by name and URL alone.

use super::{Ensure, Opened, Report, own_registration, own_secret, report};
use crate::cli::outcome::{Exit, Failure};
use crate::e2b::Webhook;
use crate::source::register::{self, Conflict, Drift, delivers_to, drift, find, fresh};

pub(super) async fn ensure(ensure: &Ensure) -> Result<(), Failure> {
    let Opened { name, settings, api } = ensure.account.open()?;
    let (register, secret) = (own_registration(&name, &settings)?, own_secret(&name, &settings)?);
    let listed = api.webhooks().await?.value;
    let format = ensure.account.format;
    let Some(own) = choose(&listed, register, ensure.adopt)? else {
        let (action, made) = match ensure.dry_run {
            true => ("would create", None),
            false => ("created", Some(api.create_webhook(&fresh(register, secret)).await?)),
        };
        return report(&Report { action, changed: &[], webhook: made.as_ref() }, format);
    };
    let Drift { mut change, differs } = drift(own, register);
    // It cannot be read back.
    change.signature_secret = Some(secret.clone());
    if ensure.dry_run {
        return report(&Report { action: "would update", changed: &differs, webhook: Some(own) }, format);
    }
    let changed = api.update_webhook(&own.id, &change).await?;
    report(&Report { action: "updated", changed: &differs, webhook: Some(&changed) }, format)
}

fn choose<'w>(
    listed: &'w [Webhook],
    register: &register::Settings,
    adopt: bool,
) -> Result<Option<&'w Webhook>, Failure> {
    match find(listed, register, None) {
        Ok(None) => renamed(listed, register, adopt),
        Err(Conflict::Elsewhere { id, .. }) if adopt => Ok(listed.iter().find(|webhook| webhook.id == id)),
        found => Ok(found?),
    }
}

/// One that delivers here under another name is perhaps the relay's own, renamed: the relay would know it by its id. To
/// make another beside it is not what is meant.
fn renamed<'w>(
    listed: &'w [Webhook],
    register: &register::Settings,
    adopt: bool,
) -> Result<Option<&'w Webhook>, Failure> {
    let here: Vec<&Webhook> = listed.iter().filter(|webhook| delivers_to(webhook, &register.url)).collect();
    match here.as_slice() {
        [] => Ok(None),
        [one] if adopt => Ok(Some(one)),
        several => {
            let ids: Vec<&str> = several.iter().map(|webhook| &*webhook.id).collect();
            let message = format!(
                "{} already delivers to {}, under another name: delete it, or take it over with --adopt if it is the only one",
                ids.join(", "),
                register.url
            );
            Err(Failure::new(Exit::Config, message))
        }
    }
}
