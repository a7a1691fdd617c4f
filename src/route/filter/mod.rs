//! Which records a sink wants, as an expression of the Common Expression Language over the record:
//! `event_data.sandbox_metadata.env == "prod"`.
//!
//! A record is made by strangers, so a filter meets records that lack what it asks for. That is no fault of the
//! filter: the record does not match, and is counted apart. Anything else that goes wrong is the operator's to see.

mod check;
mod outcome;

pub use outcome::FilterError;
use outcome::{Failure, classify};

use super::quotes;
use super::view::View;
use cel::objects::Map;
use cel::{Context, Env, IdedExpr, Program, Value};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// A filter longer than this is no filter; in bytes.
const MAX_FILTER_BYTES: usize = 8192;

/// A sum is as deep as it is long, and the language's parser goes all the way down: some two hundred terms are more than a
/// thread's stack holds.
const MAX_ARITHMETIC: usize = 64;

/// The language's standard functions and macros, and the optional syntax (`event_data.?env.orValue("none")`).
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A filter, compiled.
pub struct Filter {
    text: String,
    program: Program,
    /// The top-level fields that it reads; the others are never converted.
    fields: Vec<String>,
}

/// What a filter says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is wanted.
    Match,
    /// It is not.
    NoMatch,
    /// It is not, and only because a key that the filter reads is absent or null.
    Absent,
}

/// The filter failed on a record, other than by an absent key. Names types and functions, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterFault(String);

impl Filter {
    /// Compiles `text`. A function that does not exist is found here, not when the first record comes.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_FILTER_BYTES {
            return Err(FilterError::Unsuitable(format!("a filter is at most {MAX_FILTER_BYTES} bytes long")));
        }
        if arithmetic(text) > MAX_ARITHMETIC {
            let problem = format!("a filter has at most {MAX_ARITHMETIC} of the operators + - * / %");
            return Err(FilterError::Unsuitable(problem));
        }
        let program = ENVIRONMENT.compile(text).map_err(FilterError::from)?;
        check::functions_exist(&program, text)?;
        check::loops_are_not_nested(&program, text)?;
        let fields = program.references().variables().into_iter().map(str::to_owned).collect();
        Ok(Self { text: text.to_owned(), program, fields })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the filter wants the record.
    pub fn matches(&self, view: &View<'_>) -> Result<Verdict, FilterFault> {
        let tree = view.tree().map_err(|problem| FilterFault(problem.to_owned()))?;
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for name in &self.fields {
            if let Some(value) = tree.get(name) {
                context.add_variable_from_value(name.as_str(), to_cel(value));
            }
        }
        let expression = self.program.expression();
        match evaluate(expression, &context) {
            Ok(true) => Ok(Verdict::Match),
            Ok(false) => Ok(Verdict::NoMatch),
            Err(Failure::Fault(problem)) => Err(FilterFault(problem)),
            Err(Failure::Absent) => match hidden_fault(expression, &context) {
                Some(problem) => Err(FilterFault(problem)),
                None => Ok(Verdict::Absent),
            },
        }
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

/// How many operators of arithmetic stand outside quotes.
fn arithmetic(text: &str) -> usize {
    quotes::outside(text).filter(|(_, letter)| matches!(letter, '+' | '-' | '*' | '/' | '%')).count()
}

fn evaluate(expression: &IdedExpr, context: &Context<'_, '_>) -> Result<bool, Failure> {
    match context.resolve(expression) {
        Ok(Value::Bool(answer)) => Ok(answer),
        Ok(Value::Null) => Err(Failure::Absent),
        Ok(other) => Err(Failure::Fault(format!("the filter gave {}, not true or false", other.type_of()))),
        Err(error) => Err(classify(&error)),
    }
}

/// Where both sides of `&&` or `||` fail the language reports one of them; if that one is an absent key, the other
/// may still be a fault, and then the record did not fail *only* for the key.
fn hidden_fault(expression: &IdedExpr, context: &Context<'_, '_>) -> Option<String> {
    use cel::common::ast::{Expr, operators};
    let Expr::Call(call) = &expression.expr else { return None };
    match call.func_name.as_str() {
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
            call.args.iter().find_map(|side| match evaluate(side, context) {
                Ok(_) => None,
                Err(Failure::Fault(problem)) => Some(problem),
                Err(Failure::Absent) => hidden_fault(side, context),
            })
        }
        _ => None,
    }
}

/// A JSON number without fraction becomes an `int`, so that `memory_mb + 1` is not a sum of `uint` and `int`.
fn to_cel(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(to_cel).collect())),
        serde_json::Value::Object(members) => {
            let members: HashMap<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), to_cel(value))).collect();
            Value::Map(Map::from(members))
        }
    }
}

#[cfg(test)]
mod tests;
