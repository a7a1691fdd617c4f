//! The way to a running daemon: where its admin API is, and with which token.

use super::outcome::{Exit, Failure};
use super::sources::Sources;
use crate::admin::Token;
use crate::client::{Client, ClientError, Limits, Reply};
use crate::secret::Secret;
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// In place of --admin.
const URL_VARIABLE: &str = "E2B_RELAY_ADMIN_URL";
/// In place of --token-file.
const TOKEN_VARIABLE: &str = "E2B_RELAY_ADMIN_TOKEN";
/// The largest reply: 100,000 sandboxes with a few KiB of metadata each.
const MAX_REPLY: usize = 512 << 20;
/// A summary reads the journal.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Which daemon.
#[derive(Debug, Args)]
pub(super) struct Target {
    #[command(flatten)]
    sources: Sources,
    /// The daemon's admin listener, such as http://127.0.0.1:9464, instead of the configuration's admin.listen.
    #[arg(long = "admin", value_name = "URL", env = URL_VARIABLE)]
    url: Option<String>,
    /// A file with the token. Without it the variable E2B_RELAY_ADMIN_TOKEN; then, unless the daemon is named by its URL,
    /// the configuration's admin.token_file, or the one that the daemon keeps in its store's folder.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A daemon, not yet asked.
pub(super) struct Daemon {
    client: Client,
    /// Who said where it is.
    named_by: String,
    token: Result<(Secret, String), String>,
}

impl Target {
    /// Works out where the daemon is; nothing is asked yet.
    pub(super) fn daemon(&self) -> Result<Daemon, Failure> {
        let (url, named_by, configured) = match &self.url {
            Some(url) => (url.clone(), format!("--admin or {URL_VARIABLE}"), None),
            None => {
                let settings = self.sources.read_and_warn()?.settings;
                let address = reachable(settings.admin.listen)?;
                let token = settings.admin.token_file.unwrap_or_else(|| Token::own_file(&settings.store.path));
                (format!("http://{address}"), "admin.listen".to_owned(), Some(token))
            }
        };
        let limits = Limits { timeout: TIMEOUT, max_reply: MAX_REPLY, ..Limits::default() };
        let client =
            Client::new(&url, limits).map_err(|error| Failure::new(Exit::Usage, format!("{named_by}: {error}")))?;
        Ok(Daemon { client, named_by, token: self.token(configured.as_deref())? })
    }

    /// The token and where it was read, or why there is none: reading may go without.
    fn token(&self, configured: Option<&Path>) -> Result<Result<(Secret, String), String>, Failure> {
        let read = |file: &Path| {
            let token = Token::read(file).map_err(|error| error.to_string())?;
            Ok((token.secret().clone(), file.display().to_string()))
        };
        if let Some(file) = &self.token_file {
            return read(file).map(Ok).map_err(|error| Failure::new(Exit::Io, format!("--token-file: {error}")));
        }
        if let Some(token) = std::env::var_os(TOKEN_VARIABLE).filter(|token| !token.is_empty()) {
            let token = token.into_string().map_err(|_| ());
            let Some(token) = token.ok().filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic())) else {
                return Err(Failure::new(Exit::Usage, format!("{TOKEN_VARIABLE} holds what no header can")));
            };
            return Ok(Ok((Secret::new(token), TOKEN_VARIABLE.to_owned())));
        }
        Ok(match configured {
            Some(file) => read(file),
            None => Err(format!("neither --token-file nor {TOKEN_VARIABLE} is given")),
        })
    }
}

