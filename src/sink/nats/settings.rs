//! What a NATS sink is told.

use crate::secret::Secret;
use crate::sink::{InvalidSetting, peer};
use async_nats::{ConnectOptions, ServerAddr};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// A credentials file around a seed, for the client to judge the seed.
const JWT_OF_NOBODY: &str =
    "-----BEGIN NATS USER JWT-----\nnobody\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\n";
const END: &str = "\n------END USER NKEY SEED------\n";

/// Settings of a sink of type `nats`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The servers of one cluster, `nats://host:4222`, or `tls://host:4222` where TLS is a must; with `ca_file` or
    /// `cert_file` it always is. User and password may stand before the host; all servers get the same. Required.
    pub servers: Vec<Secret>,
    /// Where a record goes; templates over the record are allowed. Each thing put in is one token.
    pub subject: String,
    /// Whether a stream's acknowledgement is waited for. Without JetStream the server only passes on to who listens at
    /// that moment: records that nobody listens to are gone.
    pub jetstream: bool,
    /// The stream that the subject belongs to. A record that lands in another one is refused by the server.
    pub stream: Option<Stream>,
    /// An authentication token, in place of user and password.
    pub token: Option<Secret>,
    /// The seed of an nkey, `SU…`, in place of user and password.
    pub nkey: Option<Secret>,
    /// A credentials file's text (JWT and seed, as `nsc` writes it), in place of user and password.
    pub credentials: Option<Secret>,
    /// PEM file with the authorities to trust instead of the system's.
    #[schemars(extend("format" = "path"))]
    pub ca_file: Option<PathBuf>,
    /// PEM file with a certificate to show to the server, and its chain.
    #[schemars(extend("format" = "path"))]
    pub cert_file: Option<PathBuf>,
    /// PEM file with the key of `cert_file`, without a passphrase.
    #[schemars(extend("format" = "path"))]
    pub key_file: Option<PathBuf>,
    /// Takes any certificate. The status page shows it.
    pub insecure_skip_verify: bool,
    /// For one attempt to connect to one server.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub connect_timeout: Duration,
    /// How long an acknowledgement may take; then the record is sent again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub ack_timeout: Duration,
    /// How many records may wait for their acknowledgement at once.
    pub max_unconfirmed: usize,
}

/// A JetStream stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// The stream's name. Required.
    pub name: String,
    /// What it takes; used when it is created, and required for that.
    pub subjects: Vec<String>,
    /// Whether to create it, on file, when it is missing. One that exists is never changed.
    pub create: bool,
    /// On how many servers a created stream is kept: 1, 3 or 5.
    pub replicas: usize,
    /// For how long a created stream keeps a record. Default: for ever.
    #[serde(with = "humantime_serde::option")]
    #[schemars(with = "Option<String>", extend("format" = "duration"))]
    pub max_age: Option<Duration>,
    /// How large a created stream grows, in bytes. Default: as large as the server lets it.
    #[schemars(with = "Option<String>", extend("format" = "size"))]
    pub max_bytes: Option<ByteSize>,
    /// What a created stream does where it is full: `old` removes its oldest records, `new` takes no further ones, and the
    /// sink waits.
    pub discard: Discard,
    /// For how long a created stream knows an id again. What is sent twice within it is stored once. At least as long as a
    /// restart takes.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub duplicate_window: Duration,
}

/// What a full stream does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discard {
    /// Removes its oldest records.
    #[default]
    Old,
    /// Refuses new ones.
    New,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            subject: "e2b.{{ type }}.{{ sandbox_id }}".to_owned(),
            jetstream: true,
            stream: None,
            token: None,
            nkey: None,
            credentials: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            insecure_skip_verify: false,
            connect_timeout: Duration::from_secs(5),
            ack_timeout: Duration::from_secs(5),
            max_unconfirmed: 1024,
        }
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            name: String::new(),
            subjects: Vec::new(),
            create: false,
            replicas: 1,
            max_age: None,
            max_bytes: None,
            discard: Discard::Old,
            duplicate_window: Duration::from_secs(120),
        }
    }
}

/// The servers, and what they shall be told of who we are.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    /// Without user-info: async-nats writes addresses into its log.
    pub(super) addresses: Vec<ServerAddr>,
    pub(super) user: Option<(String, Secret)>,
    /// For messages.
    pub(super) peer: String,
}

