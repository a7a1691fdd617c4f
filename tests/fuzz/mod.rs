//! Parsers under random input: what they accept and refuse is held against properties, not only against a panic. The
//! targets of what is private to the store (frames, ids, letters) are beside it, in `src/store`.
#![cfg(test)]

mod decode;
mod driver;
mod json;
mod queries;
mod replies;
mod route;
mod settings;
mod verify;

use crate::support::seed;
use driver::{Outcome, Target, files};

/// What is there of the provider's shapes.
const EVENTS: &[&str] = &["tests/data/e2b/events.json", "tests/data/e2b/events-wrapped.json"];
