//! Distinct signed deliveries in both of the provider's shapes, made before the clock starts: as whole HTTP requests.

use crate::SECRET;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use serde_json::json;
use sha2::Digest as _;
use std::time::Duration;

/// So many sandboxes take turns; a broker's parallelism and the relay's order per sandbox depend on it.
const SANDBOXES: usize = 1_000;

const KINDS: [(&str, &str); 5] =
    [("created", "create"), ("updated", "update"), ("paused", "pause"), ("resumed", "resume"), ("killed", "kill")];

/// Requests to `host` and `path`, ready to be written, of events that happened `age` ago.
pub(crate) fn requests(host: &str, path: &str, count: usize, age: Duration) -> Vec<Bytes> {
    let at = jiff::Timestamp::now().checked_sub(age).unwrap_or_default();
    (0..count).map(|number| request(host, path, &body(number, at))).collect()
}

/// About 620 bytes; v1 and v2 by turns.
pub(crate) fn body(number: usize, at: jiff::Timestamp) -> String {
    let (kind, label) = KINDS.get(number % KINDS.len()).copied().unwrap_or(("created", "create"));
    let (kind, at) = (format!("sandbox.lifecycle.{kind}"), at.to_string());
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid().to_string();
    let sandbox = format!("i{:020}", number % SANDBOXES);
    let data =
        json!({"sandbox_metadata": {"user": format!("user-{number}"), "note": "n".repeat(80)}, "number": number});
    let (execution, build) = ("1dae9e1c-9957-4ce7-a236-a99d5779aadf", "a979a14b-bdcc-49e6-bc04-1189fc9fe7c2");
    let (template, team) = ("rki5dems9wqfm4r03t7g", "460355b3-4f64-48f9-9a16-4442817f79f5");
    let event = if number.is_multiple_of(2) {
        json!({"id": id, "version": "v1", "type": kind, "timestamp": at, "eventCategory": "lifecycle",
            "eventLabel": label, "eventData": data, "sandboxId": sandbox, "sandboxExecutionId": execution,
            "sandboxTemplateId": template, "sandboxBuildId": build, "sandboxTeamId": team})
    } else {
        json!({"id": id, "version": "v2", "type": kind, "timestamp": at, "event_category": "lifecycle",
            "event_label": label, "event_data": data, "sandbox_id": sandbox, "sandbox_execution_id": execution,
            "sandbox_template_id": template, "sandbox_build_id": build, "sandbox_team_id": team})
    };
    event.to_string()
}

fn request(host: &str, path: &str, body: &str) -> Bytes {
    let signature = STANDARD_NO_PAD.encode(sha2::Sha256::digest([SECRET.as_bytes(), body.as_bytes()].concat()));
    let length = body.len();
    Bytes::from(format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ne2b-signature: {signature}\r\n\
         e2b-signature-version: v1\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}
