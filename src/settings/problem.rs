//! What is wrong with a configuration, told so that the reader can mend it: file, line, key, fault, remedy.

use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// One step from a table to what is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A key of a table.
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

/// The way from the root of the configuration to one value, shown as `sources.acme.webhook.secrets[0]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct KeyPath(Vec<Step>);

impl KeyPath {
    /// The way to the table or list itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of the keys `steps`, none of which is a place in a list.
    pub fn of<S: Into<String>>(steps: impl IntoIterator<Item = S>) -> Self {
        Self(steps.into_iter().map(|step| Step::Key(step.into())).collect())
    }

    /// The way to a key of the table at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// The way to an element of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The way to what holds the value at this path.
    pub fn parent(&self) -> Option<Self> {
        let (_, steps) = self.0.split_last()?;
        Some(Self(steps.to_vec()))
    }

    /// The way to the key that names a file with the value of this one.
    pub fn twin(&self) -> Option<Self> {
        match self.0.split_last()? {
            (Step::Key(key), steps) => Some(Self(steps.to_vec()).key(&super::schema::twin(key))),
            (Step::Index(_), _) => None,
        }
    }

    /// Whether the path leads through `outer`.
    pub fn is_below(&self, outer: &Self) -> bool {
        self.0.starts_with(&outer.0) && self.0.len() > outer.0.len()
    }

    /// The same way through `to`, if it leads to `from` or through it.
    pub(super) fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(from.0.as_slice())?;
        Some(Self(to.0.iter().chain(rest).cloned().collect()))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the path reads like `pattern`, in which `*` stands for one key or place.
    pub fn matches(&self, pattern: &str) -> bool {
        let parts: Vec<&str> = pattern.split('.').collect();
        parts.len() == self.0.len()
            && parts.iter().zip(&self.0).all(|(part, step)| match step {
                Step::Key(key) => *part == "*" || part == key,
                Step::Index(_) => *part == "*",
            })
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => write!(f, "{}", key.escape_debug())?,
                Step::Key(key) => write!(f, ".{}", key.escape_debug())?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Serialize for KeyPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// A file's name, or `environment variable E2B_RELAY__…`.
    #[serde(rename = "file", serialize_with = "as_text")]
    pub origin: Arc<str>,
    /// In a file, from 1.
    pub line: Option<usize>,
}

fn as_text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        match self.line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

/// One fault, or one warning. Never holds a secret's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it was written, if anywhere.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// Which value is meant; the root if the file as a whole is.
    pub key: KeyPath,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Problem {
    /// A fault of the value at `key`; `Provenance::place` knows where that is.
    pub fn new(key: &KeyPath, message: impl Into<String>) -> Self {
        Self { place: None, key: key.clone(), message: message.into(), remedy: None }
    }

    /// Adds where the value was written.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_root() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// Everything that was found wrong, one to a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_place_key_fault_remedy() {
        let key = KeyPath::of(["sinks", "lake"]).key("types").index(1);
        let problem = Problem::new(&key, "wants a string").remedy("put it in quotes");
        assert_eq!(problem.to_string(), "sinks.lake.types[1]: wants a string; put it in quotes");
        let place = Place { origin: "a.yaml".into(), line: Some(7) };
        assert!(problem.at(Some(place)).to_string().starts_with("a.yaml:7: sinks.lake.types[1]: "));
    }

    #[test]
    fn a_pattern_matches_one_key_per_star() {
        let key = KeyPath::of(["sources", "acme", "api"]);
        assert!(key.matches("sources.*.api"));
        assert!(!key.matches("sources.*"));
        assert!(!key.key("url").matches("sources.*.api"));
    }
}
