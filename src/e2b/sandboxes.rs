//! `GET /v2/sandboxes` and `GET /sandboxes/{id}`: which sandboxes there are.

use super::api::{Request, no_json};
use super::rows::{self, Odd};
use super::{Answer, Api, ApiError, Endpoint};
use crate::client::{Reply, encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Most sandboxes of one page.
const LIMIT: usize = 100;

/// One sandbox. What else the API says of it is not read: the reply for one sandbox holds an access token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedSandbox {
    /// The short id.
    #[serde(rename = "sandboxID")]
    pub id: String,
    /// What it was made from.
    #[serde(rename = "templateID")]
    pub template_id: String,
    /// The template's name.
    #[serde(default)]
    pub alias: Option<String>,
    /// RFC 3339; of this stretch of running, so that a resume changes it.
    #[serde(rename = "startedAt")]
    pub started_at: String,
    /// RFC 3339; when its time is over.
    #[serde(rename = "endAt")]
    pub end_at: String,
    /// `running` or `paused`.
    pub state: String,
    /// Number of CPUs.
    #[serde(rename = "cpuCount", default)]
    pub cpu_count: Option<i64>,
    /// In MiB.
    #[serde(rename = "memoryMB", default)]
    pub memory_mb: Option<i64>,
    /// In MiB.
    #[serde(rename = "diskSizeMB", default)]
    pub disk_size_mb: Option<i64>,
    /// As the user set it.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
}

/// One page. A walk over the pages is no snapshot: a sandbox that is resumed meanwhile may come twice or not at all.
#[derive(Debug, Clone, Default)]
pub struct SandboxPage {
    /// Newest start first.
    pub sandboxes: Vec<ListedSandbox>,
    /// Ids of those whose rows are not as specified, as far as they have one: they are there all the same.
    pub odd: Vec<String>,
    /// `None` on the last page.
    pub next_token: Option<String>,
}

/// Whose row it is, of a row that may hold nothing else that is right.
#[derive(Deserialize)]
struct Id {
    #[serde(rename = "sandboxID")]
    id: String,
}

/// One without a start that is a time would be of no use.
fn row(raw: &RawValue) -> Result<ListedSandbox, Odd> {
    let listed: ListedSandbox = rows::row(raw, |text| serde_json::from_str::<Id>(text).ok().map(|row| row.id))?;
    match listed.started_at.parse::<jiff::Timestamp>() {
        Ok(_) => Ok(listed),
        Err(_) => Err(Odd::new(Some(listed.id), "its `startedAt` is no time")),
    }
}

impl Api {
    /// A page of the team's running and paused sandboxes.
    pub async fn sandboxes(&self, next_token: Option<&str>) -> Result<Answer<SandboxPage>, ApiError> {
        let mut request = Request::get(Endpoint::Sandboxes, "/v2/sandboxes");
        request = request.query("state", "running,paused").query("limit", LIMIT);
        if let Some(token) = next_token {
            request = request.query("nextToken", token);
        }
        let page = |reply: &Reply| {
            let listed: Vec<&RawValue> = serde_json::from_slice(&reply.body).map_err(|error| no_json(&error))?;
            let (sandboxes, odd) = rows::apart(listed.into_iter().map(row));
            let next_token = reply.header("x-next-token").filter(|token| !token.is_empty()).map(str::to_owned);
            let ids = odd.iter().filter_map(|one| one.id.clone()).collect();
            Ok((SandboxPage { sandboxes, odd: ids, next_token }, odd))
        };
        let answer = self.call(request, page).await?;
        self.pass_over(Endpoint::Sandboxes, &answer.value.1);
        let mut answer = answer.map(|(page, _)| page);
        answer.value.sandboxes.iter_mut().for_each(|sandbox| self.redact(sandbox));
        Ok(answer)
    }

    /// One sandbox; `None` if the API does not know it (any more).
    pub async fn sandbox(&self, id: &str) -> Result<Answer<Option<ListedSandbox>>, ApiError> {
        let path = format!("/sandboxes/{}", encode(id));
        match self.json(Request::get(Endpoint::Sandbox, &path)).await {
            Ok(mut answer) => {
                self.redact(&mut answer.value);
                Ok(answer.map(Some))
            }
            Err(ApiError::NotFound { .. }) => Ok(Answer { value: None, date: None, calls: 1 }),
            Err(error) => Err(error),
        }
    }

    fn redact(&self, sandbox: &mut ListedSandbox) {
        sandbox.metadata = sandbox.metadata.take().and_then(|metadata| self.redaction.metadata(metadata));
    }
}
