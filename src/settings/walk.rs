//! The walk through the merged tree beside the schema: finds every unknown key and wrong type at once, with its place
//! and the nearest right name; completes what only the place of a value tells (relative paths, files with secrets).
//!
//! Serde alone would stop at the first fault, know no line, and quote secrets in its messages.

mod scalar;

use super::layer::read_bounded;
use super::problem::{KeyPath, Problem};
use super::provenance::Provenance;
use super::schema::{TWIN_OF, alternatives, is_secret};
use serde_json::{Map, Value};

/// A file with secrets larger than this is refused, in bytes; a bundle of certificates is well below.
const MAX_SECRET_FILE: u64 = 256 * 1024;
/// Up to so many known keys are listed where no single one is near.
const MAX_LISTED: usize = 12;

/// What a walk found and must tell.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    provenance: &'a Provenance,
    /// The faults, without their places.
    pub(super) problems: Vec<Problem>,
    /// The text of every secret seen, and what a variable may have brought, so that no later message shows one.
    pub(super) secrets: Vec<String>,
}

impl<'a> Walk<'a> {
    /// A walk through a tree whose values come from `provenance`.
    pub(super) fn new(provenance: &'a Provenance) -> Self {
        Self { provenance, problems: Vec::new(), secrets: Vec::new() }
    }

    /// Checks `value` against `schema` and completes it in place.
    pub(super) fn visit(&mut self, schema: &Value, value: &mut Value, path: &KeyPath) {
        if let Some(list) = alternatives(schema).and_then(|list| list.iter().find(|schema| is_list_alone(schema))) {
            // Of the environment, which knows nothing but strings, where a word could stand as well.
            self.parse_text(list, value);
        }
        let Some(schema) = self.choose(schema, value, path) else { return };
        if value.is_null() && !allows(schema, "null") {
            if !allows(schema, "object") {
                self.fault(path, "has no value", Some("give it one, or take the key out".to_owned()));
                return;
            }
            // A section of which everything is commented out.
            *value = Value::Object(Map::new());
        }
        self.parse_text(schema, value);
        match value {
            Value::Object(table) if allows(schema, "object") => self.table(schema, table, path),
            Value::Array(list) if allows(schema, "array") => self.list(schema, list, path),
            _ => self.scalar(schema, value, path),
        }
    }

    fn fault(&mut self, path: &KeyPath, message: impl Into<String>, remedy: Option<String>) {
        let problem = Problem::new(path, message);
        self.problems.push(match remedy {
            Some(remedy) => problem.remedy(remedy),
            None => problem,
        });
    }

