//! Addresses made of a record: `e2b.{{ type }}.{{ sandbox_id }}`.
//!
//! The operator's literal text is checked once, when the template is read; what an expression puts in is escaped each
//! time, so that it is one token whatever a stranger wrote into the metadata.

mod escape;
mod expression;

pub use escape::Escape;

use super::quotes;
use super::view::View;
use expression::Expression;

/// A template longer than this is no address; in bytes.
const MAX_TEMPLATE_BYTES: usize = 4096;

/// A template, compiled.
#[derive(Debug)]
pub struct Template {
    escape: Escape,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Expression(Expression),
}

/// A template cannot be read, or gives no address for this record. Never quotes the record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is no template.
    #[error("column {column}: {problem}")]
    Syntax {
        /// In characters, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The text is a template, but none that this kind of address can come of.
    #[error("{problem}")]
    Unsuitable {
        /// What is wrong with it.
        problem: String,
    },
    /// An expression's value is absent, null or an empty string.
    #[error("`{{{{ {expression} }}}}` is empty or absent")]
    Empty {
        /// As it was written.
        expression: String,
    },
    /// An expression's value is a list or an object.
    #[error("`{{{{ {expression} }}}}` is a list or an object, an address takes one value")]
    NotOneValue {
        /// As it was written.
        expression: String,
    },
    /// An expression could not be worked out.
    #[error("`{{{{ {expression} }}}}` failed: {problem}")]
    Failed {
        /// As it was written.
        expression: String,
        /// The engine's word for it.
        problem: String,
    },
    /// The address is longer than the broker takes.
    #[error("the {kind} would be {bytes} bytes long, over the limit of {limit}")]
    TooLong {
        /// What was to be rendered.
        kind: &'static str,
        /// Length with every value escaped.
        bytes: usize,
        /// Of [`Escape::max_bytes`].
        limit: usize,
    },
}

impl Template {
    /// Reads a template for the kind of address that `escape` names.
    pub fn parse(text: &str, escape: Escape) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(unsuitable(format!("a template is at most {MAX_TEMPLATE_BYTES} bytes long")));
        }
        let template = Self { escape, parts: split(text, escape)? };
        template.check_shape()?;
        Ok(template)
    }

    /// The address of a record.
    pub fn render(&self, view: &View<'_>) -> Result<String, TemplateError> {
        let mut address = String::with_capacity(64);
        for part in &self.parts {
            match part {
                Part::Literal(text) => address.push_str(text),
                Part::Expression(expression) => {
                    let value = expression.evaluate(view)?;
                    // A body may hold a megabyte of one string: no need to escape all of it to refuse it.
                    let at_least = address.len() + self.escape.least_bytes(&value);
                    if at_least > self.escape.max_bytes() {
                        return Err(self.too_long(at_least));
                    }
                    if expression.is_type() {
                        self.escape.dotted(&value, &mut address);
                    } else {
                        self.escape.token(&value, &mut address);
                    }
                }
            }
        }
        if address.len() > self.escape.max_bytes() {
            return Err(self.too_long(address.len()));
        }
        Ok(address)
    }

    /// The literal text before the first expression.
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(text)) => text,
            _ => "",
        }
    }

    /// Whether every record gets the same address.
    pub fn is_literal(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Expression(_)))
    }

    /// Whether an expression reads the top-level field `name`. What does not read `sandbox_id` puts many sandboxes
    /// under one address; what reads another field too may spread one sandbox over several.
    pub fn reads(&self, name: &str) -> bool {
        self.expressions().any(|expression| expression.reads(name))
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expression) => Some(expression),
            Part::Literal(_) => None,
        })
    }

    /// What only the whole shows: the literal text with a letter in each expression's place.
    fn check_shape(&self) -> Result<(), TemplateError> {
        let name = self.escape.name();
        let shape: String = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.as_str(),
                Part::Expression(_) => "x",
            })
            .collect();
        if shape.len() > self.escape.max_bytes() {
            return Err(self.too_long(shape.len()));
        }
        match self.escape {
            Escape::KafkaTopic | Escape::NatsSubject if shape.is_empty() => {
                Err(unsuitable(format!("a {name} cannot be empty")))
            }
            Escape::KafkaTopic if matches!(shape.as_str(), "." | "..") => {
                Err(unsuitable(format!("a {name} cannot be `{shape}`")))
            }
            // A topic that a stranger's text alone names could be any topic of the cluster.
            Escape::KafkaTopic if !self.is_literal() && self.literal_prefix().is_empty() => {
                Err(unsuitable(format!("a {name} must begin with literal text, such as `e2b.`")))
            }
            Escape::NatsSubject if shape.split('.').any(str::is_empty) => {
                Err(unsuitable(format!("a {name} has no empty tokens: no dot at either end, no two dots together")))
            }
            _ => Ok(()),
        }
    }

    fn too_long(&self, bytes: usize) -> TemplateError {
        TemplateError::TooLong { kind: self.escape.name(), bytes, limit: self.escape.max_bytes() }
    }
}

fn unsuitable(problem: String) -> TemplateError {
    TemplateError::Unsuitable { problem }
}

/// Cuts a template into literal text and expressions, and checks both.
fn split(text: &str, escape: Escape) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut column = 1;
    let mut rest = text;
    loop {
        let (literal, after) = rest.split_once("{{").map_or((rest, None), |(literal, after)| (literal, Some(after)));
        check_literal(literal, column, escape)?;
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        column += literal.chars().count();
        let Some(after) = after else { return Ok(parts) };
        let end = expression_end(after, column)?;
        let (expression, after) = after.split_at(end);
        parts.push(Part::Expression(Expression::parse(expression, column)?));
        column += expression.chars().count() + "{{}}".len();
        rest = after.strip_prefix("}}").unwrap_or(after);
    }
}

fn check_literal(literal: &str, column: usize, escape: Escape) -> Result<(), TemplateError> {
    for stray in ["}}", "{%", "{#"] {
        if let Some((before, _)) = literal.split_once(stray) {
            let column = column + before.chars().count();
            let problem = format!("stray `{stray}`; a template knows `{{{{ … }}}}` and nothing else");
            return Err(TemplateError::Syntax { column, problem });
        }
    }
    match literal.chars().enumerate().find(|(_, letter)| escape.refuses_literal(*letter)) {
        Some((index, letter)) => {
            let problem = format!("{letter:?} cannot stand in a {}", escape.name());
            Err(TemplateError::Syntax { column: column + index, problem })
        }
        None => Ok(()),
    }
}

/// The byte at which the `}}` of an expression stands; those within quotes do not count.
fn expression_end(text: &str, column: usize) -> Result<usize, TemplateError> {
    for (index, letter) in quotes::outside(text) {
        match letter {
            // `"x" * event_data.n` would let a stranger ask for a hundred megabytes.
            '*' => {
                let before = text.get(..index).map_or(0, |before| before.chars().count());
                let column = column + "{{".len() + before;
                return Err(TemplateError::Syntax { column, problem: "`*` is not offered in templates".to_owned() });
            }
            '}' if text.get(index..).is_some_and(|rest| rest.starts_with("}}")) => return Ok(index),
            _ => {}
        }
    }
    Err(TemplateError::Syntax { column, problem: "`{{` without `}}`".to_owned() })
}

#[cfg(test)]
mod tests;
