//! The files that settings name, and where files are written: what only this machine's disk tells. The daemon looks at it,
//! and `check`; a command that asks a running daemon may not be allowed to read its keys.

use super::Findings;
use crate::certificate::Unusable;
use crate::settings::problem::{KeyPath, Problem};
use crate::settings::{Settings, SinkKind};
use crate::sink::file::{self, Shared};

pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    if let Some(tls) = &settings.server.tls
        && let Err(Unusable { key, message }) = tls.check()
    {
        findings.errors.push(Problem::new(&KeyPath::of(["server", "tls", key]), message));
    }
    for (name, sink) in &settings.sinks {
        let checked = match &sink.kind {
            SinkKind::Kafka(kafka) => kafka.check_files(),
            SinkKind::Nats(nats) => nats.check_files(),
            SinkKind::Amqp(amqp) => amqp.check_files(),
            SinkKind::File(file) => file.check_place(&settings.store.path),
            SinkKind::Stdout(_) => Ok(()),
        };
        findings.accept(&KeyPath::of(["sinks", name]), checked);
    }
    one_sink_each(settings, findings);
}

fn one_sink_each(settings: &Settings, findings: &mut Findings) {
    let file = |kind: &SinkKind| -> Option<file::Settings> {
        match kind {
            SinkKind::File(file) => Some(file.clone()),
            SinkKind::Kafka(_) | SinkKind::Nats(_) | SinkKind::Amqp(_) | SinkKind::Stdout(_) => None,
        }
    };
    let files: Vec<_> = settings.sinks.iter().filter_map(|(name, sink)| Some((name, file(&sink.kind)?))).collect();
    for (place, (name, file)) in files.iter().enumerate() {
        for (before, (other, others)) in files.iter().enumerate().filter(|(before, _)| *before != place) {
            let path = file.path.display();
            let message = match others.shares(file) {
                Some(Shared::File) if before < place => format!("{path} is the file of sink `{other}` too"),
                Some(Shared::Rotated) => format!("{path} is a name that sink `{other}` gives to a rotated file"),
                Some(Shared::File) | None => continue,
            };
            findings.error(&KeyPath::of(["sinks", name, "path"]), message, "give each sink its own file");
        }
    }
}