impl Settings {
    /// Parses and checks what does not need the network.
    pub(super) fn servers(&self) -> Result<Servers, InvalidSetting> {
        let mut addresses = Vec::new();
        let mut user: Option<(String, Secret)> = None;
        for server in &self.servers {
            let (address, login) = parse(server)?;
            if let Some(login) = login {
                if user.as_ref().is_some_and(|other| (&other.0, other.1.expose()) != (&login.0, login.1.expose())) {
                    return Err(InvalidSetting::new("servers", "name different users; one cluster has one user"));
                }
                user = Some(login);
            }
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(InvalidSetting::new("servers", "at least one is required, such as nats://127.0.0.1:4222"));
        }
        let peer = addresses.iter().map(|address| peer::without_credentials(address.as_url_str()));
        let peer = peer.collect::<Vec<_>>().join(", ");
        Ok(Servers { addresses, user, peer })
    }

    pub(super) fn tls(&self) -> peer::Tls<'_> {
        peer::Tls {
            ca_file: self.ca_file.as_deref(),
            cert_file: self.cert_file.as_deref(),
            key_file: self.key_file.as_deref(),
            insecure_skip_verify: self.insecure_skip_verify,
        }
    }

    /// Refuses what cannot work, as far as it shows without the network and the disk.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        self.check(&self.servers()?)?;
        self.logged_in(ConnectOptions::new()).map(drop)
    }

    /// Refuses files that cannot be used. Blocks on the disk.
    pub fn check_files(&self) -> Result<(), InvalidSetting> {
        peer::tls(&self.tls()).map(drop)
    }

    /// With the login that stands in keys of its own. No error quotes what could not be read.
    pub(super) fn logged_in(&self, mut options: ConnectOptions) -> Result<ConnectOptions, InvalidSetting> {
        if let Some(token) = &self.token {
            options = options.token(token.expose().to_owned());
        }
        if let Some(nkey) = &self.nkey {
            // The client would look at it only once it is connected.
            let in_a_file = format!("{JWT_OF_NOBODY}{}{END}", nkey.expose());
            let invalid = |_| InvalidSetting::new("nkey", "is not the seed of an nkey; give the `SU…` of the user");
            ConnectOptions::new().credentials(&in_a_file).map_err(invalid)?;
            options = options.nkey(nkey.expose().to_owned());
        }
        if let Some(credentials) = &self.credentials {
            let what = "is not a credentials file with a JWT and a seed; give it whole, as `nsc` writes it";
            // The client wants an end of the line behind the last dashes, too.
            let text = format!("{}\n", credentials.expose());
            options = options.credentials(&text).map_err(|_| InvalidSetting::new("credentials", what))?;
        }
        Ok(options)
    }

    pub(super) fn check(&self, servers: &Servers) -> Result<(), InvalidSetting> {
        let logins = [servers.user.is_some(), self.token.is_some(), self.nkey.is_some(), self.credentials.is_some()];
        if logins.into_iter().filter(|given| *given).count() > 1 {
            return Err(InvalidSetting::new("servers", "more than one of user, token, nkey and credentials is given"));
        }
        self.tls().identity()?;
        if self.max_unconfirmed == 0 {
            return Err(InvalidSetting::new("max_unconfirmed", "must be at least 1"));
        }
        let Some(stream) = &self.stream else { return Ok(()) };
        if !self.jetstream {
            return Err(InvalidSetting::new("stream", "means nothing while jetstream is false"));
        }
        // RFC: ADR-6 of nats-architecture-and-design, names of JetStream entities.
        if stream.name.is_empty() || stream.name.contains(|c: char| ".*>/\\ ".contains(c) || c.is_control()) {
            return Err(InvalidSetting::new("stream.name", "is required, without space, `.`, `*`, `>`, `/` and `\\`"));
        }
        if stream.create && stream.subjects.is_empty() {
            return Err(InvalidSetting::new("stream.subjects", "is required to create the stream"));
        }
        if stream.max_age.is_some_and(|age| age < stream.duplicate_window) {
            let message = "is shorter than stream.duplicate_window, which the server refuses; raise it, or lower that";
            return Err(InvalidSetting::new("stream.max_age", message));
        }
        if stream.max_bytes == Some(ByteSize::b(0)) {
            return Err(InvalidSetting::new("stream.max_bytes", "must be more than 0; leave it out for no limit"));
        }
        Ok(())
    }
}

