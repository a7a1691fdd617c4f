//! `deploy/docker`: the image and the composition, held against the rest of the repository and the world's own schemas and
//! linters; the composition's relay run against real brokers; in the soak the image built, and run as a container.

mod compose;
mod composed;
mod container;
mod dockerfile;

use crate::sdk::python;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The schema of one kind of file, as check-jsonschema has it.
pub(crate) async fn schema(name: &str) -> Value {
    // …/bin/python
    let environment = PathBuf::from(python().await).parent().unwrap().parent().unwrap().to_owned();
    let of_python = std::fs::read_dir(environment.join("lib")).unwrap().next().unwrap().unwrap().path();
    let schemas = of_python.join("site-packages/check_jsonschema/builtin_schemas/vendor");
    serde_json::from_str(&std::fs::read_to_string(schemas.join(name)).unwrap()).unwrap()
}

/// What a schema says against a file's content.
pub(crate) fn faults(schema: &Value, content: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(content).map(|fault| format!("{}: {fault}", fault.instance_path())).collect()
}

/// How long a daemon may take to end: open requests, the drain, what the log still has to say.
fn ending() -> Duration {
    e2b_relay::app::LAST_REQUESTS + e2b_relay::deliver::DRAIN + e2b_relay::app::LAST_LINES
}
