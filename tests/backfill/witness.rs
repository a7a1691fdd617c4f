//! Failed deliveries as a third witness.

use super::Site;
use crate::simulate::Running;
use e2b_relay::e2b::NewWebhook;
use e2b_relay::simulator::Fault;
use e2b_relay::simulator::provider::Options;
use std::time::Duration;

fn nobody() -> NewWebhook {
    NewWebhook {
        name: "e2b-relay".to_owned(),
        url: "http://127.0.0.1:1/".to_owned(),
        events: ["created", "updated", "paused", "resumed", "checkpointed", "killed"]
            .map(|kind| format!("sandbox.lifecycle.{kind}"))
            .into(),
        enabled: true,
        signature_secret: "a secret of 32 characters or more".to_owned().into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_neither_delivered_nor_listed_is_in_the_log_of_failed_deliveries() {
    let provider =
        Running::start(Options { retries: 1, retry_pause: Duration::from_millis(5), ..Options::default() }).await;
    let (api, _) = crate::e2b::api_at(&provider.base);
    let webhook = api.create_webhook(&nobody()).await.unwrap();
    provider.happen(20, 60).await;
    provider.always(Fault::LostRows);
    provider.happen(230, 60).await;
    let site = Site::new(&provider.base);
    let working = site.work();
    working.until("what is listed is taken", || site.ids().len() == 20).await;
    working.webhook_id.send_replace(Some(webhook.id.clone()));
    working.until("what is not listed is taken", || site.ids().len() == 250).await;
    working.polls(3, "ok").await;
    let (mut taken, mut told) = (site.ids(), provider.told());
    taken.sort();
    told.sort();
    assert_eq!(taken, told, "each once, however many attempts");
    assert_eq!(working.sum("backfill_recovered_total", "acme"), 250.0);
    let by_log = |arrival: &e2b_relay::event::Arrival| {
        arrival.webhook_id.as_ref() == Some(&webhook.id) && arrival.delivery_id.is_some()
    };
    assert_eq!(site.taken.events.lock().unwrap().iter().filter(|(_, arrival)| by_log(arrival)).count(), 230);
    working.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_not_offered_is_asked_for_once() {
    let provider = Running::start(Options::default()).await;
    let mut site = Site::new(&provider.base);
    site.settings.webhook_id = Some("5b7f3a52-6c5e-4f0c-9d3f-1f6f2f7d8c90".to_owned());
    let working = site.work();
    working.polls(5, "ok").await;
    assert_eq!(working.sum("api_requests_total", "code=\"404\",endpoint=\"deliveries\""), 1.0);
    working.end().await;
}
