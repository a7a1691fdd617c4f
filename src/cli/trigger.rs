//! `trigger`: one signed delivery, as the provider would send it.

use super::outcome::{Exit, Failure, print, print_json};
use super::secret_file::{self, SECRET_VARIABLE};
use super::{Format, runtime};
use crate::client::{ClientError, Reply};
use crate::secret::Secret;
use crate::simulator::{self, Dialect, Shape, Trigger, TriggerError, TriggerOptions};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The event's type, such as sandbox.lifecycle.killed, or killed for short.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Where it is delivered to.
    #[arg(long, value_name = "URL")]
    url: String,
    #[command(flatten)]
    secret: SecretSource,
    /// Sets a field of the body, such as event_data.sandbox_metadata.env=prod; the value is JSON, or else text.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The signature: e2b, e2b-hmac or hmac. hmac for the shape self-hosted, else e2b.
    #[arg(long, value_name = "DIALECT")]
    dialect: Option<Dialect>,
    /// The body's shape: v1, v2 or self-hosted.
    #[arg(long, value_name = "SHAPE", default_value = "v2")]
    shape: Shape,
    /// Whose sandbox it is: the event's team id, as `sources.<name>.team_id` has it.
    #[arg(long, value_name = "UUID", default_value = simulator::TEAM_ID)]
    team_id: String,
    /// Only prints the curl command that would do the same.
    #[arg(long)]
    print_curl: bool,
    /// How the answer is written.
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
struct SecretSource {
    /// What the delivery is signed with; without it E2B_WEBHOOK_SECRET is taken.
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
    let mut simulated = TriggerOptions::new(options.url.as_str(), options.secret.read()?);
    simulated.shape = options.shape;
    simulated.dialect = options.dialect.unwrap_or(match options.shape {
        Shape::SelfHosted => Dialect::Hmac,
        Shape::V1 | Shape::V2 => Dialect::E2b,
    });
    simulated.team_id.clone_from(&options.team_id);
    // The same seed would give the same event id, and the second delivery would be a duplicate.
    simulated.seed = fastrand::u64(..);
    Ok(Trigger::new(&options.kind, &options.set, &simulated, jiff::Timestamp::now())?)
}

impl SecretSource {
    fn read(&self) -> Result<String, Failure> {
        let given = match (&self.secret, &self.secret_file) {
            (Some(secret), _) => Some(secret.clone()),
            (None, Some(file)) => Some(secret_file::read(file)?),
            (None, None) => secret_file::of_environment(),
        };
        given.map(|secret| secret.expose().to_owned()).ok_or_else(|| {
            let message = format_args!("one of --secret, --secret-file and {SECRET_VARIABLE} is needed");
            Failure::new(Exit::Usage, message)
        })
    }
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
