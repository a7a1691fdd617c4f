//! Which line of a YAML file each key is on, from the parser's own events.

use super::{Fault, Index, MAX_DEPTH};
use crate::settings::problem::KeyPath;
use yaml_rust2::Yaml;
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

/// A table or list whose end is not reached yet.
enum Open {
    /// A table; the key is known while its value is awaited.
    Table { path: KeyPath, key: Option<KeyPath> },
    /// A list and the place of its next element.
    List { path: KeyPath, next: usize },
}

struct Indexer {
    index: Index,
    open: Vec<Open>,
    documents: usize,
}

/// Finds the line of each key and element, and what a configuration must not hold.
///
/// Pulls events instead of being called back: the depth is checked before any code that recurses sees the text.
pub(super) fn index(text: &str) -> Index {
    let mut parser = Parser::new_from_str(text);
    let mut indexer = Indexer { index: Index::default(), open: Vec::new(), documents: 0 };
    loop {
        match parser.next_token() {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, mark)) => indexer.take(&event, &mark),
            Err(error) => {
                let message = format!("is not YAML: {}", error.info());
                indexer.fault(error.marker().line(), KeyPath::root(), message, None);
                break;
            }
        }
        if indexer.open.len() > MAX_DEPTH {
            let message = format!("is nested deeper than {MAX_DEPTH} levels");
            indexer.index.faults.push(Fault { line: None, key: KeyPath::root(), message, remedy: None });
            break;
        }
    }
    indexer.index
}

impl Indexer {
    fn fault(&mut self, line: usize, key: KeyPath, message: String, remedy: Option<&'static str>) {
        self.index.faults.push(Fault { line: Some(line), key, message, remedy });
    }

    fn take(&mut self, event: &Event, mark: &Marker) {
        match event {
            Event::DocumentStart => {
                self.documents += 1;
                if self.documents == 2 {
                    let remedy = Some("use one file per document and several --config");
                    self.fault(mark.line(), KeyPath::root(), "holds more than one document".to_owned(), remedy);
                }
            }
            Event::Scalar(text, style, _, tag) => {
                let plain = *style == TScalarStyle::Plain && tag.is_none();
                let is_text = !plain || matches!(Yaml::from_str(text), Yaml::String(_));
                if self.awaits_key() {
                    self.begin_key(text, is_text, mark.line());
                } else {
                    let is_empty = plain && matches!(Yaml::from_str(text), Yaml::Null);
                    self.begin_value(mark.line(), is_empty);
                }
            }
            Event::Alias(_) if self.awaits_key() => self.begin_key("*", false, mark.line()),
            Event::Alias(_) => {
                self.begin_value(mark.line(), true);
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if self.awaits_key() => {
                self.begin_key("?", false, mark.line());
                let path = self.begin_value(mark.line(), true);
                self.push(event, path);
            }
            Event::SequenceStart(..) => {
                let path = self.begin_value(mark.line(), false);
                self.push(event, path);
            }
            Event::MappingStart(..) => {
                let path = self.begin_value(mark.line(), true);
                self.push(event, path);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }

    fn push(&mut self, event: &Event, path: KeyPath) {
        self.open.push(match event {
            Event::MappingStart(..) => Open::Table { path, key: None },
            _ => Open::List { path, next: 0 },
        });
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Table { key: None, .. }))
    }

    fn begin_key(&mut self, text: &str, is_text: bool, line: usize) {
        let Some(Open::Table { path, key }) = self.open.last_mut() else { return };
        let here = path.key(text);
        *key = Some(here.clone());
        if !is_text {
            let message = format!("the key `{text}` is not a string");
            self.fault(line, here, message, Some("put it in quotes"));
        } else if text == "<<" {
            let remedy = Some("give several --config files instead, which are merged");
            self.fault(line, here, "merge keys are not part of YAML 1.2".to_owned(), remedy);
        } else if let Some(first) = self.index.lines.insert(here.clone(), line) {
            let message = format!("stands here a second time, after line {first}");
            self.fault(line, here, message, Some("keep one of the two"));
        }
    }

    /// The path of the value that begins; `root` is whether it may be the whole document.
    fn begin_value(&mut self, line: usize, root: bool) -> KeyPath {
        match self.open.last_mut() {
            Some(Open::Table { path, key }) => key.take().unwrap_or_else(|| path.clone()),
            Some(Open::List { path, next }) => {
                let here = path.index(*next);
                *next += 1;
                self.index.lines.insert(here.clone(), line);
                here
            }
            None => {
                if !root {
                    let remedy = Some("begin with `sources:` or `sinks:`");
                    self.fault(line, KeyPath::root(), "is not a table of sections".to_owned(), remedy);
                }
                KeyPath::root()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(index: &Index, key: &str) -> Option<usize> {
        index.lines.iter().find(|(path, _)| path.to_string() == key).map(|(_, line)| *line)
    }

    #[test]
    fn every_key_and_element_has_its_line() {
        let index = index("# comment\na:\n  b: 1\n  c: [x,\n    y]\nd: &x\n  e: {f: 2}\ng: *x\n");
        assert!(index.faults.is_empty(), "{:?}", index.faults);
        assert_eq!(line(&index, "a"), Some(2));
        assert_eq!(line(&index, "a.b"), Some(3));
        assert_eq!(line(&index, "a.c[0]"), Some(4));
        assert_eq!(line(&index, "a.c[1]"), Some(5));
        assert_eq!(line(&index, "d.e.f"), Some(7));
        assert_eq!(line(&index, "g"), Some(8));
    }

    #[test]
    fn a_key_in_two_tables_of_a_list_is_no_repetition() {
        assert!(index("l:\n- {a: 1}\n- {a: 2}\n").faults.is_empty());
    }

    #[test]
    fn what_a_configuration_must_not_hold_is_found_with_its_line() {
        for (text, at, words) in [
            ("a: 1\nb: 2\na: 3\n", Some(3), "second time, after line 1"),
            ("a: 1\n2: b\n", Some(2), "`2` is not a string"),
            ("? [a]\n: b\n", Some(1), "is not a string"),
            ("- a\n", Some(1), "not a table"),
            ("text\n", Some(1), "not a table"),
            ("a: 1\n---\nb: 1\n", Some(2), "more than one document"),
            ("a: 1\n b: 2\n", Some(2), "is not YAML"),
            ("a: &x {b: 1}\nc:\n  <<: *x\n", Some(3), "merge keys"),
        ] {
            let faults = index(text).faults;
            let fault = faults.first().unwrap_or_else(|| panic!("nothing was found wrong with {text:?}"));
            assert!(fault.message.contains(words), "{text:?}: {fault:?}");
            assert_eq!(fault.line, at, "{text:?}: {fault:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_anything_recurses() {
        let forty = format!("a: {}", "[".repeat(40));
        assert!(index(&forty).faults.iter().any(|fault| fault.message.contains("nested deeper")));
        // The scanner has a limit of its own.
        assert!(!index(&"[".repeat(200_000)).faults.is_empty());
    }

    #[test]
    fn an_empty_file_is_no_fault() {
        assert!(index("").faults.is_empty());
        assert!(index("# nothing yet\n").faults.is_empty());
        assert!(index("--- ~\n").faults.is_empty());
    }
}
