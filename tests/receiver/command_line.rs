//! The self-hosting guide's test: a delivery by curl, signed by openssl.

use super::harness::{PATH, Relay, SECRET, TEAM};
use serde_json::Value;
use tokio::process::Command;

const SCRIPT: &str = r#"
set -eu
BODY='{"eventCategory":"sandbox","eventLabel":"kill","sandboxId":"sbx_abc123","sandboxTeamId":"'$TEAM'","timestamp":"'$(date -u +%Y-%m-%dT%H:%M:%SZ)'"}'
SIGNATURE=$(printf '%s' "$BODY" | openssl dgst -sha256 -hmac "$E2B_WEBHOOK_SECRET" | sed 's/^.* //')
curl --silent --show-error --noproxy '*' -X POST "$URL" \
  -H 'Content-Type: application/json' -H "X-E2B-Signature: $SIGNATURE" -d "$BODY"
"#;

#[tokio::test]
async fn curl_and_openssl_are_all_that_it_takes() {
    let relay = Relay::start().await;
    let output = Command::new("sh")
        .args(["-c", SCRIPT])
        .env("E2B_WEBHOOK_SECRET", SECRET)
        .env("TEAM", TEAM)
        .env("URL", format!("http://{}{PATH}", relay.address))
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["success"], true, "{answer}");
    let kept = relay.log.kept.lock().unwrap();
    assert_eq!(answer["id"], kept[0].0.id);
    assert_eq!(kept[0].0.kind, "sandbox.lifecycle.killed");
}
