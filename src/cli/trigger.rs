//! `trigger`: one signed delivery, as the provider would send it.

use super::outcome::{Exit, Failure, print, print_json};
use super::secret_file::{self, SECRET_VARIABLE};
use super::sources::Sources;
use super::{Format, runtime};
use crate::client::{ClientError, Reply};
use crate::secret::Secret;
use crate::simulator::{Dialect, Shape, Trigger, TriggerError, TriggerOptions};
use clap::Args;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The event's type, such as sandbox.lifecycle.killed, or killed for short.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Where it is delivered to; without it the relay of the configuration, on this host.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    secret: SecretSource,
    #[command(flatten)]
    configuration: Sources,
    /// The source of the configuration whose URL, secret and team are taken; needed where it has several.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Sets a field of the body, such as event_data.sandbox_metadata.env=prod; the value is JSON, or else text.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The signature: e2b, e2b-hmac or hmac. hmac for the shape self-hosted, else e2b.
    #[arg(long, value_name = "DIALECT")]
    dialect: Option<Dialect>,
    /// The body's shape: v1, v2 or self-hosted.
    #[arg(long, value_name = "SHAPE", default_value = "v2")]
    shape: Shape,
    /// Whose sandbox it is: the event's team id, as `sources.<name>.team_id` has it, or else any.
    #[arg(long, value_name = "UUID")]
    team_id: Option<String>,
    /// Only prints the curl command that would do the same.
    #[arg(long)]
    print_curl: bool,
    /// How the answer is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
struct SecretSource {
    /// What the delivery is signed with; without it E2B_WEBHOOK_SECRET, or else the configuration's newest.
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    secret: Option<Secret>,
    /// A file with the secret; one newline at its end does not count.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

pub(super) fn execute(options: &Options) -> Result<(), Failure> {
    let trigger = make(options)?;
    if options.print_curl {
        return print(format_args!("{}\n", trigger.curl()));
    }
    let reply = runtime()?.block_on(trigger.send())?;
    report(&reply, options.format)?;
    if (200..300).contains(&reply.status) { Ok(()) } else { Err(Failure::told(Exit::Unavailable)) }
}

fn make(options: &Options) -> Result<Trigger, Failure> {
    let mut own = (options.url.clone(), options.secret.read()?, options.team_id.clone());
    if own.0.is_none() || own.1.is_none() {
        let found = configured(options)?;
        own = (own.0.or(found.url), own.1.or(found.secret), own.2.or(found.team_id));
    }
    let (Some(url), Some(secret), team_id) = own else {
        let message = "server.listen in the configuration has no fixed port: give --url";
        return Err(Failure::new(Exit::Usage, message));
    };
    let mut simulated = TriggerOptions::new(url, secret.expose());
    simulated.shape = options.shape;
    simulated.dialect = options.dialect.unwrap_or(match options.shape {
        Shape::SelfHosted => Dialect::Hmac,
        Shape::V1 | Shape::V2 => Dialect::E2b,
    });
    simulated.team_id = team_id.unwrap_or(simulated.team_id);
    // The same seed would give the same event id, and the second delivery would be a duplicate.
    simulated.seed = fastrand::u64(..);
    Ok(Trigger::new(&options.kind, &options.set, &simulated, jiff::Timestamp::now())?)
}

impl SecretSource {
    fn read(&self) -> Result<Option<Secret>, Failure> {
        Ok(match (&self.secret, &self.secret_file) {
            (Some(secret), _) => Some(secret.clone()),
            (None, Some(file)) => Some(secret_file::read(file)?),
            (None, None) => secret_file::of_environment(),
        })
    }
}

/// What the configuration says of one source.
struct Configured {
    /// `None` where the port is any that is free.
    url: Option<String>,
    secret: Option<Secret>,
    team_id: Option<String>,
}

fn configured(options: &Options) -> Result<Configured, Failure> {
    let without = |failure: Failure| {
        let asked = format_args!("give --url, and --secret-file or {SECRET_VARIABLE}; or a configuration");
        Failure::new(failure.exit, format_args!("{asked}: {}", failure.message))
    };
    let settings = options.configuration.read().map_err(without)??.settings;
    let is_meant = |name: &String| options.source.as_ref().is_none_or(|wanted| wanted == name);
    let sources = settings.sources.into_iter().filter(|(name, _)| is_meant(name));
    let mut sources = sources.filter_map(|(_, source)| Some((source.webhook?, source.team_id)));
    let (Some((webhook, team_id)), None) = (sources.next(), sources.next()) else {
        let message = "--source has to name one of the configuration's sources that has a webhook";
        return Err(Failure::new(Exit::Usage, message));
    };
    let mut address = settings.server.listen;
    if address.ip().is_unspecified() {
        // Any of this host's addresses will do.
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let scheme = if settings.server.tls.is_some() { "https" } else { "http" };
    let path = webhook.path.unwrap_or_default();
    let url = (address.port() != 0).then(|| format!("{scheme}://{address}{path}"));
    Ok(Configured { url, secret: webhook.secrets.last().cloned(), team_id })
}

fn report(reply: &Reply, format: Format) -> Result<(), Failure> {
    let body = String::from_utf8_lossy(&reply.body);
    match format {
        Format::Text => print(format_args!("{} {}\n", reply.status, body.trim_end())),
        Format::Json => {
            let body = serde_json::from_str(&body).unwrap_or_else(|_| serde_json::Value::from(body.as_ref()));
            print_json(&serde_json::json!({"status": reply.status, "body": body}))
        }
    }
}

impl From<TriggerError> for Failure {
    fn from(error: TriggerError) -> Self {
        match error {
            TriggerError::Set { .. } => Self::new(Exit::Usage, error),
            TriggerError::Body(_) => Self::internal(error),
            TriggerError::Client(error) => error.into(),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error {
            ClientError::Url(_) => Exit::Usage,
            ClientError::Setup(_) => Exit::Internal,
            ClientError::Connect { .. }
            | ClientError::Timeout { .. }
            | ClientError::TooLarge { .. }
            | ClientError::Broken { .. } => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}
