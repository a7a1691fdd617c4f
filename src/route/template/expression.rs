//! What stands between `{{` and `}}`: one expression of the Jinja language over the record.
//!
//! Only expressions, no statements: a template has a fixed number of parts, no loop, no include, and its literal text
//! is known when it is read. minijinja evaluates; every plain top-level field is answered without it.

use super::TemplateError;
use crate::route::view::{Field, View};
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// One compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    text: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A top-level field by its name.
    Field,
    /// Anything else, with the top-level names it reads.
    Computed { compiled: minijinja::Expression<'static, 'static>, roots: BTreeSet<String> },
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    // A path through what is absent is itself absent; that it is empty is found at the end, with the expression's name.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.add_filter("default", |value: Value, fallback: Value| if is_empty(&value) { fallback } else { value });
    environment
});

impl Expression {
    /// Compiles `text`; `column` is where it begins.
    pub(super) fn parse(text: &str, column: usize) -> Result<Self, TemplateError> {
        let text = text.trim();
        let error = |problem: String| TemplateError::Syntax { column, problem };
        if text.is_empty() {
            return Err(error("nothing stands between {{ and }}".to_owned()));
        }
        if is_name(text) {
            return Ok(Self { text: text.to_owned(), kind: Kind::Field });
        }
        let compiled = ENVIRONMENT.compile_expression_owned(text.to_owned()).map_err(|e| error(words(&e)))?;
        // An unknown filter shows only when it runs; absent fields make no other error.
        if let Err(e) = compiled.eval(Value::from_pairs::<_, &str, Value>([]))
            && matches!(
                e.kind(),
                ErrorKind::UnknownFilter
                    | ErrorKind::UnknownFunction
                    | ErrorKind::UnknownTest
                    | ErrorKind::UnknownMethod
                    | ErrorKind::MissingArgument
                    | ErrorKind::TooManyArguments
            )
        {
            return Err(error(words(&e)));
        }
        Ok(Self { text: text.to_owned(), kind: Kind::Computed { compiled, roots: roots(text) } })
    }

    /// Whether it is the record's `type` and nothing else, whose dots are the provider's.
    pub(super) fn is_type(&self) -> bool {
        self.text == "type"
    }

    /// Whether it reads the top-level field `name`.
    pub(super) fn reads(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Field => self.text == name,
            Kind::Computed { roots, .. } => roots.contains(name),
        }
    }

    /// The value as text, never empty.
    pub(super) fn evaluate<'a>(&self, view: &View<'a>) -> Result<Cow<'a, str>, TemplateError> {
        let empty = || TemplateError::Empty { expression: self.text.clone() };
        let composite = || TemplateError::NotOneValue { expression: self.text.clone() };
        let (compiled, roots) = match &self.kind {
            Kind::Field => {
                return match view.field(&self.text) {
                    Field::Scalar(text) => Ok(text),
                    Field::Empty => Err(empty()),
                    Field::Composite => Err(composite()),
                };
            }
            Kind::Computed { compiled, roots } => (compiled, roots),
        };
        let failed = |problem: String| TemplateError::Failed { expression: self.text.clone(), problem };
        let tree = view.tree().map_err(|problem| failed(problem.to_owned()))?;
        let names = roots.iter().filter_map(|name| Some((name.as_str(), Value::from(Serde(tree.get(name)?)))));
        // Only the kind of error: its detail may quote the record.
        let value = compiled.eval(Value::from_pairs(names)).map_err(|error| failed(error.kind().to_string()))?;
        match value.kind() {
            _ if is_empty(&value) => Err(empty()),
            // As JSON writes it; the engine would write `True`.
            ValueKind::Bool => Ok(Cow::Borrowed(if value.is_true() { "true" } else { "false" })),
            ValueKind::String | ValueKind::Number => Ok(Cow::Owned(value.to_string())),
            _ => Err(composite()),
        }
    }
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && !matches!(text, "true" | "True" | "false" | "False" | "none" | "None")
}

fn is_empty(value: &Value) -> bool {
    value.is_undefined() || value.is_none() || value.as_str().is_some_and(str::is_empty)
}

/// The names that begin a path: those outside quotes that follow no dot. A filter's name may be among them, which only
/// makes one more field available; minijinja's own list lacks what stands before a slice.
fn roots(text: &str) -> BTreeSet<String> {
    let mut roots = BTreeSet::new();
    let mut quote = None;
    let mut after_dot = false;
    let mut name = String::new();
    let mut letters = text.chars().chain([' ']);
    while let Some(letter) = letters.next() {
        match quote {
            Some(_) if letter == '\\' => drop(letters.next()),
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter.is_ascii_alphanumeric() || letter == '_' => {
                name.push(letter);
                continue;
            }
            None => {
                if !name.is_empty() {
                    let ended = std::mem::take(&mut name);
                    if !std::mem::take(&mut after_dot) {
                        roots.insert(ended);
                    }
                }
                if matches!(letter, '"' | '\'') {
                    quote = Some(letter);
                }
                if !letter.is_whitespace() {
                    after_dot = letter == '.';
                }
            }
        }
    }
    roots
}

/// minijinja's own words, without the line and the name of a template that has neither.
fn words(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
