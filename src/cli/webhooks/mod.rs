//! `webhooks`: what is registered at the provider, asked with the API key of a source's `api`.

mod ensure;

use super::outcome::{Exit, Failure, print, print_json};
use super::sources::Sources;
use super::{Format, runtime, secret_file};
use crate::client::normal_url;
use crate::e2b::{Api, ApiError, NewWebhook, Webhook, WebhookChange};
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::source;
use crate::source::register::{self, Conflict, DEFAULT_NAME, Events};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// All that are registered.
    List(Account),
    /// One of them.
    Get(One),
    /// Register one; what is not given is as the source's `register` has it.
    Create(Create),
    /// Change one; what is not given stays as it is.
    Update(Update),
    /// Take one away: nothing is delivered to it any more.
    Delete(One),
    /// Make the relay's own webhook what the source's `register` says, its secret included.
    Ensure(Ensure),
}

/// Whose webhooks, and how they are shown.
#[derive(Debug, Args)]
pub(super) struct Account {
    #[command(flatten)]
    sources: Sources,
    /// The source whose `api` is asked; needed where several have one.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// How the result is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The webhook's id, a UUID.
    id: String,
    #[command(flatten)]
    account: Account,
}

#[derive(Debug, Args)]
pub(super) struct Ensure {
    /// Take over the one of the name that delivers elsewhere, or the one that delivers here under another name. A running
    /// relay whose way it stood in sees that within a minute.
    #[arg(long)]
    adopt: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    account: Account,
}

/// What it is to be, as far as it is said.
#[derive(Debug, Clone, Args)]
struct Wanted {
    /// By which people know it.
    #[arg(long)]
    name: Option<String>,
    /// Where it delivers to.
    #[arg(long, value_parser = url)]
    url: Option<String>,
    /// all, or types such as sandbox.lifecycle.killed, killed for short, set apart by commas.
    #[arg(long, value_name = "TYPES", value_parser = events)]
    events: Option<Events>,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    wanted: Wanted,
    /// Whether it delivers from now on.
    #[arg(long, value_name = "BOOLEAN", default_value_t = true, action = clap::ArgAction::Set)]
    enabled: bool,
    /// A file with what deliveries are signed with, 32 characters or more; one newline at its end does not count. Without
    /// it the last of the source's `webhook.secrets`, else E2B_WEBHOOK_SECRET.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    account: Account,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The webhook's id, a UUID.
    id: String,
    #[command(flatten)]
    wanted: Wanted,
    /// Whether it delivers.
    #[arg(long, value_name = "BOOLEAN")]
    enabled: Option<bool>,
    /// A file with what deliveries are signed with from now on, 32 characters or more.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    account: Account,
}

fn events(text: &str) -> Result<Events, String> {
    if text == "all" {
        return Ok(Events::All);
    }
    let events = Events::Types(text.split(',').map(str::to_owned).collect());
    match events.types().iter().find(|kind| !kind.contains('.')) {
        Some(unknown) => Err(format!("`{}` is no type of event", unknown.escape_debug())),
        None => Ok(events),
    }
}

