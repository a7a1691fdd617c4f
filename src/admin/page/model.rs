//! What the page shows, as plain data: the template makes HTML of it, and the script what has changed since.

use crate::logging::visible;
use serde::Serialize;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How much of what comes from elsewhere is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Characters of a text.
    pub(super) text: usize,
    /// Rows of a table; the sandboxes have their pages.
    pub(super) rows: usize,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Model {
    /// By name: a word or a number that stands somewhere.
    pub(super) figures: BTreeMap<String, Cell>,
    /// By name: a text per line.
    pub(super) lists: BTreeMap<&'static str, Vec<Cell>>,
    /// By name: rows of cells.
    pub(super) tables: BTreeMap<&'static str, Vec<Row>>,
}

/// Of a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Row {
    /// By which the script knows it again; short, whatever it is of.
    pub(super) key: String,
    pub(super) cells: Vec<Cell>,
}

/// What stands in one place.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Cell {
    pub(super) text: String,
    /// How it looks, in words of the style sheet.
    pub(super) class: &'static str,
    /// More of it, on asking.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) title: String,
    /// How full a bar beside it is, 0 to 100.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) bar: String,
    /// A line over the last hour: points within 60 × 20.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) line: String,
    /// What can be done with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) button: Option<Button>,
}

/// Asks the admin API for a change.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Button {
    pub(super) label: &'static str,
    /// For whoever does not see what it stands beside.
    pub(super) name: String,
    pub(super) path: &'static str,
    /// JSON.
    pub(super) body: String,
}

impl Cell {
    /// Whatever comes from elsewhere goes through here: escaped where it is not plainly visible, and cut after `longest`
    /// characters.
    pub(super) fn foreign(text: &str, longest: usize) -> Self {
        let shown = visible(text);
        let mut rest = shown.chars();
        let cut: String = rest.by_ref().take(longest).collect();
        let text = if rest.next().is_some() { format!("{cut}…") } else { cut };
        Self { text, ..Self::default() }
    }

    /// Our own words.
    pub(super) fn own(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// One of our own numbers, to stand below others.
    pub(super) fn number(text: impl Into<String>) -> Self {
        Self { text: text.into(), class: "number", ..Self::default() }
    }

    pub(super) fn class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    pub(super) fn title(self, title: impl Into<String>) -> Self {
        Self { title: title.into(), ..self }
    }
}

impl Row {
    pub(super) fn new(key: impl AsRef<str>, cells: impl IntoIterator<Item = Cell>) -> Self {
        let mut hasher = DefaultHasher::new();
        key.as_ref().hash(&mut hasher);
        Self { key: format!("{:x}", hasher.finish()), cells: cells.into_iter().collect() }
    }
}

impl Model {
    pub(super) fn figure(&mut self, name: impl Into<String>, cell: Cell) {
        self.figures.insert(name.into(), cell);
    }

    /// As many rows as there may be, and how many there are besides.
    pub(super) fn table(&mut self, name: &'static str, mut rows: Vec<Row>, bounds: Bounds) {
        let more = rows.len().saturating_sub(bounds.rows);
        if more > 0 {
            rows.truncate(bounds.rows);
            rows.push(Row::new("more", [Cell::own(format!("and {more} more"))]));
        }
        self.tables.insert(name, rows);
    }

    /// What is in this one and not, or not so, in `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        fn changed<K: Ord + Clone, V: PartialEq + Clone>(
            now: &BTreeMap<K, V>,
            before: &BTreeMap<K, V>,
        ) -> BTreeMap<K, V> {
            let is_new = |(name, value): &(&K, &V)| before.get(*name) != Some(*value);
            now.iter().filter(is_new).map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        Self {
            figures: changed(&self.figures, &before.figures),
            lists: changed(&self.lists, &before.lists),
            tables: changed(&self.tables, &before.tables),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_visible_and_short() {
        assert_eq!(Cell::foreign("a\u{202e}b\nc", 64).text, "a\\u{202e}b\\u{a}c");
        assert_eq!(Cell::foreign("abcdef", 3).text, "abc…");
        assert_eq!(Cell::foreign("abc", 3).text, "abc");
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let mut before = Model::default();
        before.figure("a", Cell::own("1"));
        before.figure("b", Cell::own("1"));
        let mut now = before.clone();
        now.figure("b", Cell::own("2"));
        now.lists.insert("c", Vec::new());
        let told = now.since(&before);
        assert!(told.figures.keys().eq(["b"]) && told.lists.contains_key("c"));
    }
}
