//! The set against stories that go wrong in the provider's own ways.

use super::data::Data;
use super::set::{Set, State, Wants};
use super::{Ended, Reason, Usage, Verdict};
use crate::e2b::ListedSandbox;
use crate::event::{Arrival, Event, Origin, Stored, Timestamp};
use jiff::SignedDuration;
use serde_json::{Value, json};

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_780_000_000 + second).unwrap()
}

fn set() -> Set {
    let mut set = Set::new(0, at(0));
    set.wants =
        Wants { usage: true, verify_kills: true, emit: true, grace: SignedDuration::from_secs(120), metrics: false };
    set
}

/// An event of sandbox `s`, received one second later.
fn tell(set: &mut Set, kind: &str, second: i64, execution: &str, data: Value) {
    tell_at(set, kind, second, second + 1, execution, data);
}

fn tell_at(set: &mut Set, kind: &str, second: i64, received: i64, execution: &str, data: Value) {
    let stored = stored(kind, second, received, execution, data);
    set.apply(&Stored { sequence: set.applied + 1, ..stored });
}

/// A sample where the type is `metrics`.
fn stored(kind: &str, second: i64, received: i64, execution: &str, data: Value) -> Stored {
    let timestamp = at(second).to_string();
    let id = format!("{kind}-{second}-{execution}");
    let (kind, origin) = match kind {
        "metrics" => ("sandbox.metrics".to_owned(), Origin::Metrics),
        _ => (format!("sandbox.lifecycle.{kind}"), Origin::Webhook),
    };
    let body = json!({
        "id": id, "type": kind, "version": "v2", "timestamp": timestamp, "sandbox_id": "s", "event_data": data,
        "sandbox_execution_id": execution, "sandbox_template_id": "t",
    });
    let event = Event {
        id,
        kind,
        timestamp: Timestamp::parse(&timestamp).unwrap(),
        sandbox_id: "s".to_owned(),
        body: body.to_string().into(),
    };
    let arrival =
        Arrival { source: "acme".into(), origin, received_at: at(received), webhook_id: None, delivery_id: None };
    Stored { sequence: 0, arrival, event }
}

fn listed(state: &str, started: i64) -> ListedSandbox {
    serde_json::from_value(json!({
        "sandboxID": "s", "templateID": "t", "startedAt": at(started).to_string(), "endAt": at(started + 300).to_string(),
        "state": state, "cpuCount": 2, "memoryMB": 512,
    }))
    .unwrap()
}

fn state(set: &Set) -> Option<State> {
    set.sandboxes.get("s").map(|sandbox| sandbox.state)
}

fn told_states(set: &mut Set, second: i64) -> Vec<&'static str> {
    set.untold(at(second)).iter().map(|untold| untold.state).collect()
}

/// Reason, basis, start and end of each usage that is due long after everything.
fn usages(set: &Set) -> Vec<(Reason, &'static str, i64, i64)> {
    let seconds = |time: jiff::Timestamp| time.duration_since(at(0)).as_secs();
    let tell = |ended: Ended| {
        let due = ended.due()?;
        Some((ended.reason, due.basis, seconds(due.started_at), seconds(ended.ended_at)))
    };
    set.due(at(100_000)).into_iter().filter_map(tell).collect()
}

