//! `GET /events/sandboxes` and `GET /events/sandboxes/{id}`: pages by offset, nothing to say from when or until when.
//!
//! The specification has a bare array in camelCase; the documentation has `{"events": […]}` and snake_case. Both are
//! taken, and each event is handed on as it came.

use super::api::{Request, no_json};
use super::{Answer, Api, ApiError, Endpoint};
use crate::client::encode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most events of one page.
pub const MAX_EVENTS: usize = 100;

/// One page, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventsPage {
    /// The JSON text of each.
    pub events: Vec<Bytes>,
}

#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

impl Api {
    /// A page of the team's events, newest first. `limit` is 1 to [`MAX_EVENTS`].
    pub async fn events(&self, offset: usize, limit: usize) -> Result<Answer<EventsPage>, ApiError> {
        self.page(Request::get(Endpoint::Events, "/events/sandboxes"), offset, limit).await
    }

    /// A page of one sandbox's events, newest first; empty where the sandbox is not known.
    pub async fn sandbox_events(
        &self,
        sandbox_id: &str,
        offset: usize,
        limit: usize,
    ) -> Result<Answer<EventsPage>, ApiError> {
        let path = format!("/events/sandboxes/{}", encode(sandbox_id));
        match self.page(Request::get(Endpoint::SandboxEvents, &path), offset, limit).await {
            Err(ApiError::NotFound { .. }) => Ok(Answer { value: EventsPage::default(), date: None, calls: 1 }),
            answered => answered,
        }
    }

    async fn page(&self, request: Request<'_>, offset: usize, limit: usize) -> Result<Answer<EventsPage>, ApiError> {
        let request = request.query("offset", offset).query("limit", limit).query("orderAsc", false);
        let mut answer = self.call(request, |reply| parse(&reply.body)).await?;
        answer.value.events = answer.value.events.into_iter().map(|event| self.redaction.body(event)).collect();
        Ok(answer)
    }
}

fn parse(body: &Bytes) -> Result<EventsPage, String> {
    let is_wrapped = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let events = if is_wrapped {
        serde_json::from_slice(body).map(|wrapped: Wrapped<'_>| wrapped.events)
    } else {
        serde_json::from_slice(body)
    };
    let events: Vec<&RawValue> = events.map_err(|error| no_json(&error))?;
    // Copies: a slice of the page would keep the whole of it in memory for as long as one of its events waits.
    Ok(EventsPage { events: events.into_iter().map(|raw| Bytes::copy_from_slice(raw.get().as_bytes())).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &'static str) -> Vec<String> {
        let page = parse(&Bytes::from_static(body.as_bytes())).expect(body);
        page.events.iter().map(|event| String::from_utf8(event.to_vec()).expect("text")).collect()
    }

    #[test]
    fn an_array_and_the_same_wrapped_are_one_page_of_texts_as_they_came() {
        for body in
            [r#"[{"id":"a", "n": 1.0}, {"id":"b"}]"#, r#" {"more":1,"events":[{"id":"a", "n": 1.0},{"id":"b"}]}"#]
        {
            assert_eq!(texts(body), [r#"{"id":"a", "n": 1.0}"#, r#"{"id":"b"}"#], "{body}");
        }
        assert_eq!(texts("[]"), [""; 0]);
    }

    #[test]
    fn what_is_cut_or_something_else_is_said_so_without_its_text() {
        for (body, said) in [
            (r#"[{"id":"secret""#, "ends too early"),
            ("<html>secret</html>", "no JSON"),
            (r#"{"secret": []}"#, "other members"),
            (r#"{"events": "secret"}"#, "other members"),
            ("", "ends too early"),
        ] {
            let problem = parse(&Bytes::from_static(body.as_bytes())).expect_err(body);
            assert!(problem.contains(said) && !problem.contains("secret"), "{body}: {problem}");
        }
    }
}
