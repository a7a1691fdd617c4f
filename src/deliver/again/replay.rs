//! Events of the past, read from the journal and sent to one sink once more.
//!
//! Only what the sink had passed when it was asked for: what comes later comes by the live road. Its own position is kept
//! after each piece, so that a restart goes on from there, and repeats at most that piece.

use super::send::{Outcome, Stamp};
use super::{Handle, Refused, Road};
use crate::event::Stored;
use crate::executor::Executor;
use crate::route::{REPLAY_HEADER, Types};
use crate::store::Limits;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use uuid::Uuid;

/// What is read, sent and then noted at once.
const PIECE: Limits = Limits { events: 512, bytes: 4 << 20 };
/// The host's clock may have been set back by so much between two events.
const SLACK: SignedDuration = SignedDuration::from_mins(1);
/// Before a disk is asked again.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Which events. What is not said is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ReplayWanted")]
pub struct Wanted {
    /// Received then or later …
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
    /// … and before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub until: Option<Timestamp>,
    /// A glob over the type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of this sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox_id: Option<String>,
    /// Of a higher sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Of no higher one than that. A replay that has begun says it as [`Replay::through`], its own member of that name.
    #[serde(skip)]
    pub through: Option<u64>,
}

/// What a replay has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ReplayTally")]
pub struct Found {
    /// Events that were asked for.
    pub found: u64,
    /// Confirmed by the peer.
    pub sent: u64,
    /// Not wanted by the sink, by its types, sources or filter.
    pub skipped: u64,
    /// Refused by the peer. They are no dead letters: the sink has had them before.
    pub rejected: u64,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ReplayEnd")]
pub struct Ended {
    /// When.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Before it was through, by an operator.
    pub cancelled: bool,
}

/// One replay, under way or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replay {
    /// What its records carry.
    pub id: String,
    /// Which events.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// When it was asked for.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub requested_at: Timestamp,
    /// The last event that it looks at, by its sequence: no later one than the sink had passed when it was asked for.
    pub through: u64,
    /// Every event up to this one is settled.
    pub position: u64,
    /// So far.
    #[serde(flatten)]
    pub found: Found,
    /// Of the last event that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// `None` while it is under way.
    pub ended: Option<Ended>,
}

impl Wanted {
    fn types(&self) -> Result<Types, String> {
        Types::parse(self.kind.as_slice())
    }

    /// Says what makes no sense.
    fn check(&self) -> Result<Types, String> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(format!("since {since} is not before until {until}"));
        }
        let after = self.after.unwrap_or(0);
        if let Some(through) = self.through.filter(|through| after >= *through) {
            return Err(format!("after {after} is not before through {through}"));
        }
        self.types().map_err(|error| format!("type: {error}"))
    }

    fn takes(&self, types: &Types, stored: &Stored) -> bool {
        let at = stored.arrival.received_at;
        self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
            && types.take(&stored.event.kind)
            && self.sandbox_id.as_ref().is_none_or(|id| *id == stored.event.sandbox_id)
    }

    fn is_over(&self, stored: &Stored) -> bool {
        let over =
            |until: Timestamp| until.saturating_add(SLACK).is_ok_and(|until| stored.arrival.received_at >= until);
        self.until.is_some_and(over)
    }
}

impl Handle {
    /// The replay that is under way, or else the last one.
    pub fn replay(&self) -> Option<Replay> {
        self.replay.borrow().clone()
    }

    /// Begins one. It is noted when this returns, and goes on by itself, over restarts.
    pub async fn begin_replay(&self, wanted: Wanted, now: Timestamp) -> Result<Replay, Refused> {
        let _only = self.changing.lock().await;
        if self.replay.borrow().as_ref().is_some_and(|replay| replay.ended.is_none()) {
            return Err(Refused::Busy("a replay to this sink is under way; wait for it, or cancel it"));
        }
        if self.ending.is_requested() {
            return Err(Refused::Ending);
        }
        let replay = self.new_replay(wanted, now)?;
        self.road.keep(&replay).await?;
        tracing::info!(sink = self.road.name, ?replay, "a replay begins");
        self.replay.send_replace(Some(replay.clone()));
        Ok(replay)
    }