fn url(text: &str) -> Result<String, String> {
    normal_url(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn execute(command: &Command) -> Result<(), Failure> {
    let runtime = runtime()?;
    let end = runtime.block_on(async {
        match command {
            Command::List(account) => list(account).await,
            Command::Get(one) => get(one).await,
            Command::Create(create) => self::create(create).await,
            Command::Update(update) => self::update(update).await,
            Command::Delete(one) => delete(one).await,
            Command::Ensure(ensure) => ensure::ensure(ensure).await,
        }
    });
    runtime.shutdown_background();
    end
}

/// A source of the configuration that has an `api`.
struct Opened {
    name: String,
    settings: source::Settings,
    api: Api,
}

impl Account {
    fn open(&self) -> Result<Opened, Failure> {
        let settings = self.sources.read_and_warn()?.settings;
        let mut with_api = settings.sources.into_iter().filter(|(name, source)| match &self.source {
            Some(wanted) => name == wanted,
            None => source.api.is_some(),
        });
        let (name, settings) = match (with_api.next(), with_api.next(), &self.source) {
            (Some(only), None, _) => only,
            (Some((one, _)), Some((other, _)), _) => {
                let message = format!("several sources have an `api`, such as {one} and {other}: choose with --source");
                return Err(Failure::new(Exit::Usage, message));
            }
            (None, _, Some(wanted)) => {
                return Err(Failure::new(Exit::Usage, format_args!("there is no source `{wanted}`")));
            }
            (None, _, None) => return Err(lacks("a source", "api")),
        };
        let Some(api) = &settings.api else { return Err(lacks(&name, "api")) };
        let metrics = Metrics::new("", "").map_err(Failure::internal)?;
        let api = Api::new(&name, api, metrics, fastrand::Rng::new())
            .map_err(|error| Failure::new(Exit::Config, format_args!("sources.{name}.api: {error}")))?;
        Ok(Opened { name, settings, api })
    }
}

fn lacks(source: &str, key: &str) -> Failure {
    Failure::new(Exit::Config, format_args!("the configuration gives {source} no `{key}`, which this command needs"))
}

async fn list(account: &Account) -> Result<(), Failure> {
    let webhooks = account.open()?.api.webhooks().await?.value;
    match account.format {
        Format::Json => print_json(&webhooks),
        Format::Text => print(webhooks.iter().map(line).collect::<String>()),
    }
}

async fn get(one: &One) -> Result<(), Failure> {
    let webhook = known(&one.account.open()?.api, &one.id).await?;
    match one.account.format {
        Format::Json => print_json(&webhook),
        Format::Text => print(line(&webhook)),
    }
}

async fn create(create: &Create) -> Result<(), Failure> {
    let Opened { settings, api, .. } = create.account.open()?;
    let (register, wanted) = (settings.register.as_ref(), create.wanted.clone());
    let secret = match &create.secret_file {
        Some(file) => Some(secret_file::read(file)?),
        None => settings.newest_secret().cloned().or_else(secret_file::of_environment),
    };
    let missing = |what: &str| Failure::new(Exit::Usage, format_args!("{what}, since the source has no `register`"));
    let new = NewWebhook {
        name: wanted.name.or(register.map(|own| own.name.clone())).unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        url: wanted.url.or(register.map(|own| own.url.clone())).ok_or_else(|| missing("--url is needed"))?,
        events: wanted.events.or(register.map(|own| own.events.clone())).unwrap_or_default().types(),
        enabled: create.enabled,
        signature_secret: secret.ok_or_else(|| Failure::new(Exit::Usage, "--secret-file is needed"))?,
    };
    let made = api.create_webhook(&new).await.map_err(|error| match Failure::from(error) {
        // There may be an answer that was lost.
        Failure { exit: Exit::Unavailable, message } => Failure::new(
            Exit::Unavailable,
            format_args!("{message}; it may be registered all the same: look with `e2b-relay webhooks list`"),
        ),
        refused => refused,
    })?;
    done("created", &made, create.account.format)
}

async fn update(update: &Update) -> Result<(), Failure> {
    let Wanted { name, url, events } = update.wanted.clone();
    let change = WebhookChange {
        name,
        url,
        events: events.as_ref().map(Events::types),
        enabled: update.enabled,
        signature_secret: update.secret_file.as_deref().map(secret_file::read).transpose()?,
    };
    let WebhookChange { name, url, events, enabled, signature_secret } = &change;
    let is_nothing =
        name.is_none() && url.is_none() && events.is_none() && enabled.is_none() && signature_secret.is_none();
    if is_nothing {
        let message = "nothing is to be changed: give one of --name, --url, --events, --enabled and --secret-file";
        return Err(Failure::new(Exit::Usage, message));
    }
    let api = update.account.open()?.api;
    let changed = api.update_webhook(&update.id, &change).await.map_err(|error| of_one(error, &update.id))?;
    done("updated", &changed, update.account.format)
}

async fn delete(one: &One) -> Result<(), Failure> {
    let api = one.account.open()?.api;
    let webhook = known(&api, &one.id).await?;
    api.delete_webhook(&one.id).await?;
    done("deleted", &webhook, one.account.format)
}

async fn known(api: &Api, id: &str) -> Result<Webhook, Failure> {
    api.webhook(id).await.map_err(|error| of_one(error, id))?.ok_or_else(|| unknown(id))
}

fn of_one(error: ApiError, id: &str) -> Failure {
    if matches!(error, ApiError::NotFound { .. }) { unknown(id) } else { error.into() }
}

fn unknown(id: &str) -> Failure {
    Failure::new(Exit::Usage, format_args!("there is no webhook {id}; `e2b-relay webhooks list` shows those there are"))
}

/// One webhook on a line. What it is called and where it delivers others may have chosen.
fn line(webhook: &Webhook) -> String {
    let Webhook { id, name, url, enabled, events, .. } = webhook;
    let state = if *enabled { "enabled" } else { "disabled" };
    let mut line = format!("{id}  {state}  {name:?}  {}", url.escape_debug());
    for (place, event) in events.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(line, "{}{}", if place == 0 { "  " } else { "," }, event.escape_debug());
    }
    line.push('\n');
    line
}

/// What was done, and to what.
fn done(action: &str, webhook: &Webhook, format: Format) -> Result<(), Failure> {
    report(&Report { action, changed: &[], webhook: Some(webhook) }, format)
}

/// The result of a command that changes something.
#[derive(Serialize)]
struct Report<'a> {
    /// `created`, `updated`, `deleted`; with --dry-run `would create` and the like.
    action: &'a str,
    /// What differed, of `ensure`.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    changed: &'a [&'a str],
    /// As it is now, or was before it was deleted.
    webhook: Option<&'a Webhook>,
}

fn report(report: &Report<'_>, format: Format) -> Result<(), Failure> {
    let Report { action, changed, webhook } = report;
    match format {
        Format::Json => print_json(&json!(report)),
        Format::Text => {
            let changed = if changed.is_empty() { String::new() } else { format!(" ({})", changed.join(", ")) };
            print(format_args!("{action}{changed}: {}", webhook.map_or("\n".to_owned(), line)))
        }
    }
}

/// The secret that `register` registers.
fn own_secret<'s>(name: &str, settings: &'s source::Settings) -> Result<&'s Secret, Failure> {
    settings.newest_secret().ok_or_else(|| lacks(name, "webhook"))
}

fn own_registration<'s>(name: &str, settings: &'s source::Settings) -> Result<&'s register::Settings, Failure> {
    settings.register.as_ref().ok_or_else(|| lacks(name, "register"))
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let exit = match error {
            ApiError::Unauthorized { .. } => Exit::Config,
            ApiError::Refused { .. } => Exit::Usage,
            ApiError::RateLimited { .. }
            | ApiError::Unavailable { .. }
            | ApiError::NotOffered { .. }
            | ApiError::NotFound { .. }
            | ApiError::Invalid { .. } => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}

impl From<Conflict> for Failure {
    fn from(conflict: Conflict) -> Self {
        Self::new(Exit::Config, conflict)
    }
}
