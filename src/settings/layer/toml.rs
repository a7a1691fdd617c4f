//! Which line of a TOML file each key is on, from the parser's spans.

use super::{Fault, Index};
use crate::settings::problem::KeyPath;
use toml::de::{DeTable, DeValue};

/// Finds the line of each key and element, and every syntax error.
pub(super) fn index(text: &str) -> Index {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut index = Index::default();
    walk(table.get_ref(), &KeyPath::root(), &lines, &mut index);
    index.faults = errors
        .iter()
        .map(|error| Fault {
            line: error.span().map(|span| lines.of(span.start)),
            key: KeyPath::root(),
            // `message()`, not the whole error: that quotes the line, which may hold a secret.
            message: format!("is not TOML: {}", error.message()),
            remedy: None,
        })
        .collect();
    index
}

fn walk(table: &DeTable<'_>, path: &KeyPath, lines: &Lines, index: &mut Index) {
    for (key, value) in table {
        let here = path.key(key.get_ref());
        index.lines.insert(here.clone(), lines.of(key.span().start));
        descend(value.get_ref(), &here, lines, index);
    }
}

fn descend(value: &DeValue<'_>, path: &KeyPath, lines: &Lines, index: &mut Index) {
    match value {
        DeValue::Table(table) => walk(table, path, lines, index),
        DeValue::Array(array) => {
            for (place, element) in array.iter().enumerate() {
                let here = path.index(place);
                index.lines.insert(here.clone(), lines.of(element.span().start));
                descend(element.get_ref(), &here, lines, index);
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// Byte offsets to lines.
struct Lines {
    /// The offset of each line feed.
    ends: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        Self { ends: text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect() }
    }

    fn of(&self, offset: usize) -> usize {
        self.ends.partition_point(|end| *end < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_element_has_its_line() {
        let index = index("[a]\nb = 1\nc = [1,\n 2]\n[d.e]\nf = {g = 1}\n");
        assert!(index.faults.is_empty(), "{:?}", index.faults);
        let line = |key: KeyPath| index.lines.get(&key).copied();
        assert_eq!(line(KeyPath::of(["a", "b"])), Some(2));
        assert_eq!(line(KeyPath::of(["a", "c"]).index(1)), Some(4));
        assert_eq!(line(KeyPath::of(["d", "e"])), Some(5));
        assert_eq!(line(KeyPath::of(["d", "e", "f", "g"])), Some(6));
    }

    #[test]
    fn syntax_errors_have_a_line_and_quote_nothing() {
        let faults = index("[a]\nb = 1\nb = 2\nsecret = \"hunter2 \n").faults;
        assert_eq!(faults.first().and_then(|fault| fault.line), Some(3), "{faults:?}");
        assert!(faults.iter().any(|fault| fault.message.contains("duplicate key")), "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.message.contains("hunter2")), "{faults:?}");
    }
}
