//! What strangers chose is shown as what it is.

use super::{TO_A_FILE, figure, home, page, rows};
use crate::support::daemon::{Daemon, reqwest_client};
use crate::support::load::{SECRET, post};
use serde_json::{Value, json};

/// Ends an attribute, an element, a script and a style; turns the direction of writing.
pub(super) const EVIL: &str =
    "\"'><img src=x onerror=alert(1)></script></style><script>alert(2)</script>\u{202e}{{7*7}}";

/// An event whose every text is chosen by somebody hostile.
pub(super) fn event(number: usize, text: &str) -> Value {
    let own =
        |what: &str| format!("{what}{number}{text}").chars().filter(|c| !c.is_control()).take(255).collect::<String>();
    json!({
        "id": own("i"), "version": "v2", "type": if number.is_multiple_of(2) { "sandbox.lifecycle.created".to_owned() } else { own("t") },
        "timestamp": jiff::Timestamp::now().to_string(),
        "event_category": own("c"), "event_label": own("l"), "event_data": {"sandbox_metadata": {text: text}},
        "sandbox_id": own("s"), "sandbox_execution_id": own("e"), "sandbox_template_id": own("m"),
        "sandbox_build_id": own("b"), "sandbox_team_id": "460355b3-4f64-48f9-9a16-4442817f79f5",
    })
}

pub(super) async fn tell(daemon: &Daemon, numbers: std::ops::Range<usize>, text: &str) {
    for number in numbers {
        let answer = post(&reqwest_client(), &daemon.webhook(), SECRET, &event(number, text).to_string()).await;
        assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(200), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_texts_are_escaped_in_every_place() {
    // The filter's message quotes the value.
    let home = home(&TO_A_FILE.replace("ndjson}", "ndjson, filter: 'int(sandbox_template_id) == 4'}"));
    let daemon = home.start().await;
    tell(&daemon, 0..10, EVIL).await;
    daemon.until("they are dead letters", |metrics| metrics.sum("sink_dead_letters", "audit") == 10.0).await;
    daemon.until("they live", |metrics| metrics.sum("sandboxes", "running") == 5.0).await;
    let html = page(&daemon, "/?q=%3Cimg&sort=metadata").await;
    assert_eq!(figure(&html, "sandboxes.shown"), "1–5 of 5");
    let (_, body) = html.split_once("</style>").unwrap();
    assert!(!body.contains("<img") && !body.contains('\u{202e}'), "{body}");
    assert_eq!((body.matches("<script").count(), body.matches("</script").count()), (1, 1));
    for table in ["letters", "sandboxes", "events"] {
        assert!(rows(&html, table).iter().flatten().any(|cell| cell.contains("&lt;img src")), "{table}");
    }
    assert!(body.contains("value=\"&lt;img\""), "what was searched for");
    let stream =
        reqwest_client().get(super::url(&daemon, "/stream")).send().await.unwrap().chunk().await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&stream).contains('\u{202e}'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_stays_small_whatever_is_in_it() {
    let failing = TO_A_FILE.replace("ndjson}", "ndjson, filter: 'int(sandbox_template_id) == 4'}");
    let sinks: Vec<String> =
        (0..30).map(|number| failing.replace(['{', '}'], "").replacen("audit", &format!("a{number}"), 1)).collect();
    let sinks = sinks.iter().enumerate().map(|(number, sink)| {
        let (name, rest) = sink.split_once(": ").unwrap();
        format!("{name}: {{{}}}", rest.replace("audit", &format!("audit{number}")))
    });
    let home = home(&format!("{{{}}}", sinks.collect::<Vec<_>>().join(", ")));
    let daemon = home.start().await;
    tell(&daemon, 0..120, &"<\u{202e}&".repeat(90)).await;
    daemon.until("they live", |metrics| metrics.sum("sandboxes", "running") == 60.0).await;
    daemon.until("they are dead letters", |metrics| metrics.sum("sink_dead_letters", "") == 3_600.0).await;
    // It looks at its size itself.
    let html = page(&daemon, "/").await;
    assert_eq!(rows(&html, "sandboxes").len(), 50);
    let sinks = rows(&html, "sinks");
    assert!(
        sinks.len() >= 10
            && (sinks.len() == 30 || sinks.last().unwrap()[0] == format!("and {} more", 31 - sinks.len()))
    );
    assert!(html.len() > 80_000, "{} bytes: nothing was near its bounds", html.len());
}
