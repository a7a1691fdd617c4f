//! Outgoing HTTP with its rules: one origin, no redirects, no proxy from the environment, a time limit on everything,
//! replies of a bounded size.
//!
//! A redirect would carry a signature or an API key to an address that nobody wrote into the settings.

use crate::percent;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
pub use reqwest::Method;
use reqwest::{Url, redirect};
use std::ops::ControlFlow;
use std::time::Duration;

/// However often a piece of it comes, an answer has its end after this time.
const LONGEST_ANSWER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Bounds of one client.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the whole request, the reply's last byte included.
    pub timeout: Duration,
    /// For the connection alone.
    pub connect_timeout: Duration,
    /// Largest reply body, in bytes.
    pub max_reply: usize,
    /// Idle connections kept.
    pub max_idle: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            max_reply: 1 << 20,
            max_idle: 64,
        }
    }
}

/// How one request gets to its peer and the reply back: by HTTP, or in a simulation to a model of the peer.
pub trait Exchange: Send + Sync {
    /// `path` begins with `/` and may have a query.
    fn exchange<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        headers: &'a [(&'a str, &'a str)],
        body: Bytes,
    ) -> BoxFuture<'a, Result<Reply, ClientError>>;

    /// Host and port, as messages name it.
    fn peer(&self) -> String;
}

/// Speaks to one origin. Cloning is cheap and shares the connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    max_reply: usize,
    timeout: Duration,
}

/// What a peer answered, whatever the status.
#[derive(Debug, Clone)]
pub struct Reply {
    /// 100 to 599; a redirect is an answer like any other.
    pub status: u16,
    /// At most [`Limits::max_reply`] bytes.
    pub body: Bytes,
    headers: reqwest::header::HeaderMap,
}

