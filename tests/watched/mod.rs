//! What `deploy/` has for operators to watch by: alert rules and a dashboard, by Prometheus' own tool and server.

mod alerts;
mod dashboard;
mod rules;
mod server;

use std::path::{Path, PathBuf};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}
