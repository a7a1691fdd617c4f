use super::*;
use crate::route::fixture::Fixture;
use proptest::prelude::*;

fn ask(filter: &str, event_data: &str) -> Result<Verdict, FilterFault> {
    let fixture = Fixture::new(event_data);
    Filter::parse(filter).expect(filter).matches(&fixture.view())
}

const PROD: &str = r#"{"sandbox_metadata":{"env":"prod"},"kill_reason":"timeout","list":["a","b"],"empty":[],
    "nil":null,"flag":true,"execution":{"vcpu_count":2,"execution_time":180000,"ratio":0.5,"big":18446744073709551615}}"#;

#[test]
fn a_sum_without_end_is_refused_before_it_overflows_the_stack() {
    let sum = |terms: usize| format!("1{} == {}", " + 1".repeat(terms), terms + 1);
    assert_eq!(ask(&sum(64), "{}"), Ok(Verdict::Match));
    for terms in [65, 2_000] {
        assert!(matches!(Filter::parse(&sum(terms)), Err(FilterError::Unsuitable(_))), "{terms}");
    }
    // Signs within quotes are none.
    let ids: Vec<String> = (0..40).map(|n| format!("'f5911677-cb60-498f-{n}'")).collect();
    assert_eq!(ask(&format!("id in [{}]", ids.join(", ")), "{}"), Ok(Verdict::NoMatch));
}

