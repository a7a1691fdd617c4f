//! Which registration each sink of the settings has: pure.
//!
//! A sink that has a new name takes over the registration of its old one. All renames of one configuration hold at once, by
//! what was known before, so that two sinks may exchange their names. What the new name stood for before, if anything, is kept
//! like any sink that was taken out, under a name of its own.

use super::SinkStart;
use crate::store::log::notes::SinkRegistration;

/// What [`plan`] comes to.
#[derive(Debug)]
pub(super) struct Plan {
    /// Those that are known, under the names that they have now.
    pub(super) sinks: Vec<SinkRegistration>,
    /// Those that are not.
    pub(super) new: Vec<SinkStart>,
    /// What operators should know, once it is so.
    pub(super) told: Vec<String>,
}

/// `position` tells how far a sink is, `now` is Unix seconds. Fails with what contradicts itself, and what to change.
pub(super) fn plan(
    before: &[SinkRegistration],
    wanted: &[SinkStart],
    now: i64,
    position: impl Fn(&SinkRegistration) -> u64,
) -> Result<Plan, String> {
    let mut plan = Plan { sinks: Vec::new(), new: Vec::new(), told: Vec::new() };
    let renames: Vec<(&SinkStart, &SinkRegistration)> =
        wanted.iter().filter_map(|sink| Some((sink, rename(before, wanted, sink)?))).collect();
    for (sink, old) in &renames {
        if let Some((other, _)) = renames.iter().find(|(other, also)| also == old && other.name != sink.name) {
            let (name, other, old) = (&sink.name, &other.name, &old.name);
            return Err(format!(
                "sinks.{name}.renamed_from and sinks.{other}.renamed_from both name {old}: only one can go on from its position"
            ));
        }
        check(before, wanted, sink, old, &position)?;
    }
    for sink in wanted {
        let renamed = renames.iter().find(|(renamed, _)| renamed.name == sink.name);
        let own = before.iter().find(|known| known.name == sink.name);
        let taken = |known: &&SinkRegistration| renames.iter().any(|(_, old)| old.key() == known.key());
        match (renamed, own) {
            (Some((_, old)), _) => {
                plan.told.push(format!(
                    "sink {} goes on from the position {} that it had under its old name, {}",
                    sink.name,
                    position(old),
                    old.name
                ));
                plan.sinks.push(SinkRegistration { removed_at: None, ..old.renamed(&sink.name) });
            }
            (None, Some(own)) if !taken(&own) => plan.sinks.push(SinkRegistration { removed_at: None, ..own.clone() }),
            _ => plan.new.push(sink.clone()),
        }
    }
    for known in before {
        if plan.sinks.iter().any(|sink| sink.key() == known.key()) {
            continue;
        }
        let mut removed = SinkRegistration { removed_at: known.removed_at.or(Some(now)), ..known.clone() };
        if let Some((sink, old)) = renames.iter().find(|(sink, _)| sink.name == known.name) {
            removed.name = free_name(before, wanted, &plan.sinks, &known.name);
            plan.told.push(format!(
                "sink {}: what had this name before, at position {}, is kept as {} for store.retention; from now on the name \
                 stands for what was {}, at position {}",
                sink.name,
                position(known),
                removed.name,
                old.name,
                position(old)
            ));
        }
        plan.sinks.push(removed);
    }
    Ok(plan)
}

/// The registration that a sink takes over; `None` where it has none to take over, or did so at an earlier start.
fn rename<'a>(before: &'a [SinkRegistration], wanted: &[SinkStart], sink: &SinkStart) -> Option<&'a SinkRegistration> {
    let old_name = sink.renamed_from.as_ref().filter(|old| **old != sink.name)?;
    let old = before.iter().find(|known| known.name == *old_name)?;
    let own = before.iter().find(|known| known.name == sink.name && known.is_attached());
    let is_done = own.is_some_and(|own| own.renamed_from.as_ref() == Some(old_name));
    // Version 0.1.0 left no trace of a rename. There it counted only for names that were new.
    let may_be_done = own.is_some_and(SinkRegistration::is_of_0_1_0);
    let exchanges =
        wanted.iter().any(|other| other.name == *old_name && other.renamed_from.as_ref() == Some(&sink.name));
    (!is_done && (!may_be_done || exchanges && old.is_of_0_1_0())).then_some(old)
}

/// Two sinks that both run cannot become one.
fn check(
    before: &[SinkRegistration],
    wanted: &[SinkStart],
    sink: &SinkStart,
    old: &SinkRegistration,
    position: impl Fn(&SinkRegistration) -> u64,
) -> Result<(), String> {
    let own = before.iter().find(|known| known.name == sink.name && known.is_attached());
    let goes_elsewhere = wanted
        .iter()
        .any(|other| other.renamed_from.as_ref() == Some(&sink.name) && rename(before, wanted, other).is_some());
    let old_stays = old.is_attached()
        && wanted.iter().any(|other| other.name == old.name && rename(before, wanted, other).is_none());
    let contradiction = match own {
        Some(own) if !goes_elsewhere => {
            format!("{} is a sink already, at position {}", own.name, position(own))
        }
        _ if old_stays => format!("{} is still in the settings", old.name),
        _ => return Ok(()),
    };
    Err(format!(
        "sinks.{}.renamed_from names {}, which is at position {}, yet {contradiction}: take renamed_from out, or give the sink a \
         name that is new",
        sink.name,
        old.name,
        position(old),
    ))
}