impl Reply {
    /// One that comes from no network. A header that HTTP cannot have is left out.
    pub fn new(status: u16, headers: &[(&'static str, String)], body: Bytes) -> Self {
        let headers = headers
            .iter()
            .filter_map(|(name, value)| Some((reqwest::header::HeaderName::from_static(name), value.parse().ok()?)));
        Self { status, body, headers: headers.collect() }
    }

    /// A header's first value, if it is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// No answer. The messages name the peer, and never a header or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("not a usable URL: {0}")]
    Url(String),
    /// The TLS set-up failed, such as for want of any root certificate.
    #[error("cannot set up HTTP: {0}")]
    Setup(String),
    /// No connection.
    #[error("cannot connect to {peer}: {problem}")]
    Connect {
        /// Host and port.
        peer: String,
        /// The innermost cause.
        problem: String,
    },
    /// [`Limits::timeout`] is over.
    #[error("{peer} did not answer in time")]
    Timeout {
        /// Host and port.
        peer: String,
    },
    /// The reply is larger than [`Limits::max_reply`].
    #[error("{peer} answered with more than {limit} bytes")]
    TooLarge {
        /// Host and port.
        peer: String,
        /// In bytes.
        limit: usize,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("the exchange with {peer} broke off: {problem}")]
    Broken {
        /// Host and port.
        peer: String,
        /// The innermost cause.
        problem: String,
    },
}

impl Client {
    /// `base` is an `http` or `https` URL; its origin is the only one that is ever asked.
    pub fn new(base: &str, limits: Limits) -> Result<Self, ClientError> {
        let base = parse(base)?;
        let plain = base.scheme() == "http";
        // reqwest takes the process's provider and panics without one. An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .timeout(limits.timeout)
            .connect_timeout(limits.connect_timeout)
            .pool_max_idle_per_host(limits.max_idle)
            .user_agent(concat!("e2b-relay/", env!("CARGO_PKG_VERSION")));
        if plain {
            // Loading the system's roots fails on a machine without any, and plain HTTP needs none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| ClientError::Setup(innermost(&error)))?;
        Ok(Self { http, base, max_reply: limits.max_reply, timeout: limits.timeout })
    }

    /// The path and query of the URL that the client was made with.
    pub fn base_path(&self) -> String {
        match self.base.query() {
            Some(query) => format!("{}?{query}", self.base.path()),
            None => self.base.path().to_owned(),
        }
    }

    /// Host and port, as messages name it.
    pub fn peer(&self) -> String {
        peer(&self.base)
    }

    /// `path` begins with `/` and may have a query.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Reply, ClientError> {
        self.exchange(Method::GET, path, headers, Bytes::new()).await
    }

    /// `path` begins with `/` and may have a query.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Reply, ClientError> {
        self.exchange(Method::POST, path, headers, body).await
    }

    /// Likewise, for an answer that takes its time: the limit counts from one piece of it to the next. `each` is given
    /// every line of a 200 as it comes, without its end, until it breaks off; what else is answered comes back as the
    /// reply's body.
    pub async fn get_lines(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Reply, ClientError> {
        self.lines(Method::GET, path, headers, Bytes::new(), each).await
    }

    /// The same for a POST.
    pub async fn post_lines(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Reply, ClientError> {
        self.lines(Method::POST, path, headers, body, each).await
    }

    async fn lines(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Reply, ClientError> {
        let in_time = || ClientError::Timeout { peer: self.peer() };
        let sent = self.request(method, path, headers, body)?.timeout(LONGEST_ANSWER).send();
        let sent = tokio::time::timeout(self.timeout, sent).await.map_err(|_| in_time())?;
        let mut response = sent.map_err(|error| self.error(&error))?;
        let is_lines = response.status().as_u16() == 200;
        let mut held = BytesMut::new();
        'pieces: loop {
            let chunk = tokio::time::timeout(self.timeout, response.chunk()).await.map_err(|_| in_time())?;
            let Some(chunk) = chunk.map_err(|error| self.error(&error))? else { break };
            self.hold(&mut held, &chunk)?;
            while let Some(end) = held.iter().position(|byte| is_lines && *byte == b'\n') {
                let line = held.split_to(end + 1);
                if each(line.strip_suffix(b"\n").unwrap_or(&line)).is_break() {
                    break 'pieces;
                }
            }
        }
        Ok(reply(&mut response, held))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<reqwest::RequestBuilder, ClientError> {
        let request = self.http.request(method, self.url(path)?).body(body);
        Ok(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
    }

    /// Adds a piece of a reply to those before it, as far as a reply may be long.
    fn hold(&self, held: &mut BytesMut, chunk: &[u8]) -> Result<(), ClientError> {
        if held.len() + chunk.len() > self.max_reply {
            return Err(ClientError::TooLarge { peer: self.peer(), limit: self.max_reply });
        }
        held.extend_from_slice(chunk);
        Ok(())
    }

    /// `//host/…` and `http://host/…` are URLs of another origin as far as joining is concerned.
    fn url(&self, path: &str) -> Result<Url, ClientError> {
        let url = self.base.join(path).map_err(|error| ClientError::Url(error.to_string()))?;
        if !path.starts_with('/') || url.origin() != self.base.origin() {
            return Err(ClientError::Url("a path must begin with one `/` and stay with its host".to_owned()));
        }
        Ok(url)
    }

    fn error(&self, error: &reqwest::Error) -> ClientError {
        let (peer, problem) = (self.peer(), innermost(error));
        if error.is_timeout() {
            ClientError::Timeout { peer }
        } else if error.is_connect() {
            ClientError::Connect { peer, problem }
        } else {
            ClientError::Broken { peer, problem }
        }
    }
}

impl Exchange for Client {
    fn exchange<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        headers: &'a [(&'a str, &'a str)],
        body: Bytes,
    ) -> BoxFuture<'a, Result<Reply, ClientError>> {
        Box::pin(async move {
            let request = self.request(method, path, headers, body)?;
            let mut response = request.send().await.map_err(|error| self.error(&error))?;
            let mut body = BytesMut::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| self.error(&error))? {
                self.hold(&mut body, &chunk)?;
            }
            Ok(reply(&mut response, body))
        })
    }

    fn peer(&self) -> String {
        peer(&self.base)
    }
}

/// The URL as requests have it, so that two spellings of one are the same text.
///
/// # Errors
/// If it is no `http` or `https` URL, or holds credentials.
pub fn normal_url(text: &str) -> Result<String, ClientError> {
    parse(text).map(String::from)
}

/// The path of such a URL, without a query.
///
/// # Errors
/// As [`normal_url`].
pub fn path_of(text: &str) -> Result<String, ClientError> {
    parse(text).map(|url| url.path().to_owned())
}

/// Host and port of such a URL.
///
/// # Errors
/// As [`normal_url`].
pub fn peer_of(text: &str) -> Result<String, ClientError> {
    parse(text).map(|url| peer(&url))
}

fn peer(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn parse(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|error| ClientError::Url(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ClientError::Url("the scheme must be http or https".to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ClientError::Url("a URL must not hold credentials".to_owned()));
    }
    Ok(url)
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3), for a path or a parameter, and the comma, which
/// parts the ids of a list: the provider's parser looks for it before it decodes.
pub fn encode(text: &str) -> String {
    percent::encode(text, |byte| percent::is_unreserved(byte) || byte == b',')
}

fn reply(response: &mut reqwest::Response, body: BytesMut) -> Reply {
    let headers = std::mem::take(response.headers_mut());
    Reply { status: response.status().as_u16(), body: body.freeze(), headers }
}

/// The outer layers only repeat the URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base: &str) -> Client {
        Client::new(base, Limits::default()).expect(base)
    }

    #[test]
    fn the_base_is_plain_or_tls_http_without_credentials() {
        for base in ["ftp://a/", "a", "http://", "http://user@a/", "http://:secret@a/", "file:///etc/passwd"] {
            let error = Client::new(base, Limits::default()).expect_err(base);
            assert!(matches!(error, ClientError::Url(_)), "{base} gave {error}");
            assert!(!error.to_string().contains("secret"));
        }
        let client = client("http://127.0.0.1:8080/webhooks/e2b?a=1");
        assert_eq!(client.base_path(), "/webhooks/e2b?a=1");
        assert_eq!(client.peer(), "127.0.0.1:8080");
    }

    #[test]
    fn values_stay_one_value_and_lists_stay_lists() {
        assert_eq!(encode("a,b-c_d.e~f"), "a,b-c_d.e~f");
        assert_eq!(encode("2026-08-21T10:00:00Z"), "2026-08-21T10%3A00%3A00Z");
        assert_eq!(encode("a&b=c/../?#é +"), "a%26b%3Dc%2F..%2F%3F%23%C3%A9%20%2B");
    }

    #[test]
    fn two_spellings_of_one_url_are_the_same() {
        let normal = Ok("https://relay.example.com/Hooks".to_owned());
        assert_eq!(normal_url("https://relay.example.com/Hooks"), normal);
        assert_eq!(normal_url("HTTPS://Relay.Example.com:443/a/../Hooks"), normal);
        assert_ne!(normal_url("https://relay.example.com/hooks"), normal);
        assert_eq!(path_of("https://relay.example.com/webhooks/e2b?x=1"), Ok("/webhooks/e2b".to_owned()));
        for text in ["relay.example.com/hooks", "ftp://relay.example.com/", "https://user:secret@relay.example.com/"] {
            let error = normal_url(text).expect_err(text);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_path_never_leaves_the_origin() {
        let client = client("http://127.0.0.1:8080/a");
        assert_eq!(client.url("/b?c").map(String::from), Ok("http://127.0.0.1:8080/b?c".to_owned()));
        for path in ["b", "//evil.example/x", "http://evil.example/", "/\\evil.example/", "\\\\evil.example/", ""] {
            match client.url(path) {
                Err(ClientError::Url(_)) => {}
                other => panic!("{path} gave {other:?}"),
            }
        }
    }
}
