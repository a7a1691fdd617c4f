//! Telling an absent key from every other failure of a filter, and saying either without quoting the record.

use cel::{ExecutionError, ParseErrors, Value};

/// A filter cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is no expression of the language, or names a function that does not exist.
    #[error("column {column}: {problem}")]
    Syntax {
        /// In characters of its line, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// It is one, but not to be run on strangers' records.
    #[error("{0}")]
    Unsuitable(String),
}

impl From<ParseErrors> for FilterError {
    fn from(errors: ParseErrors) -> Self {
        match errors.errors.first() {
            Some(first) => Self::Syntax {
                column: usize::try_from(first.pos.1).unwrap_or(0).max(1),
                problem: first.msg.trim().replace('\n', " "),
            },
            None => Self::Unsuitable("not an expression".to_owned()),
        }
    }
}

/// Why an expression gave neither true nor false.
pub(super) enum Failure {
    /// A key on its way is absent or null.
    Absent,
    /// Anything else, in words that quote no value.
    Fault(String),
}

/// The name of null's type in the language's messages.
const NULL: &str = "null_type";

/// Sorts a failure. Null where a value was needed counts as an absent key: the provider sends both for one thing.
pub(super) fn classify(error: &ExecutionError) -> Failure {
    use ExecutionError as E;
    let fault = |problem: String| Failure::Fault(problem);
    match error {
        E::NoSuchKey(_) | E::UndeclaredReference(_) => Failure::Absent,
        E::NoSuchOverload(overload) if overload.argument_types().iter().any(|kind| kind == NULL) => Failure::Absent,
        E::UnexpectedType { got, .. } if got == NULL => Failure::Absent,
        E::ValuesNotComparable(left, right)
        | E::UnsupportedBinaryOperator(_, left, right)
        | E::UnsupportedIndex(left, right)
            if is_null(left) || is_null(right) =>
        {
            Failure::Absent
        }
        E::UnsupportedTargetType { target } | E::NotSupportedAsMethod { target, .. } if is_null(target) => {
            Failure::Absent
        }
        E::UnsupportedKeyType(key) if is_null(key) => Failure::Absent,
        E::NoSuchOverload(overload) => fault(overload.to_string()),
        E::UnexpectedType { got, want } => fault(format!("found {got} where {want} is needed")),
        E::ValuesNotComparable(left, right) => {
            fault(format!("{} cannot be compared to {}", left.type_of(), right.type_of()))
        }
        E::UnsupportedBinaryOperator(operator, left, right) => {
            fault(format!("`{operator}` is not defined for {} and {}", left.type_of(), right.type_of()))
        }
        E::UnsupportedIndex(index, of) => fault(format!("{} cannot index {}", index.type_of(), of.type_of())),
        E::UnsupportedTargetType { target } | E::NotSupportedAsMethod { target, .. } => {
            fault(format!("not defined for {}", target.type_of()))
        }
        E::UnsupportedKeyType(key) => fault(format!("{} cannot be a key", key.type_of())),
        E::FunctionError { function, .. } => fault(format!("`{function}` failed on the record's value")),
        E::InvalidArgumentCount { expected, actual } => {
            fault(format!("a function takes {expected} arguments and was given {actual}"))
        }
        E::MissingArgumentOrTarget => fault("a function lacks an argument".to_owned()),
        E::DivisionByZero(_) | E::RemainderByZero(_) => fault("division by zero".to_owned()),
        E::Overflow(operator, ..) => fault(format!("the result of `{operator}` is too large")),
        E::IndexOutOfBounds(_) => fault("a list is shorter than the index".to_owned()),
        E::DuplicateKey(_) => fault("a map has a key twice".to_owned()),
        // The enum is open: what a later version adds is a fault, and is not quoted.
        _ => fault("the expression cannot be worked out".to_owned()),
    }
}

fn is_null(value: &Value) -> bool {
    matches!(value, Value::Null)
}