/// `lake_2` or the next that is free.
fn free_name(before: &[SinkRegistration], wanted: &[SinkStart], planned: &[SinkRegistration], name: &str) -> String {
    let is_free = |candidate: &String| {
        let known = before.iter().chain(planned).any(|sink| sink.name == *candidate);
        !known && wanted.iter().all(|sink| sink.name != *candidate)
    };
    (2u32..).map(|number| format!("{name}_{number}")).find(is_free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Start;
    use super::*;

    fn known(name: &str, removed: bool) -> SinkRegistration {
        SinkRegistration { removed_at: removed.then_some(1), ..SinkRegistration::new(name, 0) }
    }

    fn wanted(name: &str, renamed_from: Option<&str>) -> SinkStart {
        SinkStart { name: name.to_owned(), renamed_from: renamed_from.map(str::to_owned), start: Start::Now }
    }

    fn at_17(_: &SinkRegistration) -> u64 {
        17
    }

    /// What each name stands for afterwards, by the name it had; those that are removed in brackets.
    fn after(before: &[SinkRegistration], wanted: &[SinkStart]) -> Vec<String> {
        let plan = plan(before, wanted, 1, at_17).unwrap();
        let was = |sink: &SinkRegistration| before.iter().find(|known| known.key() == sink.key()).unwrap().name.clone();
        let told = |sink: &SinkRegistration| {
            let mapping = format!("{}={}", sink.name, was(sink));
            if sink.is_attached() { mapping } else { format!("[{mapping}]") }
        };
        let new = plan.new.iter().map(|new| format!("{}=new", new.name));
        plan.sinks.iter().map(told).chain(new).collect()
    }

    #[test]
    fn a_new_name_takes_over_and_is_done_once() {
        let before = [known("b", false)];
        assert_eq!(after(&before, &[wanted("a", Some("b"))]), ["a=b"]);
        let renamed = [before[0].renamed("a"), known("b", false)];
        assert_eq!(after(&renamed, &[wanted("a", Some("b")), wanted("b", None)]), ["a=a", "b=b"]);
        assert_eq!(after(&renamed, &[wanted("a", Some("b"))]), ["a=a", "[b=b]"]);
        assert_eq!(after(&[], &[wanted("a", Some("b"))]), ["a=new"]);
        assert_eq!(after(&[known("b", true)], &[wanted("a", Some("b"))]), ["a=b"]);
    }

    #[test]
    fn what_the_new_name_stood_for_is_kept_under_another() {
        let before = [known("a", true), known("b", false), known("a_2", true)];
        assert_eq!(after(&before, &[wanted("a", Some("b"))]), ["a=b", "[a_3=a]", "[a_2=a_2]"]);
        // A second life of the old name, after it had been renamed once.
        let again = [SinkRegistration { removed_at: Some(1), ..known("b", false).renamed("a") }, known("b", false)];
        assert_eq!(after(&again, &[wanted("a", Some("b"))]), ["a=b", "[a_2=a]"]);
    }

    #[test]
    fn names_are_exchanged_and_handed_on_at_once() {
        let before = [known("a", false), known("b", false), known("c", false)];
        assert_eq!(after(&before[..2], &[wanted("a", Some("b")), wanted("b", Some("a"))]), ["a=b", "b=a"]);
        let on = [wanted("b", Some("a")), wanted("c", Some("b"))];
        assert_eq!(after(&before[..2], &on), ["b=a", "c=b"]);
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_both_positions() {
        let before = [known("a", false), known("b", false)];
        for wanted in [
            vec![wanted("a", Some("b"))],
            vec![wanted("a", Some("b")), wanted("b", None)],
            vec![wanted("c", Some("b")), wanted("b", None)],
            vec![wanted("c", Some("b")), wanted("d", Some("b"))],
        ] {
            let error = plan(&before, &wanted, 1, at_17).unwrap_err();
            assert!(error.contains("renamed_from") && error.contains('b'), "{error}");
        }
        let error = plan(&before, &[wanted("a", Some("b"))], 1, at_17).unwrap_err();
        assert_eq!(error.matches("position 17").count(), 2, "{error}");
    }

    #[test]
    fn what_0_1_0_may_have_renamed_already_stays() {
        let old: Vec<SinkRegistration> =
            serde_json::from_str(r#"[{"name":"a","after":0},{"name":"b","after":0}]"#).unwrap();
        assert_eq!(after(&old, &[wanted("a", Some("b")), wanted("b", None)]), ["a=a", "b=b"]);
        assert_eq!(after(&old[1..], &[wanted("a", Some("b"))]), ["a=b"]);
    }
}