    /// The schema that applies where there is a choice; `None` if a fault was found or nothing is left to check.
    fn choose<'s>(&mut self, schema: &'s Value, value: &Value, path: &KeyPath) -> Option<&'s Value> {
        let Some(list) = alternatives(schema) else { return Some(schema) };
        let is_null = |schema: &&Value| schema.get("type").is_some_and(|kind| kind == "null");
        if value.is_null() && list.iter().any(|schema| is_null(&schema)) {
            return None;
        }
        let list: Vec<&Value> = list.iter().filter(|schema| !is_null(schema)).collect();
        if let [only] = list.as_slice() {
            return self.choose(only, value, path);
        }
        if list.iter().all(|schema| tag(schema).is_some()) {
            return self.choose_by_type(&list, value, path);
        }
        let words: Vec<&str> = list.iter().flat_map(|schema| scalar::words(schema)).collect();
        if words.len() >= list.len() {
            if value.as_str().is_none_or(|text| !words.contains(&text)) {
                self.not_a_word(&words, value, path);
            }
            return None;
        }
        let fitting = list.iter().find(|schema| scalar::type_names(value).iter().any(|kind| allows(schema, kind)));
        if fitting.is_none() {
            let wanted: Vec<String> = list.iter().map(|schema| scalar::wanted(schema)).collect();
            self.fault(path, format!("wants {}, not {}", wanted.join(" or "), scalar::kind_of(value)), None);
        }
        fitting.copied()
    }

    /// Tables that their `type` tells apart.
    fn choose_by_type<'s>(&mut self, list: &[&'s Value], value: &Value, path: &KeyPath) -> Option<&'s Value> {
        let Value::Object(table) = value else {
            self.fault(path, format!("wants a table, not {}", scalar::kind_of(value)), None);
            return None;
        };
        let words: Vec<&str> = list.iter().filter_map(|schema| tag(schema)).collect();
        let Some(kind) = table.get("type") else {
            self.fault(path, "lacks `type`", Some(format!("give it one of {}", words.join(", "))));
            return None;
        };
        let chosen = list.iter().find(|schema| tag(schema) == kind.as_str());
        if chosen.is_none() {
            self.not_a_word(&words, kind, &path.key("type"));
        }
        chosen.copied()
    }

    fn table(&mut self, schema: &Value, table: &mut Map<String, Value>, path: &KeyPath) {
        let nothing = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&nothing);
        self.read_twins(properties, table, path);
        self.place_default_paths(properties, table, path);
        for (key, value) in table.iter_mut() {
            let here = path.key(key);
            match (properties.get(key), schema.get("additionalProperties")) {
                (Some(known), _) => self.visit(known, value, &here),
                (None, Some(others @ Value::Object(_))) => self.visit(others, value, &here),
                (None, Some(Value::Bool(true))) => {}
                (None, _) => self.unknown(key, properties, &here),
            }
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for key in required.filter(|key| !table.contains_key(*key)) {
            self.fault(path, format!("lacks `{key}`"), Some(format!("give `{key}`")));
        }
        // `allOf` holds, for each required secret, that it or its file must be given; after `read_twins` it is there.
        let either = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        for key in either.filter_map(|choice| choice.pointer("/oneOf/0/required/0")).filter_map(Value::as_str) {
            // A twin that is still there could not be read, which is told already.
            if !table.contains_key(key) && !table.contains_key(&super::schema::twin(key)) {
                self.fault(path, format!("lacks `{key}`"), Some(format!("give `{key}` or `{key}_file`")));
            }
        }
    }

    fn list(&mut self, schema: &Value, list: &mut [Value], path: &KeyPath) {
        let Some(items) = schema.get("items") else { return };
        for (place, value) in list.iter_mut().enumerate() {
            self.visit(items, value, &path.index(place));
        }
    }

    fn unknown(&mut self, key: &str, properties: &Map<String, Value>, path: &KeyPath) {
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let remedy = nearest(key, &known)
            .map(|near| format!("did you mean `{near}`?"))
            .or_else(|| (known.len() <= MAX_LISTED).then(|| format!("known here are {}", known.join(", "))));
        self.fault(path, "unknown key", remedy);
    }

    fn not_a_word(&mut self, words: &[&str], value: &Value, path: &KeyPath) {
        let listed = format!("one of {}", words.join(", "));
        let Some(text) = value.as_str() else {
            self.fault(path, format!("wants {listed}, not {}", scalar::kind_of(value)), None);
            return;
        };
        let remedy = nearest(text, words).map(|near| format!("did you mean `{near}`?"));
        self.fault(path, format!("{} is not {listed}", self.quote(text, path)), remedy);
    }

    /// Puts what the files named by `<key>_file` hold in the place of the keys.
    fn read_twins(&mut self, properties: &Map<String, Value>, table: &mut Map<String, Value>, path: &KeyPath) {
        for (twin, schema) in properties {
            let Some(key) = schema.get(TWIN_OF).and_then(Value::as_str) else { continue };
            let (here, Some(file)) = (path.key(twin), table.get(twin)) else { continue };
            if table.contains_key(key) {
                let remedy = format!("keep either `{key}` or `{twin}`");
                self.fault(&here, format!("stands beside `{key}`"), Some(remedy));
                continue;
            }
            let Some(file) = file.as_str() else { continue };
            let file = self.provenance.folder(&here).join(file);
            match read_bounded(&file, MAX_SECRET_FILE) {
                Ok(text) => {
                    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
                    let is_list = properties.get(key).is_some_and(|schema| schema.get("items").is_some());
                    let lines = text.split('\n').map(|line| Value::from(line.strip_suffix('\r').unwrap_or(line)));
                    let value = if is_list { lines.collect() } else { Value::from(text) };
                    table.remove(twin);
                    table.insert(key.to_owned(), value);
                }
                Err(reason) => {
                    let remedy = Some("check the path and who may read it".to_owned());
                    self.fault(&here, format!("{} cannot be read: {reason}", file.display()), remedy);
                }
            }
        }
    }

    /// Default paths count from the configuration's folder, as written ones do.
    fn place_default_paths(&self, properties: &Map<String, Value>, table: &mut Map<String, Value>, path: &KeyPath) {
        for (key, schema) in properties {
            // Where a path is required, the struct's own default is empty.
            let default = schema.get("default").and_then(Value::as_str).filter(|default| !default.is_empty());
            if let (true, Some(default), None) = (scalar::is_path(schema), default, table.get(key)) {
                let placed = scalar::beside(self.provenance.folder(&path.key(key)), default);
                table.insert(key.clone(), Value::from(placed));
            }
        }
    }

    /// `text` in quotes, unless it may be a secret.
    fn quote(&self, text: &str, path: &KeyPath) -> String {
        const MAX_QUOTED: usize = 60;
        if self.provenance.is_from_variable(path) || text.chars().count() > MAX_QUOTED {
            "what is given".to_owned()
        } else {
            format!("`{}`", text.escape_debug())
        }
    }
}

/// The value that `type` must have, of a table among several that it tells apart.
fn tag(schema: &Value) -> Option<&str> {
    schema.pointer("/properties/type/const").and_then(Value::as_str)
}

/// Whether the schema takes lists and nothing else.
fn is_list_alone(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "array")
}

/// Whether the schema takes values of the JSON type `kind`; one without `type` takes all.
fn allows(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        None => schema != &Value::Bool(false),
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        Some(one) => one == kind,
    }
}

/// The known word most like `word`, if any is alike enough to be meant.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let alike = |known: &&str| strsim::jaro_winkler(&word.to_lowercase(), known);
    known
        .iter()
        .map(|known| (alike(known), *known))
        .filter(|(alike, _)| *alike > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}