#[test]
fn a_life_in_order() {
    let mut set = set();
    tell(&mut set, "created", 10, "e1", json!({"sandbox_metadata": {"a": "b"}}));
    let sandbox = &set.sandboxes["s"];
    assert_eq!(
        (sandbox.created_at, sandbox.state, &sandbox.metadata),
        (Some(at(10)), State::Running, &Data::of(r#"{"a":"b"}"#))
    );
    tell(&mut set, "updated", 20, "e1", json!({"set_timeout": at(900).to_string()}));
    assert_eq!(set.sandboxes["s"].ends_at, Some(at(900)));
    tell(&mut set, "updated", 21, "e1", json!({"set_timeout": 60}));
    assert_eq!(set.sandboxes["s"].ends_at, Some(at(81)), "seconds, as clones have it");
    tell(&mut set, "paused", 30, "e1", json!({}));
    assert_eq!((state(&set), set.counts()), (Some(State::Paused), [0, 1, 0]));
    tell(&mut set, "resumed", 40, "e2", json!({}));
    assert_eq!((state(&set), set.counts()), (Some(State::Running), [1, 0, 0]));
    let execution =
        json!({"started_at": at(41).to_string(), "vcpu_count": 2, "memory_mb": 512, "execution_time": 8000});
    tell(&mut set, "killed", 50, "e2", json!({"execution": execution}));
    assert_eq!((state(&set), set.kills.len()), (None, 1));
    assert_eq!(usages(&set), [(Reason::Paused, "events", 10, 30), (Reason::Killed, "execution", 41, 50)]);
}

#[test]
fn the_order_of_arrival_is_not_the_order_of_life() {
    let story = [
        ("created", 10, "e1"),
        ("updated", 12, "e1"),
        ("paused", 20, "e1"),
        ("resumed", 30, "e2"),
        ("killed", 40, "e2"),
    ];
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..500 {
        let length = random.usize(1..=story.len());
        let mut told = story[..length].to_vec();
        random.shuffle(&mut told);
        let mut set = set();
        for (place, (kind, second, execution)) in told.iter().enumerate() {
            tell_at(&mut set, kind, *second, 50 + place as i64, execution, json!({}));
        }
        let expected = [Some(State::Running), Some(State::Running), Some(State::Paused), Some(State::Running), None];
        assert_eq!(state(&set), expected[length - 1], "{told:?}");
    }
}

#[test]
fn each_execution_has_one_usage_in_whatever_order_its_sandbox_s_events_come() {
    let story = [
        ("created", 10, "e1"),
        ("paused", 20, "e1"),
        ("resumed", 30, "e2"),
        ("paused", 40, "e2"),
        ("resumed", 50, "e3"),
        ("updated", 55, "e3"),
        ("killed", 60, "e3"),
    ];
    let mut random = fastrand::Rng::with_seed(6);
    for _ in 0..3000 {
        let mut told = story[..random.usize(1..=story.len())].to_vec();
        random.shuffle(&mut told);
        let mut set = set();
        for (place, (kind, second, execution)) in told.iter().enumerate() {
            let ran = json!({"started_at": at(second - 10).to_string(), "vcpu_count": 2, "memory_mb": 512,
                "execution_time": 10_000});
            let data = if ["paused", "killed"].contains(kind) { json!({"execution": ran}) } else { json!({}) };
            tell_at(&mut set, kind, *second, 70 + place as i64, execution, data);
        }
        let mut ended: Vec<(String, Reason)> =
            set.due(at(100_000)).into_iter().map(|ended| (ended.execution.id.unwrap(), ended.reason)).collect();
        ended.sort_by(|a, b| a.0.cmp(&b.0));
        let mut expected: Vec<(String, Reason)> = told
            .iter()
            .filter_map(|(kind, _, execution)| match *kind {
                "paused" => Some((execution.to_string(), Reason::Paused)),
                "killed" => Some((execution.to_string(), Reason::Killed)),
                _ => None,
            })
            .collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(ended, expected, "{told:?}");
    }
}

#[test]
fn what_the_list_alone_knows_is_told_after_the_grace_and_only_then() {
    let mut set = set();
    set.listed(&listed("running", 5), at(100), at(101));
    assert_eq!((state(&set), told_states(&mut set, 220)), (Some(State::Running), vec![]));
    let untold = set.untold(at(222));
    assert_eq!((untold[0].state, untold[0].started_at.as_str()), ("running", at(5).to_string().as_str()));
    set.told(&untold[0], at(222));
    assert!(told_states(&mut set, 10_000).is_empty(), "once");
    // An event that comes late explains another.
    let mut set = self::set();
    set.listed(&listed("running", 5), at(100), at(101));
    tell_at(&mut set, "created", 4, 130, "e1", json!({}));
    assert!(set.sandboxes["s"].created_at.is_some());
    tell_at(&mut set, "updated", 140, 141, "e1", json!({}));
    assert!(told_states(&mut set, 10_000).is_empty());
}

#[test]
fn a_crash_is_noticed_and_a_late_event_still_explains_it() {
    let mut set = set();
    tell(&mut set, "created", 10, "e1", json!({}));
    set.listed(&listed("running", 11), at(60), at(61));
    assert_eq!(set.unlisted(|_| false, at(100)), ["s"]);
    assert!(set.unlisted(|_| false, at(12)).is_empty(), "it may be newer than the list");
    set.missing("s", at(100), at(101));
    assert_eq!((state(&set), set.counts()), (Some(State::Missing), [0, 0, 1]));
    let mut explained = serde_json::from_slice::<Set>(&serde_json::to_vec(&set).unwrap()).unwrap();
    explained.wants = set.wants;
    tell_at(&mut explained, "updated", 80, 105, "e1", json!({}));
    assert_eq!(state(&explained), Some(State::Missing), "older than its end");
    tell_at(&mut explained, "killed", 90, 110, "e1", json!({}));
    assert_eq!((state(&explained), told_states(&mut explained, 10_000)), (None, vec![]));
    assert_eq!(usages(&explained), [(Reason::Killed, "events", 10, 90)]);

    assert!(set.due(at(200)).is_empty(), "an event may still come");
    let untold = set.untold(at(222));
    assert_eq!(untold.iter().map(|untold| untold.state).collect::<Vec<_>>(), ["gone"]);
    set.told(&untold[0], at(222));
    assert_eq!(state(&set), None);
    assert_eq!(usages(&set), [(Reason::Vanished, "reconcile", 10, 60)], "it was seen to run at 60");
    tell_at(&mut set, "updated", 80, 300, "e1", json!({}));
    tell_at(&mut set, "killed", 90, 301, "e1", json!({}));
    assert_eq!((state(&set), usages(&set).len()), (None, 1), "too late to change anything");
}

#[test]
fn a_paused_sandbox_goes_without_a_word_and_a_missed_resume_is_seen() {
    let mut set = set();
    tell(&mut set, "created", 10, "e1", json!({}));
    tell(&mut set, "paused", 20, "e1", json!({}));
    set.listed(&listed("paused", 10), at(100), at(101));
    assert!(told_states(&mut set, 10_000).is_empty());
    set.listed(&listed("running", 150), at(200), at(201));
    assert_eq!((state(&set), told_states(&mut set, 400)), (Some(State::Running), vec!["running"]));
    set.listed(&listed("paused", 150), at(500), at(501));
    assert_eq!(told_states(&mut set, 700), ["paused"]);
    assert_eq!(usages(&set), [(Reason::Paused, "events", 10, 20), (Reason::Vanished, "reconcile", 150, 200)]);
    set.missing("s", at(800), at(801));
    assert_eq!(told_states(&mut set, 1000), ["gone"]);
}

#[test]
fn a_list_that_was_read_before_the_event_changes_nothing() {
    let mut set = set();
    tell(&mut set, "created", 10, "e1", json!({}));
    tell(&mut set, "paused", 20, "e1", json!({}));
    set.listed(&listed("running", 10), at(22), at(23));
    assert_eq!(state(&set), Some(State::Paused));
    tell(&mut set, "killed", 30, "e1", json!({}));
    set.listed(&listed("paused", 10), at(32), at(33));
    assert_eq!(state(&set), None);
}

fn usage(second: i64, cpu_used_pct: f64) -> Usage {
    Usage {
        time: 1_780_000_000 + second,
        cpu_used_pct,
        mem_used: second * 100,
        mem_total: 1 << 20,
        disk_used: 7,
        disk_total: second % 2,
    }
}

#[test]
fn samples_count_once_for_the_execution_they_were_taken_in() {
    let mut set = set();
    set.wants.metrics = true;
    tell(&mut set, "created", 10, "e1", json!({}));
    let judge = |set: &mut Set, second: i64| set.judge("s", 1_780_000_000 + second);
    assert_eq!(judge(&mut set, 9), Verdict::Known, "of an earlier stretch");
    assert_eq!(judge(&mut set, 12), Verdict::New);
    set.sampled("s", &usage(12, 10.0));
    set.sampled("s", &usage(12, 99.0));
    assert_eq!(judge(&mut set, 12), Verdict::Known);
    assert_eq!(judge(&mut set, 27), Verdict::New);
    assert_eq!(judge(&mut set, 28), Verdict::Gap { after: 1_780_000_012, known: Some(1_780_000_012) });
    set.sampled("s", &usage(17, 20.0));
    tell(&mut set, "paused", 25, "e1", json!({}));
    assert!(set.due(at(27)).is_empty(), "its last samples are to come");
    assert!(set.wanted(at(27)).is_empty());
    let wanted = set.wanted(at(36));
    assert_eq!((wanted.len(), wanted[0].running), (1, false));
    assert_eq!(judge(&mut set, 22), Verdict::New);
    set.sampled("s", &usage(22, 60.0));
    assert_eq!(judge(&mut set, 26), Verdict::Known, "after its end");
    set.measured_out("s", at(36));
    let due = set.due(at(37));
    let measured = &due[0].execution.measured;
    assert_eq!((measured.samples, measured.cpu(), measured.memory()), (3, Some((60.0, 30.0)), Some((2200, 1700))));
    assert_eq!(measured.disk(), Some((7, 7)), "0 is no disk");
    let id = crate::event::usage_id("e1");
    set.usage_told("s", Some(&id));
    assert!(set.ended.is_empty());
}

#[test]
fn a_sandbox_too_many_takes_the_place_of_the_most_silent() {
    let mut set = set();
    for number in 0..super::MAX_SANDBOXES as i64 + 2 {
        let mut one = listed("running", number);
        one.id = format!("s{number}");
        set.listed(&one, at(number), at(number));
    }
    assert_eq!((set.sandboxes.len(), set.take_dropped()), (super::MAX_SANDBOXES, 2));
    assert!(!set.sandboxes.contains_key("s0") && set.sandboxes.contains_key("s2"));
}

#[test]
fn a_kept_set_and_the_journal_behind_it_are_the_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sandboxes/acme.json");
    assert!(super::snapshot::load(&file).is_none());
    let sample =
        |second: i64| json!({"cpu_used_pct": second as f64 / 3.0, "mem_used": second, "disk_used": 1, "disk_total": 2});
    let mut journal = vec![stored("created", 10, 11, "e1", json!({"sandbox_metadata": {"a": "b"}}))];
    journal.extend((11..30).map(|second| stored("metrics", second, second, "e1", sample(second))));
    journal.push(stored("paused", 30, 31, "e1", json!({})));
    journal.push(stored("resumed", 40, 41, "e2", json!({})));
    journal.extend((41..50).map(|second| stored("metrics", second, second, "e2", sample(second))));
    let journal: Vec<Stored> = (1..).zip(journal).map(|(sequence, stored)| Stored { sequence, ..stored }).collect();
    let text = |set: &Set| String::from_utf8(super::snapshot::encode(set).unwrap()).unwrap();
    let mut whole = set();
    journal.iter().for_each(|stored| whole.apply(stored));
    assert_eq!(whole.ended[0].execution.measured.samples, 19);
    for kept in 0..=journal.len() {
        let mut set = set();
        journal[..kept].iter().for_each(|stored| set.apply(stored));
        // The scraper counts a sample before the journal is read up to it.
        if let Some(next) = journal.get(kept).filter(|next| next.event.kind == "sandbox.metrics") {
            let second = next.event.timestamp.instant().duration_since(at(0)).as_secs();
            let usage = Usage {
                cpu_used_pct: second as f64 / 3.0,
                mem_used: second,
                disk_used: 1,
                disk_total: 2,
                ..usage(second, 0.0)
            };
            set.sampled("s", &usage);
        }
        super::snapshot::save(&file, &super::snapshot::encode(&set).unwrap()).unwrap();
        let mut again = super::snapshot::load(&file).unwrap();
        again.wants = set.wants;
        journal.iter().for_each(|stored| again.apply(stored));
        assert_eq!(text(&again), text(&whole), "kept after {kept}");
    }
    std::fs::write(&file, "{\"format\":1,\"set\":{").unwrap();
    assert!(super::snapshot::load(&file).is_none(), "what is damaged is made anew");
}