    /// Ends the one that is under way; `None` if there is none.
    pub async fn cancel_replay(&self, now: Timestamp) -> Result<Option<Replay>, Refused> {
        let _only = self.changing.lock().await;
        let mut cancelled = None;
        self.replay.send_if_modified(|replay| {
            let Some(replay) = replay.as_mut().filter(|replay| replay.ended.is_none()) else { return false };
            replay.ended = Some(Ended { at: now, cancelled: true });
            cancelled = Some(replay.clone());
            true
        });
        if let Some(replay) = &cancelled {
            self.road.keep(replay).await?;
            tracing::info!(sink = self.road.name, ?replay, "a replay is cancelled");
        }
        Ok(cancelled)
    }

    /// Counts what a replay would send now, and sends nothing.
    pub async fn rehearse(&self, wanted: Wanted, now: Timestamp) -> Result<Found, Refused> {
        let mut replay = self.new_replay(wanted, now)?;
        let mut reading = Reading::new(&self.road, &replay);
        while let Some(piece) = reading.next().await? {
            replay.found.found += piece.events.len() as u64;
            for stored in piece.events {
                let would = match self.road.would_send(stored) {
                    Some(true) => &mut replay.found.sent,
                    Some(false) => &mut replay.found.skipped,
                    None => &mut replay.found.rejected,
                };
                *would += 1;
            }
        }
        Ok(replay.found)
    }

    fn new_replay(&self, wanted: Wanted, now: Timestamp) -> Result<Replay, Refused> {
        wanted.check().map_err(Refused::Invalid)?;
        Ok(Replay::new(wanted, self.road.claim.progress().position, now))
    }

