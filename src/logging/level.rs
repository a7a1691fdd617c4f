//! How much is said, and that this can change while the process runs.

use super::foreign::OURS;
use std::sync::OnceLock;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload::Handle;

/// What says how much, once somebody does.
static SAID: OnceLock<Handle<Targets, Registry>> = OnceLock::new();

/// Which events are written at that level.
///
/// Libraries are held at `info`: some of them write credentials at `trace`. Left out altogether is what lapin says of
/// returned messages, with their bodies, and of channels that the broker closes: the sink reports both itself.
pub(super) fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(OURS, level)
        .with_target("lapin::returned_messages", LevelFilter::OFF)
        .with_target("lapin::channel", LevelFilter::OFF)
}

pub(super) fn can_change(handle: Handle<Targets, Registry>) {
    // A second one is refused with the second logger.
    let _ = SAID.set(handle);
}

/// How much is said now; `None` where nothing was set up.
pub fn level() -> Option<LevelFilter> {
    let level = SAID.get()?.with_current(|targets| {
        let ours = targets.iter().find(|(target, _)| *target == OURS);
        ours.map(|(_, level)| level)
    });
    level.ok().flatten()
}

/// Says that much from now on, until the process ends. `false` where nothing was set up.
pub fn set_level(level: LevelFilter) -> bool {
    SAID.get().is_some_and(|handle| handle.reload(targets(level)).is_ok())
}
