//! The yardstick: axum, the signature over the raw body, an answer like the relay's, and nothing else.

use crate::SECRET;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use e2b_relay::secret::Secret;
use e2b_relay::verify::{Accept, Presented, Verifier};
use std::sync::Arc;

/// Prints its address and serves until it is killed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let verifier = Arc::new(Verifier::new(&[Secret::from(SECRET.to_owned())], Accept::Auto));
    let router = axum::Router::new().route("/webhooks/e2b", post(handle)).with_state(verifier);
    Ok(axum::serve(listener, router).await?)
}

async fn handle(State(verifier): State<Arc<Verifier>>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    let values = |name: &str| headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    let presented = Presented {
        e2b_signature: values("e2b-signature"),
        e2b_signature_version: values("e2b-signature-version"),
        x_e2b_signature: values("x-e2b-signature"),
    };
    match verifier.verify(&presented, body) {
        Ok(_) => (StatusCode::OK, r#"{"success": true, "id": "00000000-0000-0000-0000-000000000000"}"#),
        Err(_) => (StatusCode::UNAUTHORIZED, r#"{"success": false}"#),
    }
}
