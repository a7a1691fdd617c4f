use super::*;
use crate::route::fixture::Fixture;
use proptest::prelude::*;

const KINDS: [Escape; 4] = [Escape::KafkaTopic, Escape::KafkaKey, Escape::NatsSubject, Escape::AmqpRoutingKey];

fn render(text: &str, escape: Escape, fixture: &Fixture) -> Result<String, TemplateError> {
    Template::parse(text, escape).expect(text).render(&fixture.view())
}

/// In a NATS subject.
fn nats(text: &str, fixture: &Fixture) -> Result<String, TemplateError> {
    render(text, Escape::NatsSubject, fixture)
}

fn column_of(text: &str, escape: Escape) -> usize {
    match Template::parse(text, escape) {
        Err(TemplateError::Syntax { column, .. }) => column,
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn top_level_fields_and_paths_are_put_in() {
    let fixture =
        Fixture::new(r#"{"sandbox_metadata":{"env":"prod","a b":"c"},"execution":{"vcpu_count":2,"ok":true}}"#);
    for (text, expected) in [
        ("e2b.{{ type }}.{{ sandbox_id }}", "e2b.sandbox.lifecycle.killed.iz62km2v0zwlow3i7icxv"),
        ("{{type}}", "sandbox.lifecycle.killed"),
        ("plain", "plain"),
        ("e.{{ event_data.sandbox_metadata.env }}", "e.prod"),
        ("e.{{ event_data.sandbox_metadata['a b'] }}", "e.c"),
        ("e.{{ event_data.execution.vcpu_count }}", "e.2"),
        ("e.{{ event_data.execution.ok }}", "e.true"),
        ("{{ relay.source }}.{{ relay.sequence }}", "acme.4711"),
        ("{{ version }}", "v2"),
        ("e.{{ sandbox_id[:2] }}", "e.iz"),
        ("e.{{ event_data.sandbox_metadata.team or 'none' }}", "e.none"),
        ("e.{{ event_data.sandbox_metadata.team | default('none') }}", "e.none"),
        ("e.{{ event_data.sandbox_metadata.env | default('none') }}", "e.prod"),
        ("e.{{ 'a}}b' }}", "e.a}}b"),
    ] {
        assert_eq!(nats(text, &fixture).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn only_the_top_level_type_keeps_its_dots() {
    let fixture = Fixture::new(r#"{"type":"a.b"}"#);
    assert_eq!(nats("{{ type }}", &fixture).as_deref(), Ok("sandbox.lifecycle.killed"));
    assert_eq!(nats("{{ event_data.type }}", &fixture).as_deref(), Ok("a%2Eb"));
    assert_eq!(nats("{{ type ~ '' }}", &fixture).as_deref(), Ok("sandbox%2Elifecycle%2Ekilled"));
    assert_eq!(
        render("t.{{ type }}-{{ event_data.type }}", Escape::KafkaTopic, &fixture).as_deref(),
        Ok("t.sandbox.lifecycle.killed-a_b")
    );
}

#[test]
fn an_expression_without_a_value_is_an_error_that_names_it() {
    for event_data in ["null", "{}", r#"{"sandbox_metadata":null}"#, r#"{"sandbox_metadata":{"env":null}}"#] {
        let fixture = Fixture::new(event_data);
        assert_eq!(
            nats("e.{{ event_data.sandbox_metadata.env }}", &fixture),
            Err(TemplateError::Empty { expression: "event_data.sandbox_metadata.env".to_owned() }),
            "{event_data}"
        );
    }
    let empty = Fixture::with("t", "s", &[("note", r#""""#), ("nothing", "null")]);
    for name in ["note", "nothing", "missing"] {
        let expected = Err(TemplateError::Empty { expression: name.to_owned() });
        assert_eq!(nats(&format!("e.{{{{ {name} }}}}"), &empty), expected);
    }
    assert_eq!(
        nats("{{ note }}", &empty).map_err(|e| e.to_string()),
        Err("`{{ note }}` is empty or absent".to_owned())
    );
}

#[test]
fn lists_and_objects_are_no_address() {
    let fixture = Fixture::new(r#"{"list":[1],"map":{"a":1}}"#);
    for text in ["{{ event_data }}", "{{ relay }}", "{{ event_data.list }}", "{{ event_data.map }}"] {
        assert!(matches!(nats(text, &fixture), Err(TemplateError::NotOneValue { .. })), "{text}");
    }
}

#[test]
fn the_relays_own_part_wins_over_what_came_under_its_name() {
    let fixture = Fixture::with("t", "s", &[("relay", r#"{"source":"evil"}"#)]);
    assert_eq!(nats("{{ relay.source }}", &fixture).as_deref(), Ok("acme"));
}

#[test]
fn what_strangers_write_stays_one_token_in_every_kind_of_address() {
    for hostile in ["x 6\r\nPUB evil 0\r\n", "*", ">", "#", "a.b.c", "..", "\u{202e}gpj", "$SYS", "%2E", "/", " ", "\0"]
    {
        let fixture = Fixture::env(hostile);
        for escape in KINDS {
            let text = "e.{{ event_data.sandbox_metadata.env }}.z";
            let address = render(text, escape, &fixture).expect(hostile);
            let token = address.strip_prefix("e.").and_then(|rest| rest.strip_suffix(".z")).expect("the literals");
            assert!(!token.is_empty());
            assert!(
                token.chars().all(|c| c == '$' || c == '%' || c == '_' || c.is_ascii_alphanumeric()),
                "{hostile:?} gave {token:?} in a {}",
                escape.name()
            );
        }
    }
}

#[test]
fn a_value_that_begins_a_subject_cannot_address_the_server() {
    let fixture = Fixture::env("$JS");
    assert_eq!(nats("{{ event_data.sandbox_metadata.env }}.a", &fixture).as_deref(), Ok("%24JS.a"));
}

#[test]
fn addresses_have_a_greatest_length() {
    let long = "x".repeat(300);
    let fixture = Fixture::env(&long);
    let text = "e.{{ event_data.sandbox_metadata.env }}";
    for (escape, fits) in [
        (Escape::KafkaTopic, false),
        (Escape::AmqpRoutingKey, false),
        (Escape::NatsSubject, true),
        (Escape::KafkaKey, true),
    ] {
        match render(text, escape, &fixture) {
            Ok(address) => assert!(fits && address == format!("e.{long}")),
            Err(error) => {
                let (kind, limit) = (escape.name(), escape.max_bytes());
                assert!(!fits);
                assert_eq!(error, TemplateError::TooLong { kind, bytes: 302, limit });
            }
        }
    }
    // 100 dots are 300 bytes once escaped.
    let dots = Fixture::env(&".".repeat(100));
    assert!(matches!(render(text, Escape::AmqpRoutingKey, &dots), Err(TemplateError::TooLong { bytes: 302, .. })));
    assert!(matches!(render(text, Escape::KafkaTopic, &dots), Ok(topic) if topic.len() == 102));
    for (escape, length) in [(Escape::KafkaTopic, 249), (Escape::AmqpRoutingKey, 255)] {
        assert!(Template::parse(&"a".repeat(length), escape).is_ok());
        assert!(Template::parse(&"a".repeat(length + 1), escape).is_err());
    }
}

#[test]
fn what_is_wrong_with_a_template_is_said_with_its_column() {
    for (text, column) in [
        ("a.{{ type", 3),
        ("a.{{ type }}.{{ }}", 14),
        ("a.{{ type. }}", 3),
        ("a b", 2),
        ("é.*", 3),
        ("e.{{ 'ü' }}.>", 13),
        ("a }} b", 3),
        ("e.{% if x %}", 3),
        ("e.{{ type | nonsense }}", 3),
        ("e.{{ nonsense(type) }}", 3),
        ("e.{{ 'a' * 9 }}", 10),
    ] {
        assert_eq!(column_of(text, Escape::NatsSubject), column, "{text}");
    }
    assert_eq!(column_of("e2b.évent", Escape::KafkaTopic), 5);
    assert_eq!(column_of("e2b/{{ type }}", Escape::KafkaTopic), 4);
    let error = Template::parse("a b", Escape::NatsSubject).expect_err("a space");
    assert_eq!(error.to_string(), "column 2: ' ' cannot stand in a nats subject");
}

#[test]
fn a_template_must_be_able_to_give_a_valid_address() {
    for (text, escape) in [
        ("", Escape::NatsSubject),
        ("", Escape::KafkaTopic),
        (".a", Escape::NatsSubject),
        ("a.", Escape::NatsSubject),
        ("a..{{ type }}", Escape::NatsSubject),
        (".", Escape::KafkaTopic),
        ("..", Escape::KafkaTopic),
        ("{{ type }}", Escape::KafkaTopic),
        ("{{ type }}.e2b", Escape::KafkaTopic),
    ] {
        let result = Template::parse(text, escape);
        assert!(matches!(result, Err(TemplateError::Unsuitable { .. })), "{text:?} in a {}", escape.name());
    }
    assert!(Template::parse("", Escape::AmqpRoutingKey).is_ok(), "a fanout exchange takes an empty key");
    assert!(Template::parse(&"{{ type }}".repeat(500), Escape::KafkaKey).is_err());
}

#[test]
fn a_template_tells_what_it_reads() {
    let template =
        Template::parse("e2b.{{ type }}.{{ event_data.x or sandbox_id }}", Escape::NatsSubject).expect("valid");
    assert_eq!(template.literal_prefix(), "e2b.");
    assert!(!template.is_literal());
    assert!(template.reads("type") && template.reads("event_data") && template.reads("sandbox_id"));
    assert!(!template.reads("id") && !template.reads("x"));
    let quoted = Template::parse("{{ sandbox_id[:2] ~ ' id \\' version' ~ event_data . type }}", Escape::KafkaKey);
    let quoted = quoted.expect("valid");
    assert!(quoted.reads("sandbox_id") && quoted.reads("event_data"));
    assert!(!quoted.reads("id") && !quoted.reads("version") && !quoted.reads("type"));
    assert!(Template::parse("e2b.events", Escape::KafkaTopic).expect("valid").is_literal());
}

/// Undoes `%XX`.
fn decode(token: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: Vec<u8> = rest.by_ref().take(2).collect();
            bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_is_one_token_and_can_be_read_back(value in "\\PC{1,60}|[\\x00-\\x7f\u{80}-\u{a0}\u{2000}-\u{2070}]{1,60}") {
        let fixture = Fixture::env(&value);
        for escape in [Escape::NatsSubject, Escape::AmqpRoutingKey, Escape::KafkaKey] {
            let template = Template::parse("e.{{ event_data.sandbox_metadata.env }}", escape).unwrap();
            let Ok(address) = template.render(&fixture.view()) else { continue };
            let token = address.strip_prefix("e.").unwrap();
            prop_assert!(!token.contains(['.', '*', '>', '#', '/', ' ']));
            prop_assert!(!token.chars().any(|c| c.is_control() || c.is_whitespace()));
            prop_assert_eq!(decode(token), value.clone());
        }
        let topic = Template::parse("e.{{ event_data.sandbox_metadata.env }}", Escape::KafkaTopic).unwrap();
        let address = topic.render(&fixture.view()).unwrap();
        let token = address.strip_prefix("e.").unwrap();
        prop_assert!(token.chars().all(|c| c == '_' || c == '-' || c.is_ascii_alphanumeric()));
        prop_assert_eq!(token.chars().count(), value.chars().count());
    }

    #[test]
    fn a_type_makes_no_empty_token_and_no_wildcard(kind in "[a.*>#$ \\n]{1,20}") {
        let fixture = Fixture::with(&kind, "s", &[]);
        for escape in KINDS {
            let address = render("e.{{ type }}.z", escape, &fixture).unwrap();
            prop_assert!(address.split('.').all(|token| !token.is_empty()), "{}", address);
            prop_assert!(!address.contains(['*', '>', '#', ' ', '\n']), "{}", address);
        }
    }

    #[test]
    fn reading_a_template_never_panics(text in "[a-z{}%#.'\"|()\\[\\]~: \\\\-]{0,40}|\\PC{0,40}|\\{\\{\\PC{0,30}\\}\\}") {
        for escape in KINDS {
            if let Ok(template) = Template::parse(&text, escape) {
                let _ = template.render(&Fixture::env("prod").view());
            }
        }
    }
}
