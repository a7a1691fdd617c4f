//! What can go wrong with the simulated E2B, each with the part of the cases that it hits.

use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// One kind of trouble; [`Fault::does`] says which.
#[allow(missing_docs, reason = "`does` is the description, shown by --list-faults too")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    DropDeliveries,
    RepeatDeliveries,
    ReorderDeliveries,
    DelayDeliveries,
    ForgeDeliveries,
    RateLimit,
    RateLimitHtml,
    ServerErrors,
    HtmlErrors,
    SlowReplies,
    TruncatedReplies,
    ShiftingPages,
    LateRows,
    LostRows,
    RepeatedRows,
    EqualTimes,
    WrongClock,
    Crashes,
    MissingSamples,
    OddRows,
    IgnoredOffsets,
    NoEventsApi,
}

impl Fault {
    /// In the order in which they are listed.
    pub const ALL: [Self; 22] = [
        Self::DropDeliveries,
        Self::RepeatDeliveries,
        Self::ReorderDeliveries,
        Self::DelayDeliveries,
        Self::ForgeDeliveries,
        Self::RateLimit,
        Self::RateLimitHtml,
        Self::ServerErrors,
        Self::HtmlErrors,
        Self::SlowReplies,
        Self::TruncatedReplies,
        Self::ShiftingPages,
        Self::LateRows,
        Self::LostRows,
        Self::RepeatedRows,
        Self::EqualTimes,
        Self::WrongClock,
        Self::Crashes,
        Self::MissingSamples,
        Self::OddRows,
        Self::IgnoredOffsets,
        Self::NoEventsApi,
    ];

    /// As the command line spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DropDeliveries => "drop-deliveries",
            Self::RepeatDeliveries => "repeat-deliveries",
            Self::ReorderDeliveries => "reorder-deliveries",
            Self::DelayDeliveries => "delay-deliveries",
            Self::ForgeDeliveries => "forge-deliveries",
            Self::RateLimit => "rate-limit",
            Self::RateLimitHtml => "rate-limit-html",
            Self::ServerErrors => "server-errors",
            Self::HtmlErrors => "html-errors",
            Self::SlowReplies => "slow-replies",
            Self::TruncatedReplies => "truncated-replies",
            Self::ShiftingPages => "shifting-pages",
            Self::LateRows => "late-rows",
            Self::LostRows => "lost-rows",
            Self::RepeatedRows => "repeated-rows",
            Self::EqualTimes => "equal-times",
            Self::WrongClock => "wrong-clock",
            Self::Crashes => "crashes",
            Self::MissingSamples => "missing-samples",
            Self::OddRows => "odd-rows",
            Self::IgnoredOffsets => "ignored-offsets",
            Self::NoEventsApi => "no-events-api",
        }
    }

    /// What it does, and to what.
    pub const fn does(self) -> &'static str {
        match self {
            Self::DropDeliveries => "events that are never delivered",
            Self::RepeatDeliveries => "events that are delivered twice",
            Self::ReorderDeliveries => "events that are delivered after the one that follows",
            Self::DelayDeliveries => "events whose delivery begins late, by up to --delay-by",
            Self::ForgeDeliveries => "events that are delivered with a wrong signature, and only so",
            Self::RateLimit => "API replies that are a 429 with Retry-After and RateLimit headers",
            Self::RateLimitHtml => "API replies that are a load balancer's 429: HTML, no Retry-After",
            Self::ServerErrors => "API replies that are a 500 or a 503 with an error body",
            Self::HtmlErrors => "API replies that are a load balancer's 502 or 504: HTML",
            Self::SlowReplies => "API replies that are held back for --slow-by",
            Self::TruncatedReplies => "API replies that end half-way: as cut JSON, or as a broken connection",
            Self::ShiftingPages => {
                "pages of the event list before which an event happens, and equal times change places"
            }
            Self::LateRows => "events that are listed late, by up to --late-by",
            Self::LostRows => "events that are delivered and never listed",
            Self::RepeatedRows => "events that are listed twice",
            Self::EqualTimes => "events with the very time of the one before",
            Self::WrongClock => "sandboxes on a node whose clock, of events and samples, is off by --wrong-clock-by",
            Self::Crashes => "events before which a running sandbox is gone without a word",
            Self::MissingSamples => "samples that were never taken",
            Self::OddRows => "sandboxes whose rows, listed or of samples, are null, lack members or have other types",
            Self::IgnoredOffsets => {
                "pages of the event list that begin with the newest event, whatever offset was asked"
            }
            Self::NoEventsApi => "replies under /events that are a 404, as where it is not offered; use 1",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

/// How often each fault occurs; shared, so that it can be changed while the simulation runs.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<RwLock<BTreeMap<Fault, f64>>>);

impl Faults {
    /// `part` from 0 to 1; anything else is refused.
    pub fn set(&self, fault: Fault, part: f64) -> Result<(), &'static str> {
        if !(0.0..=1.0).contains(&part) {
            return Err("must be from 0 to 1");
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(fault, part);
        Ok(())
    }

    /// From 0 to 1.
    pub fn part(&self, fault: Fault) -> f64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&fault).copied().unwrap_or(0.0)
    }

    /// Draws whether it occurs. Draws even where it never does, so that a seed's story is the same with another fault.
    pub(super) fn strikes(&self, fault: Fault, random: &mut Rng) -> bool {
        random.f64() < self.part(fault)
    }

    /// Decides by `number`, any hash: the same thing is always hit, or never.
    pub(super) fn marks(&self, fault: Fault, number: u64) -> bool {
        Rng::with_seed(number).f64() < self.part(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
        assert!(Fault::ALL.iter().all(|fault| Fault::named(fault.name()) == Some(*fault)));
        assert_eq!(Fault::named("none-such"), None);
    }

    #[test]
    fn a_part_is_the_part_that_is_hit() {
        let faults = Faults::default();
        let mut random = Rng::with_seed(1);
        let mut hits = |faults: &Faults| (0..10_000).filter(|_| faults.strikes(Fault::Crashes, &mut random)).count();
        assert_eq!(hits(&faults), 0);
        faults.set(Fault::Crashes, 0.3).expect("a part");
        assert!((2800..3200).contains(&hits(&faults)));
        let marked = (0..10_000).filter(|number| faults.marks(Fault::Crashes, *number)).count();
        assert!((2800..3200).contains(&marked), "{marked}");
        for part in [-0.1, 1.1, f64::NAN] {
            assert!(faults.set(Fault::Crashes, part).is_err());
        }
    }
}
