//! An answer that comes bit by bit.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use e2b_relay::http::{Listener, Settings};
use e2b_relay::metrics::Metrics;
use e2b_relay::shutdown;
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;

#[tokio::test]
async fn a_connection_is_not_idle_while_an_answer_is_being_told() {
    const LIMIT: Duration = Duration::from_millis(200);
    let slow = || async {
        Body::from_stream(stream::unfold(0, async |told| {
            tokio::time::sleep(LIMIT).await;
            (told < 5).then(|| (Ok::<_, Infallible>(Bytes::from(format!("{told}\n"))), told + 1))
        }))
    };
    let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), request_timeout: LIMIT, ..Settings::default() };
    let listener = Listener::bind(&settings, None, &Metrics::new("0", "0").unwrap()).await.unwrap();
    let address = listener.address();
    let (_trigger, shutdown) = shutdown::channel();
    tokio::spawn(listener.serve(Router::new().route("/", get(slow)), shutdown));
    let reply = crate::support::daemon::reqwest_client().get(format!("http://{address}/")).send().await.unwrap();
    assert_eq!(reply.text().await.unwrap(), "0\n1\n2\n3\n4\n");
}
