//! One layer of the configuration: a file or the environment, with the place at which each of its values was written.

mod environment;
mod toml;
mod yaml;

pub use environment::{Environment, PREFIX};

use super::problem::{KeyPath, Place, Problem, Problems};
use config::{FileFormat, Format, Map, Source, Value};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A configuration file larger than this is refused, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// Tables and lists nested deeper than this are refused; the parsers recurse.
const MAX_DEPTH: usize = 32;

/// The keys and values of one file, or of the environment.
#[derive(Debug, Clone)]
pub struct Layer {
    /// How messages name it; also the `origin` of each of its values.
    pub name: Arc<str>,
    /// What relative paths in it count from.
    pub folder: PathBuf,
    /// Where each key was written.
    pub places: BTreeMap<KeyPath, Place>,
    values: Map<String, Value>,
}

/// The layer as a source of the crate `config`, which merges them.
impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

/// What an index of a file's text found: the line of each key, and what cannot stand in a configuration.
#[derive(Debug, Default)]
struct Index {
    lines: BTreeMap<KeyPath, usize>,
    faults: Vec<Fault>,
}

/// A fault of a file's text.
#[derive(Debug)]
struct Fault {
    line: Option<usize>,
    key: KeyPath,
    message: String,
    remedy: Option<&'static str>,
}

impl Layer {
    /// Reads and parses one file, YAML or TOML by its ending.
    ///
    /// # Errors
    /// A file that cannot be read or parsed, that has a key twice, or keys that are not strings.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let name: Arc<str> = path.display().to_string().into();
        let whole = |message: String| {
            let place = Place { origin: name.clone(), line: None };
            Problem::new(&KeyPath::root(), message).at(Some(place))
        };
        type Indexer = fn(&str) -> Index;
        let (format, index): (FileFormat, Indexer) = match path.extension().and_then(|ending| ending.to_str()) {
            Some("yaml" | "yml") => (FileFormat::Yaml, yaml::index),
            Some("toml") => (FileFormat::Toml, toml::index),
            _ => {
                let problem = whole("is neither YAML nor TOML by its ending".to_owned());
                return Err(problem.remedy("name it .yaml, .yml or .toml").into());
            }
        };
        let text = read_bounded(path, MAX_FILE).map_err(|reason| whole(format!("cannot be read: {reason}")))?;
        // A byte order mark, which some editors write, is no part of the first key.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let Index { lines, faults } = index(text);
        if !faults.is_empty() {
            return Err(Problems(faults.into_iter().map(|fault| fault.into_problem(&name)).collect()));
        }
        let values = if lines.is_empty() {
            // Only comments so far; `config` takes an empty YAML document for a fault.
            Map::new()
        } else {
            // The parser's words may quote the file, which may hold secrets. What it minds beyond the index are numbers.
            format.parse(Some(&name.to_string()), text).map_err(|_| whole("holds a number out of range".to_owned()))?
        };
        let folder = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned));
        let places =
            lines.into_iter().map(|(key, line)| (key, Place { origin: name.clone(), line: Some(line) })).collect();
        Ok(Self { folder: folder.unwrap_or_default(), name, places, values })
    }
}

impl Layer {
    /// The keys at the root.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Whether this is the environment and not a file.
    pub fn is_environment(&self) -> bool {
        &*self.name == environment::NAME
    }
}

impl Fault {
    fn into_problem(self, name: &Arc<str>) -> Problem {
        let problem = Problem::new(&self.key, self.message).at(Some(Place { origin: name.clone(), line: self.line }));
        match self.remedy {
            Some(remedy) => problem.remedy(remedy),
            None => problem,
        }
    }
}

/// The text of a file of at most `limit` bytes.
///
/// # Errors
/// Why it cannot be had, in words that hold nothing of its content.
pub fn read_bounded(path: &Path, limit: u64) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}
