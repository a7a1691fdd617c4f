//! A span of time of which nothing can be known any more: the relay was away for longer than the provider remembers, or
//! its store has lost what nobody has any more.

use super::offer::{Draining, Offer};
use super::saved::{Gap, Reason};
use crate::event::{Event, Origin, Timestamp, gap_id};
use crate::intake::Answer;
use crate::sometimes;
use serde_json::json;
use std::time::Duration;

/// How long the provider keeps events by default (e2b-dev/infra, migration 20260702120000). A plan may have more.
pub(super) const PROVIDER_KEEPS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// `sandbox_id` of what is no sandbox's; templates and partitions need one.
const NO_SANDBOX: &str = "relay";

/// What a walk has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// By the provider's clock, at the walk's start.
    pub(super) now: jiff::Timestamp,
    /// Up to here nothing was missed.
    pub(super) cursor: jiff::Timestamp,
    /// How far the walk went back at most.
    pub(super) floor: jiff::Timestamp,
    /// Of what is listed.
    pub(super) oldest: Option<jiff::Timestamp>,
    /// Nothing older is listed.
    pub(super) list_ended: bool,
}

/// The gap between the cursor and what is listed, if there must be one.
///
/// That the list ends after the cursor says little: perhaps nothing happened. It is a gap only if the provider has had
/// the time to forget.
pub(super) fn find(seen: &Seen) -> Option<Gap> {
    let kept_since = seen.now.checked_sub(PROVIDER_KEEPS).ok()?;
    let reaches_back = seen.oldest.is_some_and(|oldest| oldest <= seen.cursor);
    let forgotten = (seen.list_ended && !reaches_back && seen.cursor < kept_since)
        .then(|| (seen.oldest.map_or(kept_since, |oldest| oldest.min(kept_since)), Reason::ProviderRetention));
    let too_old = (seen.floor > seen.cursor).then_some((seen.floor, Reason::DedupeWindow));
    let (to, reason) = [forgotten, too_old].into_iter().flatten().max_by_key(|(to, _)| *to)?;
    Some(Gap { from: seen.cursor, to, at: seen.now, reason })
}

/// Its record. The id and the day that it is deduped by rest on what was kept, so that it is offered again in vain.
pub(super) fn event(source: &str, team_id: Option<&str>, gap: &Gap) -> Event {
    let (from, timestamp) = (gap.from.to_string(), Timestamp::from(gap.at));
    let id = match gap.reason {
        Reason::ProviderRetention | Reason::DedupeWindow => gap_id(source, &from),
        // Several may begin at one time, and another kind of gap with them.
        Reason::StoreDamaged => gap_id(source, &format!("{from}/{}", gap.to)),
    };
    let mut body = json!({
        "id": id, "type": "relay.gap", "version": "v2", "timestamp": timestamp.as_str(), "event_category": "relay",
        "event_label": "gap", "sandbox_id": NO_SANDBOX,
        "event_data": {"from": gap.from.to_string(), "to": gap.to.to_string(), "reason": gap.reason},
    });
    if let (Some(team_id), Some(body)) = (team_id, body.as_object_mut()) {
        body.insert("sandbox_team_id".to_owned(), team_id.into());
    }
    Event {
        id,
        kind: "relay.gap".to_owned(),
        timestamp,
        sandbox_id: NO_SANDBOX.to_owned(),
        body: body.to_string().into(),
    }
}

/// Makes its record, and tells of it where it is new.
pub(super) async fn report(offer: &Offer, gap: &Gap) -> Result<(), Draining> {
    let source = &offer.source;
    let event = event(source, offer.team_id.as_deref(), gap);
    if offer.one(event, offer.arrival(Origin::Relay)).await? == Answer::Accepted {
        sometimes::happened("a gap that is told");
        let (from, to, reason) = (gap.from, gap.to, gap.reason);
        tracing::error!(%source, %from, %to, ?reason, "what happened between these times can no longer be known");
        offer.metrics.gap(source);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days_ago(days: f64) -> jiff::Timestamp {
        let now: jiff::Timestamp = "2026-08-21T10:00:00Z".parse().unwrap();
        now - Duration::from_secs_f64(days * 86_400.0)
    }

    /// With the floor at the dedupe window of 8 days or the cursor, whichever is later.
    fn found(cursor: f64, oldest: Option<f64>, list_ended: bool) -> Option<(jiff::Timestamp, Reason)> {
        let (now, cursor) = (days_ago(0.0), days_ago(cursor));
        let seen = Seen { now, cursor, floor: cursor.max(days_ago(8.0)), oldest: oldest.map(days_ago), list_ended };
        let gap = find(&seen)?;
        assert_eq!((gap.from, gap.at), (cursor, now));
        Some((gap.to, gap.reason))
    }

    #[test]
    fn a_gap_is_what_the_provider_had_the_time_to_forget() {
        use Reason::{DedupeWindow, ProviderRetention};
        assert_eq!(found(1.0, Some(0.5), true), None, "nothing happened for half a day");
        assert_eq!(found(6.9, None, true), None);
        assert_eq!(
            found(7.5, Some(6.0), true),
            Some((days_ago(7.0), ProviderRetention)),
            "what is left is kept for 7 days"
        );
        assert_eq!(found(7.5, None, true), Some((days_ago(7.0), ProviderRetention)));
        assert_eq!(found(7.5, Some(7.2), true), Some((days_ago(7.2), ProviderRetention)), "kept for longer than usual");
        assert_eq!(found(7.5, Some(7.6), true), None, "the list reaches back behind the cursor");
        assert_eq!(found(7.5, Some(7.6), false), None);
        assert_eq!(found(20.0, Some(6.0), true), Some((days_ago(7.0), ProviderRetention)));
        assert_eq!(found(20.0, Some(8.1), false), Some((days_ago(8.0), DedupeWindow)), "listed, but too old to take");
    }

    #[test]
    fn its_record_is_the_same_however_often_it_is_made_and_can_be_read_back() {
        let gap = Gap { from: days_ago(9.0), to: days_ago(7.0), at: days_ago(0.0), reason: Reason::ProviderRetention };
        let one = event("acme", Some("team"), &gap);
        assert_eq!(one, event("acme", Some("team"), &gap));
        assert_ne!(one.id, event("beta", Some("team"), &gap).id);
        let record = crate::decode::stored(&one).unwrap();
        assert_eq!(record.text("type").as_deref(), Some("relay.gap"));
        let data: serde_json::Value = serde_json::from_str(record.get("event_data").unwrap()).unwrap();
        let expected =
            json!({"from": "2026-08-12T10:00:00Z", "to": "2026-08-14T10:00:00Z", "reason": "provider_retention"});
        assert_eq!(data, expected);
        let damaged = Gap { reason: Reason::StoreDamaged, ..gap.clone() };
        let longer = Gap { to: days_ago(6.0), ..damaged.clone() };
        let ids = [&gap, &damaged, &longer].map(|gap| event("acme", None, gap).id);
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    }
}
