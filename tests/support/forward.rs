//! A plain forwarder over HTTP with an address that stays: in front of a daemon that comes and goes, or of an API whose
//! calls are to be counted and held back.
#![cfg(test)]

use super::daemon::reqwest_client;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

pub(crate) struct Forwarder {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    client: reqwest::Client,
    target: Mutex<String>,
    /// Path and parameters of each request.
    asked: watch::Sender<Vec<String>>,
    /// How many requests are let through.
    allowed: watch::Sender<usize>,
    /// How many of the next answers to a POST are lost.
    lost: AtomicUsize,
    /// Added to the time in the answers' header Date.
    clock: Mutex<jiff::SignedDuration>,
}

impl Forwarder {
    /// To `target`, the beginning of a URL without a path.
    pub(crate) async fn start(target: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            client: reqwest_client(),
            target: Mutex::new(target.to_owned()),
            asked: watch::Sender::default(),
            allowed: watch::Sender::new(usize::MAX),
            lost: AtomicUsize::new(0),
            clock: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let app = Router::new().fallback(move |request| forward(Arc::clone(&serving), request));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, shared }
    }

    pub(crate) fn retarget(&self, target: &str) {
        target.clone_into(&mut self.shared.target.lock().unwrap());
    }

    /// What was asked for so far, whether it was let through or not; the list of sandboxes aside.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.borrow().clone()
    }

    /// Lets so many further requests through, and holds the others back.
    pub(crate) fn allow(&self, further: usize) {
        let so_far = self.shared.asked.borrow().len();
        self.shared.allowed.send_replace(so_far.saturating_add(further));
    }

    /// Passes the next `posts` requests of that method on, and keeps the answers to itself.
    pub(crate) fn lose_answers(&self, posts: usize) {
        self.shared.lost.store(posts, Ordering::SeqCst);
    }

    /// From now on the answers' header Date is so far ahead.
    pub(crate) fn set_clock(&self, ahead: jiff::SignedDuration) {
        *self.shared.clock.lock().unwrap() = ahead;
    }

    /// Waits until somebody is held back.
    pub(crate) async fn until_held(&self) {
        let allowed = *self.shared.allowed.borrow();
        self.until_asked(allowed + 1).await;
    }

    /// Waits until there were so many requests, let through or not.
    pub(crate) async fn until_asked(&self, requests: usize) {
        let mut asked = self.shared.asked.subscribe();
        let held = asked.wait_for(|asked| asked.len() >= requests);
        drop(tokio::time::timeout(super::daemon::PATIENCE, held).await.expect("nobody came").unwrap());
    }
}

async fn forward(shared: Arc<Shared>, request: Request) -> Response<Body> {
    // The list of sandboxes is read beside the events: in no fixed order with them, so that it is not held.
    if !request.uri().path().starts_with("/v2/sandboxes") {
        let mut number = 0;
        shared.asked.send_modify(|asked| {
            asked.push(request.uri().to_string());
            number = asked.len();
        });
        let mut allowed = shared.allowed.subscribe();
        allowed.wait_for(|allowed| *allowed >= number).await.unwrap();
    }
    let target = shared.target.lock().unwrap().clone();
    let (head, body) = request.into_parts();
    let mut headers = head.headers;
    headers.remove("host");
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let is_post = head.method == "POST";
    let sent =
        shared.client.request(head.method, format!("{target}{}", head.uri)).headers(headers).body(body).send().await;
    let Ok(reply) = sent else { return status(StatusCode::BAD_GATEWAY) };
    let one_less = |lost: usize| lost.checked_sub(1);
    if is_post && shared.lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
        return status(StatusCode::GATEWAY_TIMEOUT);
    }
    let mut response = Response::builder().status(reply.status());
    for (name, value) in reply.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
        response = response.header(name, value);
    }
    let ahead = *shared.clock.lock().unwrap();
    if let Some(headers) = response.headers_mut().filter(|_| !ahead.is_zero()) {
        let date = jiff::fmt::rfc2822::DateTimePrinter::new();
        let date = date.timestamp_to_rfc9110_string(&(jiff::Timestamp::now() + ahead)).unwrap();
        headers.insert("date", date.parse().unwrap());
    }
    match reply.bytes().await {
        Ok(body) => response.body(Body::from(body)).unwrap(),
        Err(_) => status(StatusCode::BAD_GATEWAY),
    }
}

fn status(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}
