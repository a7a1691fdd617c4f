//! A sink that was forgotten is new when it comes back, whatever happens right after the answer.

use super::{SECRET, deliver, ids, reload};
use crate::admin::{asking, run};
use crate::relay::sinks::until_caught_up;
use crate::support::daemon::Home;

const ROUNDS: usize = 5;
const PATH: &str = "/webhooks/e2b";

fn with(sinks: &str) -> String {
    format!(
        "sources: {{acme: {{webhook: {{secrets: [{SECRET}]}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}{sinks}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_right_after_the_answer_does_not_bring_its_position_back() {
    for round in 0..ROUNDS {
        let (without, back) = (with(""), with(", gone: {type: file, path: ./gone.ndjson, start: now}"));
        let home = Home::new(&back);
        let daemon = home.start().await;
        assert_eq!(deliver(&daemon, PATH, SECRET, "had").await, 200);
        for sink in ["audit", "gone"] {
            daemon.until_settled(sink, 1).await;
        }
        home.configure(&without);
        assert_eq!(reload(&daemon).await.1, ["gone"]);
        for number in 0..5 {
            assert_eq!(deliver(&daemon, PATH, SECRET, &format!("while-it-was-gone-{number}")).await, 200);
        }
        daemon.until_settled("audit", 6).await;
        let forgotten = run(asking(&home, &daemon, &["sinks", "forget", "gone"])).await;
        assert_eq!(forgotten.code, Some(0), "{forgotten:?}");
        daemon.kill().await;
        home.configure(&back);
        let daemon = home.start().await;
        assert_eq!(deliver(&daemon, PATH, SECRET, "new").await, 200);
        daemon.until("the sink has had the new one", |metrics| metrics.settled("gone") >= 1).await;
        until_caught_up(&daemon, "gone").await;
        assert!(daemon.terminate().await.success());
        assert_eq!(ids(home.path().join("gone.ndjson")), ["had", "new"], "round {round}");
    }
}