/// Where a listener on all addresses is reached from this machine.
fn reachable(listen: SocketAddr) -> Result<SocketAddr, Failure> {
    if listen.port() == 0 {
        let message = "admin.listen has port 0, so that only the daemon's log knows the port: name it with --admin";
        return Err(Failure::new(Exit::Usage, message));
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

impl Daemon {
    /// What a path of the API has; `path` may have parameters.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let bearer = self.bearer();
        let reply = self.client.get(path, &Self::headers(bearer.as_deref())).await;
        let reply = reply.map_err(|error| self.unreachable(&error))?;
        self.understand(&reply)
    }

    /// Asks one of the paths that answer 200 with one word, or 503 with what is wrong.
    pub(super) async fn is_well(&self, path: &str, word: &str) -> Result<(), Failure> {
        let reply = self.client.get(path, &[]).await.map_err(|error| self.unreachable(&error))?;
        let said = String::from_utf8_lossy(&reply.body);
        match (reply.status, said.trim_end()) {
            (200, said) if said == word => Ok(()),
            (503, said) => Err(Failure::new(Exit::Unavailable, said)),
            (421, _) => Err(self.refused(&reply)),
            _ => Err(self.no_daemon()),
        }
    }

    /// What a path of the API has to tell for as long as it is listened to: `each` is given every line of it as it comes,
    /// `None` for an empty one, until it breaks off.
    pub(super) async fn get_lines<T: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl FnMut(Option<T>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let bearer = self.bearer();
        let headers = Self::headers(bearer.as_deref());
        let mut failed = Ok(());
        let reply = self.client.get_lines(path, &headers, |line| {
            let read = (!line.is_empty()).then(|| serde_json::from_slice(line).map_err(|_| self.no_daemon()));
            let told = read.transpose().and_then(&mut each);
            told.unwrap_or_else(|failure| {
                failed = Err(failure);
                ControlFlow::Break(())
            })
        });
        self.told(reply.await, failed)
    }

    /// Asks for a change, and understands the answer.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let bearer = self.bearer();
        let body = Bytes::from(serde_json::to_vec(body).map_err(Failure::internal)?);
        let reply = self.client.post(path, &Self::change_headers(bearer.as_deref()), body).await;
        let reply = reply.map_err(|error| self.unreachable(&error))?;
        self.understand(&reply)
    }

    fn headers(bearer: Option<&str>) -> Vec<(&'static str, &str)> {
        bearer.map(|bearer| ("authorization", bearer)).into_iter().collect()
    }

    /// What a change is sent with.
    fn change_headers(bearer: Option<&str>) -> Vec<(&'static str, &str)> {
        let mut headers = Self::headers(bearer);
        headers.push(("content-type", "application/json"));
        headers
    }

    /// Asks for a change; `each` is given every line of the answer as it comes.
    pub(super) async fn post_lines<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        mut each: impl FnMut(T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let bearer = self.bearer();
        let headers = Self::change_headers(bearer.as_deref());
        let body = Bytes::from(serde_json::to_vec(body).map_err(Failure::internal)?);
        let mut failed = Ok(());
        let reply = self.client.post_lines(path, &headers, body, |line| {
            failed = serde_json::from_slice(line).map_err(|_| self.no_daemon()).and_then(&mut each);
            if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.told(reply.await, failed)
    }

    /// How an answer that was told line by line came to its end.
    fn told(&self, reply: Result<Reply, ClientError>, read: Result<(), Failure>) -> Result<(), Failure> {
        read?;
        let reply = reply.map_err(|error| self.unreachable(&error))?;
        if reply.status == 200 { Ok(()) } else { Err(self.refused(&reply)) }
    }

    fn bearer(&self) -> Option<String> {
        self.token.as_ref().ok().map(|(token, _)| format!("Bearer {}", token.expose()))
    }

    fn understand<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, Failure> {
        if !(200..300).contains(&reply.status) {
            return Err(self.refused(reply));
        }
        serde_json::from_slice(&reply.body).map_err(|_| self.no_daemon())
    }

    fn unreachable(&self, error: &ClientError) -> Failure {
        let message = format!("{error}; is the daemon running? The address is that of {}", self.named_by);
        Failure::new(Exit::Unavailable, message)
    }

    fn no_daemon(&self) -> Failure {
        let (peer, named_by) = (self.client.peer(), &self.named_by);
        let message =
            format!("{peer} does not answer as a daemon of this version does; the address is that of {named_by}");
        Failure::new(Exit::Unavailable, message)
    }

    /// In the daemon's own words, with what is to be done here.
    fn refused(&self, reply: &Reply) -> Failure {
        #[derive(serde::Deserialize)]
        struct Refusal {
            error: String,
        }
        let Ok(Refusal { error }) = serde_json::from_slice(&reply.body) else { return self.no_daemon() };
        let peer = self.client.peer();
        match reply.status {
            401 => {
                let token = match &self.token {
                    Ok((_, place)) => format!("the token of {place} is not its own"),
                    Err(why) => format!("there is no token here: {why}"),
                };
                Failure::new(Exit::Config, format!("{peer} refuses: {token}. It says: {error}"))
            }
            400 | 404 | 405 | 409 | 413 | 415 => Failure::new(Exit::Usage, error),
            403 | 421 => Failure::new(Exit::Config, format!("{peer} refuses: {error}")),
            503 => Failure::new(Exit::Unavailable, error),
            status => Failure::new(Exit::Unavailable, format!("{peer} answers {status}: {error}")),
        }
    }
}
