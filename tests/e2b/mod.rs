//! The client of the provider's API: against replies that are recorded or made up, and against the simulated provider.

mod replies;
mod simulated;
mod trouble;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use e2b_relay::e2b::{Api, Settings};
use e2b_relay::metrics::Metrics;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const KEY: &str = "e2b_0123456789abcdef0123456789abcdef01234567";

/// Answers with what it was given, the last again and again, and remembers what it was asked.
pub(crate) struct Canned {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// Method, path and parameters.
    line: String,
    key: String,
    body: String,
}

#[derive(Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

pub(crate) fn reply(status: u16, body: &str) -> Reply {
    Reply { status, headers: Vec::new(), body: body.to_owned() }
}

impl Reply {
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Canned {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (heard, replies) = (Arc::clone(&asked), Arc::new(replies));
        let answer = move |request: Request| {
            let (heard, replies) = (Arc::clone(&heard), Arc::clone(&replies));
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let key = request.headers()["x-api-key"].to_str().unwrap().to_owned();
                let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
                let body = String::from_utf8(body.to_vec()).unwrap();
                let number = {
                    let mut heard = heard.lock().unwrap();
                    heard.push(Asked { line, key, body });
                    heard.len() - 1
                };
                let reply = replies.get(number).or(replies.last()).unwrap().clone();
                let mut response = Response::builder().status(reply.status);
                for (name, value) in reply.headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(reply.body)).unwrap()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

/// A client, and what it counts into.
pub(crate) fn api_at(url: &str) -> (Api, Metrics) {
    let metrics = Metrics::new("0", "0").unwrap();
    let settings = Settings {
        url: Some(url.to_owned()),
        api_key: Some(KEY.to_owned().into()),
        timeout: Duration::from_secs(5),
        ..Settings::default()
    };
    let api = Api::new("acme", &settings, metrics.clone(), fastrand::Rng::with_seed(7)).unwrap();
    (api, metrics)
}

/// What the counter of requests says.
fn counted(metrics: &Metrics, endpoint: &str, code: &str) -> u64 {
    let labels = format!(r#"{{code="{code}",endpoint="{endpoint}",source="acme"}} "#);
    let text = metrics.encode().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("e2b_relay_api_requests_total{labels}")));
    line.unwrap_or_else(|| panic!("{labels} is not there")).parse().unwrap()
}
