//! The oracle must be able to say no.

use super::*;

/// Three events of one sandbox and one of another, all acknowledged.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    for (sandbox, id) in [("one", "a"), ("one", "b"), ("two", "x"), ("one", "c")] {
        ledger.note(sandbox, id, Answer::Acknowledged);
    }
    ledger
}

fn copy(id: &str) -> Got {
    let sandbox_id = if id == "x" { "two" } else { "one" }.to_owned();
    Got { id: id.to_owned(), sandbox_id, relay: Stamp { sequence: u64::from(id.as_bytes()[0]) } }
}

fn judged(ids: &str, remains: &Remains, repeats: usize) -> Verdict {
    let got: Vec<Got> = ids.split_terminator(' ').map(copy).collect();
    judge("lake", &got, remains, &ledger(), Terms { repeats, unordered: false })
}

/// The one fault that is found.
fn fault(verdict: &Verdict) -> &str {
    assert_eq!(verdict.faults.len(), 1, "{verdict:?}");
    &verdict.faults[0]
}

#[test]
fn each_once_and_in_order_per_sandbox_is_kept() {
    for ids in ["a b x c", "x a b c", "a b c x"] {
        let verdict = judged(ids, &Remains::default(), 0);
        verdict.assert_kept();
        assert_eq!((verdict.acknowledged, verdict.delivered), (4, 4));
    }
}

#[test]
fn a_lost_record_is_seen_unless_it_is_a_dead_letter_or_pending() {
    let verdict = judged("a b c", &Remains::default(), 0);
    assert_eq!(verdict.lost, 1);
    assert_eq!(fault(&verdict), "x of two was acknowledged and is lost");
    let stays = || HashSet::from(["x".to_owned()]);
    judged("a b c", &Remains { dead_lettered: stays(), ..Remains::default() }, 0).assert_kept();
    judged("a b c", &Remains { pending: stays(), ..Remains::default() }, 0).assert_kept();
}

#[test]
fn a_doubled_record_is_seen_unless_it_is_allowed() {
    let verdict = judged("a b a b x c", &Remains::default(), 1);
    assert_eq!(verdict.doubled, 2);
    assert_eq!(fault(&verdict), "2 copies too many, where 1 may come");
    let allowed = judged("a b a b x c", &Remains::default(), 2);
    allowed.assert_kept();
    assert_eq!(allowed.doubled, 2);
}

#[test]
fn a_reordered_record_is_seen_and_a_repetition_is_none() {
    let verdict = judged("a c b x", &Remains::default(), 9);
    assert_eq!(fault(&verdict), "one is out of order: its record 1 is Some(\"c\"), and Some(\"b\") was sent");
    judged("a b x a b c", &Remains::default(), 9).assert_kept();
    let got: Vec<Got> = ["a", "c", "b", "x"].map(copy).into();
    judge("lake", &got, &Remains::default(), &ledger(), Terms { unordered: true, repeats: 0 }).assert_kept();
}

#[test]
fn a_foreign_record_is_seen_wherever_it_is() {
    assert_eq!(fault(&judged("a b x c z", &Remains::default(), 9)), "z is there, and nobody sent it");
    let remains = Remains { dead_lettered: HashSet::from(["z".to_owned()]), ..Remains::default() };
    assert_eq!(fault(&judged("a b x c", &remains, 9)), "z is there, and nobody sent it");
}

#[test]
fn a_record_of_another_sandbox_is_seen() {
    let mut got: Vec<Got> = ["a", "b", "x", "c"].map(copy).into();
    got[1].sandbox_id = "two".to_owned();
    let verdict = judge("lake", &got, &Remains::default(), &ledger(), Terms::default());
    assert_eq!(verdict.faults.len(), 2, "{verdict:?}");
}

#[test]
fn one_event_has_one_sequence_and_one_sequence_one_event() {
    let mut got: Vec<Got> = ["a", "b", "x", "c", "c"].map(copy).into();
    got[4].relay.sequence = 1_000;
    let terms = Terms { repeats: 9, unordered: false };
    let verdict = judge("lake", &got, &Remains::default(), &ledger(), terms);
    assert_eq!(fault(&verdict), "c was accepted twice, as 99 and as 1000");
    let mut got: Vec<Got> = ["a", "b", "x", "c"].map(copy).into();
    got[3].relay.sequence = got[2].relay.sequence;
    let verdict = judge("lake", &got, &Remains::default(), &ledger(), terms);
    assert_eq!(fault(&verdict), "sequence 120 was given to x and to c");
}

#[test]
fn what_was_rejected_must_not_come_and_what_nobody_answered_may() {
    let mut ledger = ledger();
    ledger.note("two", "forged", Answer::Rejected);
    ledger.note("two", "y", Answer::Unknown);
    let got = |last: &str| {
        ["a", "b", "x", "c", last].map(|id| Got {
            sandbox_id: if ["y", "x", "forged"].contains(&id) { "two" } else { "one" }.to_owned(),
            ..copy(id)
        })
    };
    let verdict = judge("lake", &got("y"), &Remains::default(), &ledger, Terms::default());
    verdict.assert_kept();
    assert_eq!(verdict.unacknowledged, 1);
    judge("lake", &got("y")[..4], &Remains::default(), &ledger, Terms::default()).assert_kept();
    let verdict = judge("lake", &got("forged"), &Remains::default(), &ledger, Terms::default());
    assert_eq!(fault(&verdict), "forged was rejected and is there");
}

#[test]
fn the_best_answer_counts() {
    let mut ledger = Ledger::default();
    ledger.note("one", "a", Answer::Unknown);
    ledger.note("one", "a", Answer::Acknowledged);
    ledger.note("one", "a", Answer::Unknown);
    assert_eq!(ledger.acknowledged(), 1);
    assert_eq!(judge("lake", &[], &Remains::default(), &ledger, Terms::default()).lost, 1);
}