#[test]
fn a_filter_reads_any_field_of_the_record() {
    for (filter, expected) in [
        (r#"event_data.sandbox_metadata.env == "prod""#, Verdict::Match),
        (r#"event_data.sandbox_metadata.env == "dev""#, Verdict::NoMatch),
        (r#"type == "sandbox.lifecycle.killed" && relay.source == "acme""#, Verdict::Match),
        (r#"type.startsWith("sandbox.") && relay.sequence > 4000"#, Verdict::Match),
        (r#"type.endsWith("created")"#, Verdict::NoMatch),
        (r#"event_data.sandbox_metadata.env in ["prod", "stage"]"#, Verdict::Match),
        (r#"event_data["sandbox_metadata"]["env"].matches("^pr.d$")"#, Verdict::Match),
        ("event_data.execution.execution_time > 60000", Verdict::Match),
        ("event_data.execution.execution_time > 60000.5", Verdict::Match),
        ("event_data.execution.vcpu_count + 1 == 3", Verdict::Match),
        ("event_data.execution.ratio * 2.0 == 1.0", Verdict::Match),
        ("event_data.execution.big > 1", Verdict::Match),
        ("event_data.flag", Verdict::Match),
        ("!event_data.flag", Verdict::NoMatch),
        (r#"event_data.list.exists(x, x == "b")"#, Verdict::Match),
        (r#"event_data.list.all(x, x == "b")"#, Verdict::NoMatch),
        ("size(event_data.list) == 2", Verdict::Match),
        (r#"timestamp(timestamp).getFullYear() == 2025"#, Verdict::Match),
        (r#"event_data.flag ? version == "v2" : false"#, Verdict::Match),
        ("true", Verdict::Match),
    ] {
        assert_eq!(ask(filter, PROD), Ok(expected), "{filter}");
    }
}

#[test]
fn a_key_that_is_absent_or_null_does_not_match_and_is_told_apart() {
    let filter = r#"event_data.sandbox_metadata.env == "prod""#;
    for event_data in ["null", "{}", r#"{"sandbox_metadata":null}"#, r#"{"sandbox_metadata":{}}"#] {
        assert_eq!(ask(filter, event_data), Ok(Verdict::Absent), "{event_data}");
    }
    let without_event_data = Fixture::with("t", "s", &[]);
    assert_eq!(Filter::parse(filter).expect("valid").matches(&without_event_data.view()), Ok(Verdict::Absent));
    for filter in [
        "event_data.nil.deeper == 1",
        "event_data.nil < 3",
        "3 < event_data.nil",
        "event_data.nil + 1 == 2",
        "size(event_data.nil) == 0",
        "event_data.nil.startsWith('a')",
        "'a' in event_data.nil",
        "event_data.nil['a'] == 1",
        "event_data.nil",
        "!event_data.nil",
        "event_data.nil ? true : false",
        "event_data.nil.all(x, x == 1)",
        "event_data.missing",
        "!event_data.missing",
        "!(event_data.missing == 'a')",
        "event_data.missing != 'a'",
        "event_data['missing'] == 1",
        "no_such_field == 1",
        "event_data.missing == 1 && event_data.flag",
        "event_data.flag && event_data.missing == 1",
        "event_data.missing == 1 || !event_data.flag",
        "!event_data.flag || event_data.missing == 1",
        "event_data.missing == 1 || event_data.nil.deeper == 1",
    ] {
        assert_eq!(ask(filter, PROD), Ok(Verdict::Absent), "{filter}");
    }
}

#[test]
fn a_null_is_a_value_where_one_is_asked_for() {
    assert_eq!(ask("event_data.nil == null", PROD), Ok(Verdict::Match));
    assert_eq!(ask("event_data.nil == 'prod'", PROD), Ok(Verdict::NoMatch));
    assert_eq!(ask("event_data == null", "null"), Ok(Verdict::Match));
}

#[test]
fn the_other_side_of_or_and_and_can_settle_it() {
    for filter in [
        "event_data.missing == 1 || event_data.flag",
        "event_data.flag || event_data.missing == 1",
        "event_data.nil.deeper == 1 || event_data.flag",
        "!(event_data.missing == 1 && !event_data.flag)",
    ] {
        assert_eq!(ask(filter, PROD), Ok(Verdict::Match), "{filter}");
    }
    for filter in ["event_data.missing == 1 && !event_data.flag", "!event_data.flag && event_data.missing == 1"] {
        assert_eq!(ask(filter, PROD), Ok(Verdict::NoMatch), "{filter}");
    }
}

#[test]
fn has_and_the_optional_syntax_ask_without_failing() {
    for (filter, expected) in [
        ("has(event_data.kill_reason)", Verdict::Match),
        ("has(event_data.missing)", Verdict::NoMatch),
        ("!has(event_data.missing)", Verdict::Match),
        ("has(event_data.sandbox_metadata.env) && event_data.sandbox_metadata.env == 'prod'", Verdict::Match),
        ("has(event_data.missing.deeper)", Verdict::Absent),
        ("event_data.?sandbox_metadata.?env.orValue('none') == 'prod'", Verdict::Match),
        ("event_data.?missing.?deeper.orValue('none') == 'none'", Verdict::Match),
        ("optional.of(event_data.flag).hasValue()", Verdict::Match),
    ] {
        assert_eq!(ask(filter, PROD), Ok(expected), "{filter}");
    }
    assert_eq!(ask("has(event_data.kill_reason)", "null"), Ok(Verdict::Absent));
}

#[test]
fn any_other_failure_is_a_fault_that_quotes_no_value() {
    for filter in [
        "event_data.kill_reason",
        "event_data.kill_reason.deeper == 1",
        "event_data.kill_reason < 3",
        "event_data.kill_reason + 1 == 2",
        "event_data.kill_reason && true",
        "event_data.execution.vcpu_count / 0 == 1",
        "event_data.list[9] == 'a'",
        "int(event_data.kill_reason) == 1",
        "size(event_data.flag) == 1",
        "event_data.kill_reason ? true : false",
        "event_data.kill_reason.all(x, x == 1)",
        "event_data.kill_reason < 3 || event_data.missing == 1",
        "event_data.missing == 1 && event_data.kill_reason < 3",
        "!(event_data.kill_reason < 3 && event_data.missing == 1)",
        "9223372036854775807 + event_data.execution.vcpu_count > 0",
    ] {
        let fault = ask(filter, PROD).expect_err(filter).to_string();
        for secret in ["timeout", "180000", "prod"] {
            assert!(!fault.contains(secret), "{filter} said: {fault}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_filter_is_said_with_its_column() {
    for (filter, expected) in [
        ("event_data.x ==", 16),
        ("a b", 3),
        ("", 1),
        ("startWith(type)", 10),
        ("type == 'a' && type.startWith('a')", 30),
        ("a.all(x, b.all(y, x == y))", 15),
    ] {
        match Filter::parse(filter) {
            Err(FilterError::Syntax { column, problem }) => {
                assert_eq!(column, expected, "{filter}: {problem}");
                assert!(!problem.is_empty());
            }
            other => panic!("{filter} gave {other:?}"),
        }
    }
    assert!(matches!(Filter::parse(&"(".repeat(9000)), Err(FilterError::Unsuitable(_))));
    assert!(Filter::parse(&format!("{}1{} == 1", "(".repeat(2000), ")".repeat(2000))).is_err());
}

#[test]
fn one_loop_after_another_is_allowed() {
    assert_eq!(ask("event_data.list.filter(x, x == 'a').exists(y, y == 'a')", PROD), Ok(Verdict::Match));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_reading_nor_running_a_filter_panics(
        filter in "[a-z0-9_.?'\"()\\[\\]{}=!<>&|+*/% ,:\\\\-]{0,50}|\\PC{0,40}",
    ) {
        if let Ok(filter) = Filter::parse(&filter) {
            let _ = filter.matches(&Fixture::new(PROD).view());
        }
    }
}
