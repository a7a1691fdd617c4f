//! Replies of the provider's API: whatever comes is understood row by row, or refused in words that repeat nothing of it.

use super::{EVENTS, Target, files};
use bytes::Bytes;
use e2b_relay::client::{ClientError, Exchange, Method, Reply};
use e2b_relay::e2b::{Answer, Api, ApiError, DeliveryQuery, ListedSandbox, Settings};
use e2b_relay::metrics::Metrics;
use e2b_relay::secret::Secret;
use fastrand::Rng;
use futures_util::future::BoxFuture;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// Stands in corpus files where something private would.
const CANARY: &str = "c4n4ry";
const KEY: &str = "e2b_0123456789abcdef0123456789abcdef01234567";

/// Answers whatever it was given last.
#[derive(Default)]
struct Canned(Mutex<(u16, Bytes)>);

impl Exchange for Canned {
    fn exchange<'a>(
        &'a self,
        _: Method,
        _: &'a str,
        _: &'a [(&'a str, &'a str)],
        _: Bytes,
    ) -> BoxFuture<'a, Result<Reply, ClientError>> {
        let (status, body) = self.0.lock().unwrap().clone();
        let headers = [("x-next-token", "next".to_owned()), ("date", "Fri, 21 Aug 2026 10:00:00 GMT".to_owned())];
        Box::pin(std::future::ready(Ok(Reply::new(status, &headers, body))))
    }

    fn peer(&self) -> String {
        "api.example.com:443".to_owned()
    }
}

/// A client of [`Canned`], on a clock that waits for nobody.
struct Client {
    canned: Arc<Canned>,
    api: Api,
    runtime: Runtime,
}

impl Client {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let canned = Arc::new(Canned::default());
        let settings = Settings { api_key: Some(Secret::new(KEY)), ..Settings::default() };
        let metrics = Metrics::new("0", "0").unwrap();
        let guard = runtime.enter();
        let api = Api::over(canned.clone(), String::new(), "acme", &settings, metrics, Rng::with_seed(7));
        drop(guard);
        Self { canned, api, runtime }
    }

    fn ask<T>(
        &self,
        status: u16,
        body: &[u8],
        ask: impl AsyncFnOnce(&Api) -> Result<Answer<T>, ApiError>,
    ) -> Result<T, String> {
        *self.canned.0.lock().unwrap() = (status, Bytes::copy_from_slice(body));
        match self.runtime.block_on(ask(&self.api)) {
            Ok(answer) => Ok(answer.value),
            Err(error) => {
                let said = error.to_string();
                assert!(
                    said.chars().count() < 600 && !said.contains(char::is_control) && !said.contains(KEY),
                    "{said:?}"
                );
                let is_its_own_message = matches!(error, ApiError::Refused { .. });
                assert!(is_its_own_message || !said.contains(CANARY), "{said:?}");
                assert!(status != 200 || matches!(error, ApiError::Invalid { .. }), "{error:?}");
                Err(said.split(" (line").next().unwrap_or_default().chars().take(120).collect())
            }
        }
    }

    fn refusal(&self, body: &[u8], random: &mut Rng) {
        let status = [400, 401, 404, 409][random.usize(..4)];
        self.ask(status, body, async |api| api.events(0, 100).await).map(drop).expect_err("no success");
    }
}

fn raw_rows(body: &[u8]) -> Option<Vec<&RawValue>> {
    serde_json::from_slice(body).ok()
}

/// What they are; `None` where one has a number past a double, which is no matter where nobody reads it.
fn values(body: &[u8]) -> Option<Vec<Value>> {
    raw_rows(body)?.iter().map(|row| serde_json::from_str(row.get()).ok()).collect()
}

fn size(count: usize) -> usize {
    count.min(8)
}

