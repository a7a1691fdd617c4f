//! Strict JSON: what is taken is what `serde_json` takes, less what parsers read differently.

use super::{EVENTS, Outcome, Target, files};
use bytes::Bytes;
use e2b_relay::decode::{self, MAX_DEPTH, Malformed, Violation};
use fastrand::Rng;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;

#[test]
fn strict_json_is_json_with_one_reading() {
    Target { name: "json", rounds: 10_000, minutes: 10, seeds: files(EVENTS) }.fuzz(check);
}

fn check(input: &[u8], _: &mut Rng) -> Outcome {
    let strict = strict(input);
    let text = match std::str::from_utf8(input) {
        Ok(text) => text,
        Err(error) => {
            assert_eq!(strict, Err(Malformed::NotUtf8 { offset: error.valid_up_to() }));
            return Err("not UTF-8".to_owned());
        }
    };
    let read = serde_json::from_str::<Tree>(text);
    let (violation, offset) = match strict {
        Ok(()) => {
            return match read {
                Ok(tree) => {
                    assert!(matches!(tree, Tree::Object(_)), "no object");
                    assert!(!tree.has_a_key_twice() && tree.depth() <= MAX_DEPTH, "{} levels", tree.depth());
                    white_space_around_it_changes_nothing(text, None);
                    Ok(format!("{} levels", tree.depth()))
                }
                // Its reading of numbers is not exact at a double's very end.
                Err(error) => {
                    assert!(error.to_string().contains("number out of range") && has_a_huge_number(text), "{error}");
                    Ok("huge number".to_owned())
                }
            };
        }
        Err(Malformed::NotStrictJson { violation, offset }) => (violation, offset),
        Err(other) => panic!("{other:?}"),
    };
    assert!(text.is_char_boundary(offset), "byte {offset} of {}", text.len());
    if let Ok(tree) = &read {
        let is_object = matches!(tree, Tree::Object(_));
        let is_right = match violation {
            // Of another value than an object is not said what else is wrong with it.
            Violation::NotAnObject | Violation::Syntax => !is_object,
            Violation::DuplicateKey => is_object && tree.has_a_key_twice(),
            Violation::TooDeep => is_object && tree.depth() > MAX_DEPTH,
            Violation::NumberRange => is_infinite(&text[offset..]),
            Violation::ByteOrderMark | Violation::Trailing | Violation::LoneSurrogate => false,
        };
        assert!(is_right, "{violation:?} at byte {offset}");
    }
    if violation != Violation::ByteOrderMark {
        white_space_around_it_changes_nothing(text, Some((violation, offset)));
    }
    Err(format!("{violation:?} {}", read.is_ok()))
}

/// Whether it is strict JSON; what else may be wrong with an event is no matter.
fn strict(input: &[u8]) -> Result<(), Malformed> {
    match decode::listed(&Bytes::copy_from_slice(input)) {
        Err(error @ (Malformed::NotUtf8 { .. } | Malformed::NotStrictJson { .. })) => Err(error),
        _ => Ok(()),
    }
}

fn white_space_around_it_changes_nothing(text: &str, found: Option<(Violation, usize)>) {
    match (strict(format!("\n {text}\t\r").as_bytes()), found) {
        (Ok(()), None) => {}
        (Err(Malformed::NotStrictJson { violation, offset }), Some((expected, at))) => {
            assert_eq!(violation, expected);
            // What lacks its end may lack it behind the white space.
            let is_same_place = offset == at + 2 || (at == text.trim_end().len() && offset > at + 2);
            assert!(is_same_place || at == text.len(), "{violation:?} at byte {offset}, not at {at} + 2");
        }
        (padded, found) => panic!("{padded:?} with white space, {found:?} without"),
    }
}

/// What begins with a number that is more than a double holds.
fn is_infinite(text: &str) -> bool {
    let end =
        text.find(|letter: char| !matches!(letter, '0'..='9' | '.' | 'e' | 'E' | '+' | '-')).unwrap_or(text.len());
    text[..end].parse::<f64>().is_ok_and(f64::is_infinite)
}

fn has_a_huge_number(text: &str) -> bool {
    let numbers = text.split(|letter: char| !matches!(letter, '0'..='9' | '.' | 'e' | 'E' | '+' | '-'));
    numbers.filter_map(|number| number.parse::<f64>().ok()).any(|number| number.abs() > 1.797e308)
}

/// A value, as `serde_json` reads it: with every key that comes.
enum Tree {
    Leaf,
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn depth(&self) -> usize {
        match self {
            Self::Leaf => 0,
            Self::List(values) => 1 + values.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
        }
    }

    fn has_a_key_twice(&self) -> bool {
        match self {
            Self::Leaf => false,
            Self::List(values) => values.iter().any(Self::has_a_key_twice),
            Self::Object(members) => {
                let names: BTreeSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                names.len() < members.len() || members.iter().any(|(_, value)| value.has_a_key_twice())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Leaf)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Tree::List(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