    /// Does what is asked for, one replay after the other, until told to end.
    pub(in crate::deliver) async fn replays(self) {
        let mut ending = self.ending.clone();
        let work = async {
            let mut asked = self.replay.subscribe();
            loop {
                let is_under_way =
                    |replay: &Option<Replay>| replay.as_ref().is_some_and(|replay| replay.ended.is_none());
                let replay = asked.wait_for(is_under_way).await.ok().and_then(|replay| replay.clone());
                let Some(replay) = replay else { return };
                let id = replay.id.clone();
                let is_cancelled =
                    |now: &Option<Replay>| now.as_ref().is_none_or(|now| now.id != id || now.ended.is_some());
                let mut cancelled = self.replay.subscribe();
                tokio::select! {
                    biased;
                    _ = cancelled.wait_for(is_cancelled) => {}
                    () = self.run_replay(replay) => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = ending.requested() => {}
            () = work => {}
        }
    }

    async fn run_replay(&self, mut replay: Replay) {
        let road = &*self.road;
        let stamp = Stamp { header: REPLAY_HEADER, id: replay.id.clone() };
        let mut reading = Reading::new(road, &replay);
        loop {
            match reading.next().await {
                Ok(Some(piece)) => {
                    replay.found.found += piece.events.len() as u64;
                    for (sequence, outcome) in road.send(piece.events, &stamp).await {
                        replay.settle(&road.name, sequence, outcome);
                    }
                    replay.position = piece.through;
                }
                Ok(None) => replay.ended = Some(Ended { at: Timestamp::now(), cancelled: false }),
                Err(error) => {
                    tracing::error!(sink = road.name, %error, "a replay cannot read the journal");
                    tokio::time::sleep(DISK_RETRY).await;
                    reading = Reading::new(road, &replay);
                    continue;
                }
            }
            // So that nobody cancels it between the two.
            let _only = self.changing.lock().await;
            while let Err(error) = road.keep(&replay).await {
                tracing::error!(sink = road.name, %error, "the position of a replay cannot be noted");
                tokio::time::sleep(DISK_RETRY).await;
            }
            self.replay.send_replace(Some(replay.clone()));
            if replay.ended.is_some() {
                tracing::info!(sink = road.name, ?replay, "a replay has ended");
                return;
            }
        }
    }
}

impl Replay {
    /// One that has done nothing yet, to a sink that has passed everything up to `passed`.
    fn new(mut wanted: Wanted, passed: u64, now: Timestamp) -> Self {
        let through = wanted.through.take().map_or(passed, |through| through.min(passed));
        let (id, found) = (Uuid::new_v4().to_string(), Found::default());
        // Nothing before it is asked for, and so nothing of it is left to do.
        let position = wanted.after.unwrap_or(0).min(through);
        Self { id, wanted, requested_at: now, through, position, found, last_error: None, ended: None }
    }

    fn settle(&mut self, sink: &str, sequence: u64, outcome: Outcome) {
        match outcome {
            Outcome::Sent => self.found.sent += 1,
            Outcome::Skipped => self.found.skipped += 1,
            Outcome::Rejected(cause) => {
                tracing::warn!(
                    sink,
                    sequence,
                    reason = cause.reason,
                    error = cause.message,
                    "a replayed record was refused"
                );
                self.found.rejected += 1;
                self.last_error = Some(format!("event {sequence}: {}: {}", cause.reason, cause.message));
            }
        }
    }
}

/// Some events of a replay, and up to where it has then looked.
struct Piece {
    events: Vec<Stored>,
    through: u64,
}

/// Goes through the journal.
struct Reading {
    reader: Option<crate::store::Reader>,
    executor: Executor,
    after: u64,
    wanted: Wanted,
    through: u64,
}

impl Reading {
    fn new(road: &Road, replay: &Replay) -> Self {
        let (log, executor) = (&road.log, road.executor.clone());
        let after = replay.position.max(log.sequence_before(replay.wanted.since));
        Self { reader: Some(log.reader()), executor, after, wanted: replay.wanted.clone(), through: replay.through }
    }

    /// `None` once it is through.
    async fn next(&mut self) -> io::Result<Option<Piece>> {
        let Some(mut reader) = self.reader.take() else { return Ok(None) };
        let after = self.after;
        let read = self.executor.call(move || (reader.read_after(after, PIECE), reader));
        let (read, reader) = read.await.map_err(io::Error::other)?;
        let types = self.wanted.types().map_err(io::Error::other)?;
        let batch = read?;
        self.after = batch.through;
        let mut events: Vec<Stored> = batch.into_events().collect();
        let read = events.len();
        let ours = |stored: &&Stored| stored.sequence <= self.through && !self.wanted.is_over(stored);
        events.truncate(events.iter().take_while(ours).count());
        let Some(last) = events.last().map(|stored| stored.sequence) else { return Ok(None) };
        if events.len() == read {
            self.reader = Some(reader);
        }
        events.retain(|stored| self.wanted.takes(&types, stored));
        Ok(Some(Piece { events, through: last }))
    }
}

impl Road {
    async fn keep(&self, replay: &Replay) -> io::Result<()> {
        let (claim, value) = (self.claim.clone(), serde_json::to_vec(replay)?);
        self.executor.call(move || claim.set_state(value)).await?
    }
}

/// The one that was under way when the daemon ended, or the last one. The store forgets it with the sink, so that another
/// one of its name does not go on with it, and has it go along with one that is renamed.
pub(super) fn recall(road: &Road) -> Option<Replay> {
    serde_json::from_slice(&road.claim.state()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn now() -> Timestamp {
        "2026-08-21T10:00:00Z".parse().unwrap()
    }

    fn between(after: Option<u64>, through: Option<u64>) -> Wanted {
        Wanted { after, through, ..Wanted::default() }
    }

    #[test]
    fn it_goes_from_one_sequence_to_another_and_never_beyond_what_the_sink_has_passed() {
        let span = |after, through| {
            let replay = Replay::new(between(after, through), 100, now());
            (replay.position, replay.through)
        };
        assert_eq!(span(None, None), (0, 100));
        assert_eq!(span(Some(7), None), (7, 100));
        assert_eq!(span(None, Some(20)), (0, 20));
        assert_eq!(span(Some(7), Some(20)), (7, 20));
        assert_eq!(span(Some(7), Some(101)), (7, 100));
        assert_eq!(span(Some(200), Some(300)), (100, 100), "nothing");
        for (after, through) in [(Some(7), Some(7)), (Some(8), Some(7)), (None, Some(0))] {
            assert!(between(after, through).check().is_err(), "{after:?} {through:?}");
        }
        assert!(between(Some(6), Some(7)).check().is_ok());
    }

    #[test]
    fn it_is_read_back_as_it_was_kept_and_one_of_an_older_version_too() {
        let replay = Replay::new(Wanted { kind: Some("*".to_owned()), ..between(Some(7), Some(20)) }, 100, now());
        let kept = serde_json::to_string(&replay).unwrap();
        assert_eq!(kept.matches("\"through\"").count(), 1, "{kept}");
        assert_eq!(serde_json::from_str::<Replay>(&kept).unwrap(), replay);

        // Written by 0.1.0.
        let older = r#"{"id":"b2c0","since":"2026-08-20T10:00:00Z","type":"sandbox.*","requested_at":"2026-08-21T10:00:00Z",
            "through":40,"position":9,"found":9,"sent":8,"skipped":1,"rejected":0,"ended":null}"#;
        let read: Replay = serde_json::from_str(older).unwrap();
        assert_eq!((read.position, read.through, read.wanted.after), (9, 40, None));
        assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::from_str::<Value>(older).unwrap(), "as it was");
    }
}
