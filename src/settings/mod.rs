//! From files and the environment to checked settings.
//!
//! ```text
//! files ─► layers ─┐            variables, provenance          schema walk         serde        checks across rooms
//! environment ─────┴─► merge ───────────────────────► tree ───────────────► tree ───────► Settings ───────► Loaded
//! ```
//!
//! Each room has its own settings struct, whose doc comments are the manual; this room composes them, and knows how
//! they are written down. Every fault found at one stage is reported, not only the first.

mod check;
mod defaults;
mod deprecated;
mod interpolate;
mod layer;
mod problem;
mod provenance;
mod said;
mod schema;
mod show;
mod sinks;
mod walk;

pub use layer::{Environment, PREFIX, read_bounded};
pub use problem::{KeyPath, Place, Problem, Problems, Step};
pub use said::Said;
pub use show::to_yaml;
pub use sinks::{SinkKind, SinkSettings};

use crate::source;
use crate::store;
use crate::{admin, http};
use deprecated::Deprecated;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole configuration.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "e2b-relay", description = "The configuration of e2b-relay.")]
pub struct Settings {
    /// The public listener: deliveries, and `GET /readyz` for load balancers.
    #[serde(default)]
    pub server: http::Settings,
    /// The operators' listener: metrics and health.
    #[serde(default)]
    pub admin: admin::Settings,
    /// The durable log of what was accepted.
    #[serde(default)]
    pub store: store::Settings,
    /// Where events come from, by name; one per E2B team or self-hosted installation.
    #[serde(default)]
    pub sources: BTreeMap<String, source::Settings>,
    /// Where records go, by name.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkSettings>,
}

/// Settings that passed every check.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings, defaults filled in, secrets read, paths absolute.
    pub settings: Settings,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Problem>,
    /// The settings for people to read, with every credential masked.
    pub shown: Value,
    /// The same to be compared with the next ones.
    pub said: Said,
}

/// Sections that are there even when they are left out.
const ALWAYS: [&str; 3] = ["server", "admin", "store"];

/// Reads, merges and checks; for the daemon, which takes the files that the settings name, so that they are checked too.
///
/// # Errors
/// Everything that is wrong, as far as it can be seen at once. No message holds a secret.
pub fn load(files: &[PathBuf], environment: &Environment) -> Result<Loaded, Problems> {
    load_with(files, environment, deprecated::DEPRECATED, true)
}

/// The same for who only asks a daemon, or looks at the settings: he needs no certificate, and may not be able to read one.
///
/// # Errors
/// As [`load`].
pub fn read(files: &[PathBuf], environment: &Environment) -> Result<Loaded, Problems> {
    load_with(files, environment, deprecated::DEPRECATED, false)
}

/// The same with other old names than this version's own.
fn load_with(
    files: &[PathBuf],
    environment: &Environment,
    old_names: &[Deprecated],
    checks_files: bool,
) -> Result<Loaded, Problems> {
    let (mut tree, mut provenance) = provenance::merge(files, environment)?;
    let mut warnings = Vec::new();
    let faults = deprecated::rename(old_names, &mut tree, &mut provenance, &mut warnings);
    if !faults.is_empty() {
        return Err(Problems(faults));
    }
    if let Value::Object(tree) = &mut tree {
        for section in ALWAYS {
            // So that their default paths too are placed beside the file.
            tree.entry(section).or_insert_with(|| Value::Object(Map::new()));
        }
    }
    let mut walk = walk::Walk::new(&provenance);
    walk.visit(&schema::schema_of::<Settings>(), &mut tree, &KeyPath::root());
    let walk::Walk { problems, mut secrets, .. } = walk;
    secrets.extend_from_slice(provenance.variables());
    let tell = |problems: Vec<Problem>, secrets: &[String]| -> Vec<Problem> {
        problems.into_iter().map(|problem| provenance.locate(redact(problem, secrets))).collect()
    };
    if !problems.is_empty() {
        return Err(Problems(tell(problems, &secrets)));
    }
    let mut settings: Settings = serde_path_to_error::deserialize(&tree)
        .map_err(|error| Problems(tell(vec![typed_problem(&error, &provenance)], &secrets)))?;
    defaults::of_environment(&mut settings, environment, &mut secrets)
        .map_err(|problem| Problems(tell(vec![problem], &secrets)))?;
    let findings = check::check(&settings, &provenance, checks_files);
    if !findings.errors.is_empty() {
        return Err(Problems(tell(findings.errors, &secrets)));
    }
    defaults::of_keys(&mut settings);
    let shown = show::masked(&settings, &tree)
        .map_err(|error| Problem::new(&KeyPath::root(), format!("cannot be shown: {error}")))?;
    warnings.append(&mut tell(findings.warnings, &secrets));
    Ok(Loaded { settings, warnings, shown, said: Said::of(&tree) })
}

/// Masks what must not be seen, should a message quote it after all: other rooms and libraries word some of them.
fn redact(mut problem: Problem, secrets: &[String]) -> Problem {
    /// A shorter text is no secret, and would be found in the middle of words.
    const SHORTEST: usize = 6;
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST) {
        problem.message = problem.message.replace(secret.as_str(), crate::secret::MASK);
        problem.remedy = problem.remedy.map(|remedy| remedy.replace(secret.as_str(), crate::secret::MASK));
    }
    problem
}

/// The JSON Schema of the configuration (2020-12).
pub fn schema() -> Value {
    let mut schema = schema::schema_of::<Settings>();
    deprecated::mark(deprecated::DEPRECATED, &mut schema);
    schema
}

/// What serde minds although the walk did not: an address, a number's range, a time.
fn typed_problem(
    error: &serde_path_to_error::Error<serde_json::Error>,
    provenance: &provenance::Provenance,
) -> Problem {
    let key = error.path().iter().fold(KeyPath::root(), |key, step| match step {
        serde_path_to_error::Segment::Map { key: name } => key.key(name),
        serde_path_to_error::Segment::Seq { index } => key.index(*index),
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => key,
    });
    let message = error.inner().to_string();
    // A sink's own keys are read apart, and their path is then at the head of the message.
    let (key, message) = match message.split_once(": ") {
        Some((path, rest)) if key.matches("sinks.*") && !path.contains(' ') => {
            (path.split('.').fold(key, |key, name| key.key(name)), rest.to_owned())
        }
        _ => (key, message),
    };
    if provenance.holds_variable(&key) {
        // Serde quotes the value, and a variable may hold a secret that was put into the wrong key.
        return Problem::new(&key, "is not valid here").remedy("look at what the variable holds");
    }
    Problem::new(&key, message)
}