#[test]
fn events_come_as_the_texts_that_they_were() {
    let client = Client::new();
    Target { name: "events", rounds: 2_000, minutes: 1, seeds: files(EVENTS) }.fuzz(|input, random| {
        client.refusal(input, random);
        let page = client.ask(200, input, async |api| api.events(0, 100).await);
        if let Some(rows) = raw_rows(input) {
            let texts: Vec<&str> = rows.iter().map(|row| row.get()).collect();
            assert_eq!(page.as_ref().map(|page| page.events.clone()).unwrap_or_default(), texts);
            let wrapped = format!(r#"{{"more": {{}}, "events":{}}}"#, String::from_utf8_lossy(input));
            let wrapped = client.ask(200, wrapped.as_bytes(), async |api| api.sandbox_events("s", 0, 100).await);
            assert_eq!(wrapped.map(|page| page.events).unwrap_or_default(), texts);
        }
        page.map(|page| format!("{} {}", size(page.events.len()), input.starts_with(b"[")))
    });
}

#[test]
fn sandboxes_are_understood_or_named_as_odd() {
    let client = Client::new();
    let seeds = files(&["tests/data/e2b/sandboxes.json"]);
    Target { name: "sandboxes", rounds: 2_000, minutes: 1, seeds }.fuzz(|input, random| {
        client.refusal(input, random);
        let page = client.ask(200, input, async |api| api.sandboxes(None).await)?;
        let rows = raw_rows(input).expect("a page is a list").len();
        assert!(page.sandboxes.len() + page.odd.len() <= rows, "of {rows} rows");
        assert_eq!(page.next_token.as_deref(), Some("next"));
        let Some(whole) = values(input) else { return Ok("a huge number".to_owned()) };
        let ids: Vec<Value> = whole.into_iter().flat_map(|row| [row["sandboxID"].clone(), row[0].clone()]).collect();
        for sandbox in &page.sandboxes {
            assert!(sandbox.started_at.parse::<jiff::Timestamp>().is_ok(), "{sandbox:?}");
            assert!(ids.contains(&sandbox.id.as_str().into()), "{sandbox:?}");
            // Numbers are not read to their last digit.
            let sandbox = &ListedSandbox { metadata: None, ..sandbox.clone() };
            let json = serde_json::to_vec(sandbox).unwrap();
            assert_eq!(&serde_json::from_slice::<ListedSandbox>(&json).unwrap(), sandbox);
            let one =
                client.ask(200, &json, async |api| api.sandbox(&sandbox.id).await).expect("understood alone, too");
            assert_eq!(one.as_ref(), Some(sandbox));
        }
        assert!(page.odd.iter().all(|id| ids.contains(&id.as_str().into())), "{:?}", page.odd);
        Ok(format!("{} {} {}", size(page.sandboxes.len()), size(page.odd.len()), size(rows)))
    });
}

#[test]
fn samples_have_a_time_on_the_calendar() {
    let client = Client::new();
    let seeds = files(&["tests/data/e2b/metrics.json", "tests/data/e2b/sandbox-metrics.json"]);
    Target { name: "metrics", rounds: 2_000, minutes: 1, seeds }.fuzz(|input, random| {
        client.refusal(input, random);
        let latest = client.ask(200, input, async |api| api.metrics(&["a", "b"]).await);
        let span = client.ask(200, input, async |api| api.sandbox_metrics("a", 0, 1).await);
        // One is a table and the other a list.
        let (samples, count) = match (&latest, &span) {
            (Ok(latest), Err(_)) => (latest.values().copied().collect::<Vec<_>>(), {
                let whole: BTreeMap<String, Value> = serde_json::from_slice(input).unwrap_or_default();
                whole.get("sandboxes").and_then(Value::as_object).map_or(usize::MAX, serde_json::Map::len)
            }),
            (Err(_), Ok(span)) => (span.clone(), raw_rows(input).expect("a list").len()),
            (Err(error), Err(_)) => return Err(error.clone()),
            // The table's one member may stand in a list, as serde reads a struct.
            (Ok(_), Ok(span)) => {
                assert!(input.trim_ascii_start().starts_with(b"["), "both a table and a list");
                (span.clone(), raw_rows(input).expect("a list").len())
            }
        };
        assert!(samples.len() <= count, "{} of {count}", samples.len());
        for sample in &samples {
            assert!(jiff::Timestamp::from_second(sample.unix_seconds).is_ok(), "{sample:?}");
            assert!(sample.cpu_used_pct.is_finite(), "{sample:?}");
        }
        Ok(format!("{} {} {}", latest.is_ok(), size(samples.len()), size(count)))
    });
}

#[test]
fn deliveries_are_those_that_the_page_lists() {
    let client = Client::new();
    let seeds = files(&["tests/data/e2b/deliveries.json"]);
    Target { name: "deliveries", rounds: 2_000, minutes: 1, seeds }.fuzz(|input, random| {
        client.refusal(input, random);
        let query = DeliveryQuery::default();
        let page = client.ask(200, input, async |api| api.deliveries("w", &query).await)?;
        let Ok(whole) = serde_json::from_slice::<Value>(input) else { return Ok("a huge number".to_owned()) };
        let Some(rows) = whole["data"].as_array() else {
            assert!(whole.is_array(), "a page has a list, or is one, as serde reads a struct");
            return Ok("a list in the page's place".to_owned());
        };
        assert!(page.deliveries.len() <= rows.len(), "of {} rows", rows.len());
        assert_eq!(page.next_cursor.as_deref(), whole["nextCursor"].as_str());
        for delivery in &page.deliveries {
            let is_its =
                |row: &&Value| row["eventId"] == delivery.event_id.as_str() || row[0] == delivery.event_id.as_str();
            let row = rows.iter().find(is_its).expect("it is listed");
            if row.is_array() {
                continue;
            }
            let bodies = delivery.attempts.iter().map(|attempt| attempt.request_body.as_deref());
            let listed =
                row["attempts"].as_array().into_iter().flatten().map(|attempt| attempt["requestBody"].as_str());
            assert!(rows.len() > 1 || bodies.eq(listed), "{delivery:?}");
        }
        Ok(format!("{} {} {}", size(page.deliveries.len()), size(rows.len()), page.next_cursor.is_some()))
    });
}
