//! Durations that may not be 0 and belong to no other check: of a sink's broker and its stream.

use super::Findings;
use crate::settings::problem::KeyPath;
use crate::settings::{Settings, SinkKind};
use std::time::Duration;

pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    for (name, sink) in &settings.sinks {
        let here = KeyPath::of(["sinks", name]);
        let mut broker = |connect: Duration, ack: Duration, defaults: [&str; 2]| {
            let keys = [("connect_timeout", connect), ("ack_timeout", ack)];
            for ((key, time), default) in keys.into_iter().zip(defaults) {
                if time.is_zero() {
                    let message = "is 0, so that the broker would always be too late";
                    findings.error(&here.key(key), message, format!("the default is {default}"));
                }
            }
        };
        match &sink.kind {
            SinkKind::Nats(nats) => {
                broker(nats.connect_timeout, nats.ack_timeout, ["5s", "5s"]);
                let stream = nats.stream.as_ref().filter(|stream| stream.duplicate_window.is_zero());
                if stream.is_some() {
                    let message = "is 0, for which the server would take its own default";
                    findings.error(&here.key("stream").key("duplicate_window"), message, "the default is 2m");
                }
            }
            SinkKind::Amqp(amqp) => broker(amqp.connect_timeout, amqp.ack_timeout, ["10s", "30s"]),
            SinkKind::Kafka(_) | SinkKind::File(_) | SinkKind::Stdout(_) => {}
        }
    }
}