fn parse(server: &Secret) -> Result<(ServerAddr, Option<(String, Secret)>), InvalidSetting> {
    let shown = || peer::without_credentials(server.expose());
    let invalid = |problem: &str| InvalidSetting::new("servers", format!("{}: {problem}", shown()));
    // The parser's own words may repeat what it was given.
    let address: ServerAddr = server.expose().parse().map_err(|_| invalid("not a URL such as nats://host:4222"))?;
    if address.is_websocket() {
        return Err(invalid("WebSocket is not supported; use nats:// or tls://"));
    }
    let mut url = address.into_inner();
    let decode = |text: &str| percent_decoded(text).ok_or_else(|| invalid("user or password is not valid UTF-8"));
    let user = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => Some((decode(user)?, Secret::new(decode(password.unwrap_or_default())?))),
    };
    if url.set_password(None).is_err() || url.set_username("").is_err() {
        return Err(invalid("not a URL such as nats://host:4222"));
    }
    let address = ServerAddr::from_url(url).map_err(|_| invalid("not a URL such as nats://host:4222"))?;
    Ok((address, user))
}

/// RFC 3986, section 2.1; a `%` that starts no escape stands for itself.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then_some(after).and_then(|after| after.split_at_checked(2));
        let escaped = escaped.and_then(|(hex, after)| {
            let hex = hex.iter().all(u8::is_ascii_hexdigit).then(|| std::str::from_utf8(hex).ok()).flatten()?;
            Some((u8::from_str_radix(hex, 16).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(servers: &[&str]) -> Settings {
        Settings { servers: servers.iter().map(|server| Secret::new(*server)).collect(), ..Settings::default() }
    }

    #[test]
    fn user_and_password_are_taken_out_of_the_addresses() {
        let servers = settings(&["nats://re%40lay:can%2Fary@n1:4222", "tls://n2:4443"]).servers().expect("valid");
        let (user, password) = servers.user.clone().expect("a user");
        assert_eq!((user.as_str(), password.expose()), ("re@lay", "can/ary"));
        assert_eq!(servers.peer, "nats://n1:4222, tls://n2:4443");
        assert!(!format!("{servers:?}").contains("can/ary"));
    }

    #[test]
    fn what_cannot_work_is_refused_and_no_credential_shown() {
        for (servers, key) in [
            (&[][..], "servers"),
            (&["nats://a:canary@n1", "nats://b:canary@n2"], "servers"),
            (&["http://u:canary@n1"], "servers"),
            (&["ws://u:canary@n1"], "servers"),
            (&["nats://u:can/ary@n1:x"], "servers"),
        ] {
            let error = settings(servers).servers().expect_err("invalid");
            assert_eq!(error.key, key);
            assert!(!error.message.contains("canary") && !error.message.contains("can/ary"), "{error}");
        }
    }

    #[test]
    fn a_stream_needs_a_name_jetstream_and_subjects_to_be_created() {
        let stream = |name: &str, create| Some(Stream { name: name.to_owned(), create, ..Stream::default() });
        for (stream, jetstream, key) in [
            (stream("", false), true, "stream.name"),
            (stream("E2B.x", false), true, "stream.name"),
            (stream("E2B", true), true, "stream.subjects"),
            (stream("E2B", false), false, "stream"),
        ] {
            let settings = Settings { stream, jetstream, ..settings(&["nats://n1"]) };
            assert_eq!(settings.validate().expect_err("invalid").key, key);
        }
        let limited = |max_age: u64, max_bytes: u64| {
            let (max_age, max_bytes) = (Some(Duration::from_secs(max_age)), Some(ByteSize::b(max_bytes)));
            let stream = Stream { name: "E2B".to_owned(), max_age, max_bytes, ..Stream::default() };
            Settings { stream: Some(stream), ..settings(&["nats://n1"]) }.validate()
        };
        assert_eq!(limited(120, 1), Ok(()));
        assert_eq!(limited(119, 1).expect_err("invalid").key, "stream.max_age");
        assert_eq!(limited(120, 0).expect_err("invalid").key, "stream.max_bytes");
    }

    #[test]
    fn an_incomplete_escape_stands_for_itself() {
        for (given, expected) in [("a%2Fb", "a/b"), ("50%", "50%"), ("%zz", "%zz"), ("%4", "%4"), ("%+1", "%+1")] {
            assert_eq!(percent_decoded(given).as_deref(), Some(expected));
        }
        assert_eq!(percent_decoded("%ff"), None);
    }
}
