//! The layers merged to one tree, with where each value in it comes from.

use super::interpolate::{InterpolateError, interpolate};
use super::layer::{Environment, Layer};
use super::problem::{KeyPath, Place, Problem, Problems};
use config::{Config, Value, ValueKind};
use serde_json::{Map, Number};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the values of a merged tree come from.
#[derive(Debug, Clone, Default)]
pub(super) struct Provenance {
    layers: Vec<Layer>,
    /// The layer of each value that is neither table nor list, by its place in `layers`.
    leaves: BTreeMap<KeyPath, usize>,
    /// What a variable gave, whole or in part: messages do not quote it.
    from_variable: BTreeSet<KeyPath>,
    /// What the variables held.
    variables: Vec<String>,
}

impl Provenance {
    /// Where the value at `key` was written, or what holds it if that is not known.
    pub(super) fn place(&self, key: &KeyPath) -> Option<Place> {
        let mut key = Some(key.clone());
        while let Some(here) = key {
            // The layer that the merged value is from; of tables, the last layer that has them.
            let own = self.leaves.get(&here).and_then(|layer| self.layers.get(*layer));
            let layers = || own.into_iter().chain(self.layers.iter().rev());
            let written = |key: &KeyPath| layers().find_map(|layer| layer.places.get(key));
            // A secret may have come by way of the key that names its file.
            if let Some(place) = written(&here).or_else(|| written(&here.twin()?)) {
                return Some(place.clone());
            }
            key = here.parent();
        }
        let last = self.layers.iter().rev().find(|layer| !layer.places.is_empty())?;
        Some(Place { origin: last.name.clone(), line: None })
    }

    /// What stands at `from`, and below it, is known as what stands at `to`; where it was written stays.
    pub(super) fn rename(&mut self, from: &KeyPath, to: &KeyPath) {
        fn moved<V: Clone>(map: &mut BTreeMap<KeyPath, V>, from: &KeyPath, to: &KeyPath) {
            let found = map.iter().filter_map(|(key, value)| Some((key.moved(from, to)?, value.clone())));
            let found: Vec<_> = found.collect();
            map.extend(found);
        }
        moved(&mut self.leaves, from, to);
        self.layers.iter_mut().for_each(|layer| moved(&mut layer.places, from, to));
        let variables: Vec<_> = self.from_variable.iter().filter_map(|key| key.moved(from, to)).collect();
        self.from_variable.extend(variables);
    }

    /// The same problem with its place.
    pub(super) fn locate(&self, problem: Problem) -> Problem {
        let place = self.place(&problem.key);
        problem.at(place)
    }

    /// What a relative path at `key` counts from: the folder of the file that it is written in; of a default, that of
    /// the first file.
    pub(super) fn folder(&self, key: &KeyPath) -> &Path {
        let own = self.leaves.get(key).and_then(|layer| self.layers.get(*layer));
        own.or(self.layers.first()).map_or(Path::new(""), |layer| &layer.folder)
    }

    /// Whether a variable gave the value or part of it.
    pub(super) fn holds_variable(&self, key: &KeyPath) -> bool {
        self.is_from_variable(key) || self.from_variable.iter().any(|inner| inner.is_below(key))
    }

    /// What variables held, for [`super::redact`].
    pub(super) fn variables(&self) -> &[String] {
        &self.variables
    }

    /// Whether a variable gave the value or what it is part of, so that it must not be quoted.
    pub(super) fn is_from_variable(&self, key: &KeyPath) -> bool {
        self.from_variable.contains(key) || key.parent().is_some_and(|parent| self.is_from_variable(&parent))
    }
}

