//! Rows that are not as the specification has them, of those sandboxes that the fault marks: always the same ones.

use crate::simulator::faults::Fault;
use crate::simulator::provider::Shared;
use crate::simulator::samples::hash;
use serde_json::{Value, json};

/// `row`, which is of that sandbox, or what came in its place.
pub(super) fn row(shared: &Shared, sandbox_id: &str, row: Value) -> Value {
    let number = hash(sandbox_id).rotate_left(32);
    if !shared.options.faults.marks(Fault::OddRows, number) {
        return row;
    }
    match number % 3 {
        0 => Value::Null,
        1 => json!({"sandboxID": sandbox_id, "templateID": null}),
        _ => of_other_types(row),
    }
}

/// Numbers where text should be, and the other way round; the sandbox's id is still one.
fn of_other_types(mut row: Value) -> Value {
    for (key, value) in row.as_object_mut().into_iter().flatten() {
        match value {
            Value::Number(number) => *value = Value::from(number.to_string()),
            Value::String(_) if key != "sandboxID" => *value = Value::from(7),
            _ => {}
        }
    }
    row
}
