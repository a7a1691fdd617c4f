//! What E2B's cloud sends today: snake_case, with `id`, `type` and `version`. Its spelling is the record's too.
//!
//! Source: e2b-dev/infra `packages/shared/pkg/events/sandbox.go`.

use super::fields::Field;

/// The record's field that `name` is.
pub(super) fn field(name: &str) -> Option<Field> {
    Field::ALL.into_iter().find(|field| field.name() == name)
}