/// Reads the files in their order, then the environment, and merges them: a later value replaces an earlier one, tables
/// are merged key by key, lists are replaced as a whole. Then puts variables into the strings that came from files.
///
/// # Errors
/// Every file that cannot be read or parsed; if none, every variable that is missing.
pub(super) fn merge(files: &[PathBuf], environment: &Environment) -> Result<(serde_json::Value, Provenance), Problems> {
    let folder = std::env::current_dir().unwrap_or_default();
    let read = files.iter().map(|file| Layer::read(file)).chain([environment.layer(folder)]);
    let (mut layers, mut problems) = (Vec::new(), Vec::new());
    for layer in read {
        match layer {
            Ok(layer) => {
                problems.extend(odd_sections(&layer));
                layers.push(layer);
            }
            Err(Problems(more)) => problems.extend(more),
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let merged = layers.iter().fold(Config::builder(), |builder, layer| builder.add_source(layer.clone())).build();
    let merged = merged.map_err(|error| Problem::new(&KeyPath::root(), format!("cannot be merged: {error}")))?;
    let mut tree = Tree { environment, provenance: Provenance { layers, ..Provenance::default() }, problems };
    let root = tree.take(merged.cache, &KeyPath::root());
    let Tree { provenance, problems, .. } = tree;
    if problems.is_empty() {
        return Ok((root, provenance));
    }
    Err(Problems(problems.into_iter().map(|problem| provenance.locate(problem)).collect()))
}

/// `config` takes the names of sections for paths (`a.b` for `b` in `a`), so only plain names may reach it.
fn odd_sections(layer: &Layer) -> Vec<Problem> {
    let plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let sections = layer.sections().filter(|key| !plain(key) || key.is_empty());
    sections
        .map(|key| {
            let key = KeyPath::root().key(key);
            let place = layer.places.get(&key).cloned();
            Problem::new(&key, "unknown key").at(place).remedy("section names hold letters and `_` only")
        })
        .collect()
}

struct Tree<'a> {
    environment: &'a Environment,
    provenance: Provenance,
    problems: Vec<Problem>,
}

impl Tree<'_> {
    fn take(&mut self, value: Value, path: &KeyPath) -> serde_json::Value {
        use serde_json::Value as Json;
        let origin = value.origin().map(str::to_owned);
        let layer = self.provenance.layers.iter().rposition(|layer| Some(&*layer.name) == origin.as_deref());
        if let (Some(layer), false) = (layer, matches!(value.kind, ValueKind::Table(_) | ValueKind::Array(_))) {
            self.provenance.leaves.insert(path.clone(), layer);
        }
        match value.kind {
            ValueKind::Nil => Json::Null,
            ValueKind::Boolean(value) => Json::Bool(value),
            ValueKind::I64(number) => Json::from(number),
            ValueKind::U64(number) => Json::from(number),
            // The parsers of YAML and TOML make neither; as a string it is refused where a number is wanted.
            ValueKind::I128(number) => Json::String(number.to_string()),
            ValueKind::U128(number) => Json::String(number.to_string()),
            ValueKind::Float(number) => {
                Number::from_f64(number).map_or_else(|| Json::String(number.to_string()), Json::Number)
            }
            ValueKind::String(text) => Json::String(self.complete(text, path)),
            ValueKind::Table(table) => {
                let table = table.into_iter().map(|(key, value)| {
                    let value = self.take(value, &path.key(&key));
                    (key, value)
                });
                Json::Object(Map::from_iter(table))
            }
            ValueKind::Array(list) => {
                let list = list.into_iter().enumerate();
                Json::Array(list.map(|(place, value)| self.take(value, &path.index(place))).collect())
            }
        }
    }

    /// Puts variables into a string from a file. What the environment gave is taken as it is: whoever sets a variable
    /// has had the shell's substitution already, and a password may well hold `$$`.
    fn complete(&mut self, text: String, path: &KeyPath) -> String {
        let layer = self.provenance.leaves.get(path).and_then(|layer| self.provenance.layers.get(*layer));
        if layer.is_some_and(Layer::is_environment) {
            self.provenance.from_variable.insert(path.clone());
            self.provenance.variables.push(text.clone());
            return text;
        }
        let used = RefCell::new(Vec::new());
        let lookup =
            |name: &str| self.environment.get(name).inspect(|value| used.borrow_mut().extend(value.map(str::to_owned)));
        match interpolate(&text, lookup) {
            Ok(done) => {
                if done.from_variable {
                    self.provenance.from_variable.insert(path.clone());
                }
                self.provenance.variables.append(&mut used.borrow_mut());
                done.text
            }
            Err(error) => {
                let remedy = match &error {
                    InterpolateError::Unset(name) => format!("set it, or write `${{{name}:-default}}`"),
                    InterpolateError::NotUnicode(_) => "give it a value that is text".to_owned(),
                    InterpolateError::Malformed => "write `$${` for a literal `${`".to_owned(),
                };
                self.problems.push(Problem::new(path, error.to_string()).remedy(remedy));
                text
            }
        }
    }
}
