use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn violation(text: &str) -> Option<Violation> {
    match check(text) {
        Ok(()) => None,
        Err(Malformed::NotStrictJson { violation, .. }) => Some(violation),
        Err(other) => panic!("{other}"),
    }
}

fn nested(levels: usize) -> String {
    format!("{}{{}}{}", "{\"a\":".repeat(levels - 1), "}".repeat(levels - 1))
}

#[test]
fn one_object_is_taken_and_white_space_around_it() {
    for text in [
        "{}",
        " \t\r\n{} \n",
        r#"{"a":[1,-0,0.5,1e9,1E-9,-1.25e+3,true,false,null,"x",{},[]]}"#,
        r#"{"a":{"a":{"a":1}},"A":1,"":2}"#,
        r#"{"a":"\ud83d\ude00 \u00e9 \" \\ \/ \b\f\n\r\t"}"#,
        "{\"ключ\":\"\u{10ffff}\u{7f}\"}",
        r#"{"a":179769313486231570000000000000000000000,"b":1.7976931348623157e308,"c":1e-999}"#,
        &nested(64),
        &format!("{{\"a\":{}{}}}", "[".repeat(63), "]".repeat(63)),
    ] {
        assert_eq!(violation(text), None, "{text}");
    }
}

#[test]
fn what_parsers_read_differently_is_refused() {
    use Violation::*;
    for (text, expected) in [
        ("\u{feff}{}", ByteOrderMark),
        ("", Syntax),
        ("nul", Syntax),
        ("{", Syntax),
        ("{}}", Trailing),
        ("{}{}", Trailing),
        ("{} x", Trailing),
        ("{}\0", Trailing),
        ("{}\u{feff}", Trailing),
        ("{}//", Trailing),
        ("\u{a0}{}", Syntax),
        ("[]", NotAnObject),
        ("\"a\"", NotAnObject),
        ("1", NotAnObject),
        ("null", NotAnObject),
        (r#"{"a":1,"a":2}"#, DuplicateKey),
        (r#"{"a":1,"\u0061":2}"#, DuplicateKey),
        (r#"{"a/":1,"a\/":2}"#, DuplicateKey),
        (r#"{"😀":1,"\ud83d\ude00":2}"#, DuplicateKey),
        (r#"{"a":[{"b":1,"c":{"d":1,"d":1}}]}"#, DuplicateKey),
        (r#"{"":1,"":1}"#, DuplicateKey),
        (r#"{"a":"\ud800"}"#, LoneSurrogate),
        (r#"{"a":"\udc00"}"#, LoneSurrogate),
        (r#"{"a":"\udc00\ud800"}"#, LoneSurrogate),
        (r#"{"a":"\ud800\ud800"}"#, LoneSurrogate),
        (r#"{"a":"\ud800\u0041"}"#, LoneSurrogate),
        (r#"{"a":"\ud800x"}"#, LoneSurrogate),
        (r#"{"\ud800":1}"#, LoneSurrogate),
        (r#"{"a":1e309}"#, NumberRange),
        (r#"{"a":[-1e99999999999999999999]}"#, NumberRange),
        (r#"{"a":01}"#, Syntax),
        (r#"{"a":+1}"#, Syntax),
        (r#"{"a":1.}"#, Syntax),
        (r#"{"a":.5}"#, Syntax),
        (r#"{"a":1e}"#, Syntax),
        (r#"{"a":-}"#, Syntax),
        (r#"{"a":0x1}"#, Syntax),
        (r#"{"a":NaN}"#, Syntax),
        (r#"{"a":Infinity}"#, Syntax),
        (r#"{"a":True}"#, Syntax),
        (r#"{"a":1,}"#, Syntax),
        (r#"{,"a":1}"#, Syntax),
        (r#"{"a":[1,]}"#, Syntax),
        (r#"{"a":[1 2]}"#, Syntax),
        (r#"{"a" 1}"#, Syntax),
        (r#"{a:1}"#, Syntax),
        (r#"{'a':1}"#, Syntax),
        (r#"{"a":"\x41"}"#, Syntax),
        (r#"{"a":"\u12g4"}"#, Syntax),
        (r#"{"a":"\u+123"}"#, Syntax),
        (r#"{"a":"\u12"#, Syntax),
        ("{\"a\":\"\n\"}", Syntax),
        ("{\"a\":\"\0\"}", Syntax),
        (r#"{"a":"b"#, Syntax),
        (r#"{"a":1/*x*/}"#, Syntax),
    ] {
        assert_eq!(violation(text), Some(expected), "{text}");
    }
    assert_eq!(violation(&nested(65)), Some(TooDeep));
    assert_eq!(violation(&nested(100_000)), Some(TooDeep));
    assert_eq!(violation(&format!("{{\"a\":{}", "[".repeat(1_000_000))), Some(TooDeep));
}

#[test]
fn the_message_names_the_place() {
    let error = check(r#"{"a":1,"a":2}"#).expect_err("a key twice");
    assert_eq!(error.to_string(), "a key twice in one object at byte 7");
    let error = check(r#"{"a":12e400}"#).expect_err("too large");
    assert_eq!(error.to_string(), "a number outside a double at byte 5");
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// JSON's own bytes, so that a mutation often hits the grammar.
fn json_like() -> impl Strategy<Value = String> {
    "[\\{\\}\\[\\]\",:0-9eE+\\-. \\\\utrfalsn\u{e9}]{0,40}"
}

proptest! {
    #[test]
    fn every_object_that_serde_json_writes_is_taken(value in any_value()) {
        let object = serde_json::json!({"value": value});
        prop_assert_eq!(check(&object.to_string()), Ok(()));
        prop_assert_eq!(check(&serde_json::to_string_pretty(&object).expect("writes")), Ok(()));
    }

    #[test]
    fn whatever_is_taken_serde_json_takes_too(text in json_like()) {
        let text = format!("{{\"a\":{text}}}");
        if check(&text).is_ok() {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn a_changed_character_is_judged_as_serde_json_does_or_stricter(value in any_value(), at in any::<usize>(), with in any::<char>()) {
        let mut text: Vec<char> = serde_json::json!({"value": value}).to_string().chars().collect();
        let at = at % text.len();
        text[at] = with;
        let text: String = text.into_iter().collect();
        match (check(&text), serde_json::from_str::<Value>(&text)) {
            (Ok(()), Err(error)) => prop_assert!(false, "{} only here: {}", error, text),
            (Err(Malformed::NotStrictJson { violation, .. }), Ok(read)) => prop_assert!(
                !read.is_object() || violation == Violation::DuplicateKey,
                "{} only there: {}", violation, text
            ),
            _ => {}
        }
    }
}

#[test]
fn a_key_that_comes_twice_is_found_however_many_others_there_are() {
    for count in 1..40 {
        let keys =
            |last: usize| (0..count).chain([last]).map(|key| format!("\"k{key}\":0")).collect::<Vec<_>>().join(",");
        assert_eq!(check(&format!("{{{}}}", keys(count))), Ok(()), "{count}");
        for twice in 0..count {
            let text = format!("{{{}}}", keys(twice));
            let offset = text.rfind("\"k").expect("a key");
            let found = Malformed::NotStrictJson { violation: Violation::DuplicateKey, offset };
            assert_eq!(check(&text), Err(found), "{twice} of {count}");
        }
    }
}
