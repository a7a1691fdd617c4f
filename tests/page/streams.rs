//! What the page is told as it comes.

use super::{ONE_DOWN, TO_A_FILE, home, url};
use crate::support::daemon::{Daemon, PATIENCE, reqwest_client};
use crate::support::load::{Plan, send};
use futures_util::StreamExt;
use serde_json::Value;
use std::time::{Duration, Instant};

/// One stream, as a browser reads it.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(daemon: &Daemon, parameters: &str) -> Self {
        let response = reqwest_client().get(url(daemon, &format!("/stream{parameters}"))).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
            (200, "text/event-stream")
        );
        Self { response, text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                self.text = rest.to_owned();
                return Some(event);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("nothing comes").unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// Waits until a figure has become so.
    async fn until(&mut self, name: &str, text: &str) {
        loop {
            let event = self.next().await.expect("the stream ended");
            if event["figures"][name]["text"] == text {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_is_told_and_only_that() {
    let home = home(ONE_DOWN);
    let daemon = home.start().await;
    let mut stream = Stream::open(&daemon, "?q=nobody").await;
    let first = stream.next().await.unwrap();
    assert_eq!(first["figures"]["outcome.accepted"]["text"], "0");
    assert_eq!(first["figures"]["sandboxes.shown"]["text"], "none found");
    for table in ["sinks", "sources", "letters", "sandboxes", "events"] {
        assert!(first["tables"][table].is_array(), "{table}");
    }
    let webhook = daemon.webhook();
    send(Plan { events: 300, ..Plan::default() }, move || webhook.clone()).await;
    stream.until("outcome.accepted", "300").await;
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(stream.next().await.unwrap());
    }
    let last = told.last().unwrap();
    assert!(last["figures"].get("outcome.accepted").is_none() && last["tables"].get("events").is_none(), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_32_streams_at_once_and_they_do_not_delay_the_end() {
    let home = home(TO_A_FILE);
    let daemon = home.start().await;
    let mut streams: Vec<Stream> =
        futures_util::stream::iter(0..32).then(|_| Stream::open(&daemon, "")).collect().await;
    let refused = reqwest_client().get(url(&daemon, "/stream")).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "10"));
    // One that ends makes room.
    drop(streams.pop());
    let began = Instant::now();
    loop {
        let again = reqwest_client().get(url(&daemon, "/stream")).send().await.unwrap();
        if again.status() == 200 {
            streams.push(Stream { response: again, text: String::new() });
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no room is made");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for stream in &mut streams {
        assert!(stream.next().await.is_some());
    }
    let began = Instant::now();
    daemon.ask_to_end();
    for stream in &mut streams {
        while stream.next().await.is_some() {}
    }
    assert!(daemon.terminate().await.success());
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
}
