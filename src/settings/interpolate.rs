//! `${VAR}`, `${VAR:-default}` and `$$` in string values. One pass: what a variable holds is never looked at again.

/// Why a string cannot be completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InterpolateError {
    /// No such variable, and no default.
    #[error("the variable {0} is not set")]
    Unset(String),
    /// Set, but not text.
    #[error("the variable {0} is not UTF-8")]
    NotUnicode(String),
    /// `${` without `}`, or no name between them.
    #[error("a `${{` is not followed by a variable's name and `}}`")]
    Malformed,
}

/// A string with its variables put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Completed {
    /// The result.
    pub(super) text: String,
    /// Whether a variable gave part of it, which may be a secret: messages must not quote it.
    pub(super) from_variable: bool,
}

/// Completes `text`; `lookup` gives a variable's value, `None` if it is not set.
///
/// `:-` takes the default for an empty variable too, as shells do. A `$` before anything else stands for itself.
///
/// # Errors
/// See [`InterpolateError`].
pub(super) fn interpolate<'e, E>(
    text: &str,
    lookup: impl Fn(&str) -> Result<Option<&'e str>, E>,
) -> Result<Completed, InterpolateError> {
    let mut done = Completed { text: String::with_capacity(text.len()), from_variable: false };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            done.text.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or(InterpolateError::Malformed)?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_name(name) {
                return Err(InterpolateError::Malformed);
            }
            let value = lookup(name).map_err(|_| InterpolateError::NotUnicode(name.to_owned()))?;
            let value = match (value, default) {
                (Some("") | None, Some(default)) => default,
                (Some(value), _) => value,
                (None, None) => return Err(InterpolateError::Unset(name.to_owned())),
            };
            done.text.push_str(value);
            done.from_variable = true;
            rest = after;
        } else {
            done.text.push('$');
            rest = after;
        }
    }
    done.text.push_str(rest);
    Ok(done)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Result<String, InterpolateError> {
        let lookup = |name: &str| match name {
            "A" => Ok(Some("x")),
            "EMPTY" => Ok(Some("")),
            "NESTED" => Ok(Some("${A}$$")),
            "BYTES" => Err(()),
            _ => Ok(None),
        };
        interpolate(text, lookup).map(|done| done.text)
    }

    #[test]
    fn variables_defaults_and_doubled_dollars() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("${A}", "x"),
            ("-${A}${A}-", "-xx-"),
            ("${MISSING:-d}", "d"),
            ("${MISSING:-}", ""),
            ("${MISSING:-a:-b}", "a:-b"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$$$$", "$$"),
            ("5$ $A", "5$ $A"),
            ("$", "$"),
            ("é${A}ü", "éxü"),
        ] {
            assert_eq!(complete(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_a_variable_holds_is_never_looked_at_again() {
        assert_eq!(complete("${NESTED}").as_deref(), Ok("${A}$$"));
    }

    #[test]
    fn faults() {
        assert_eq!(complete("${MISSING}"), Err(InterpolateError::Unset("MISSING".into())));
        assert_eq!(complete("${BYTES}"), Err(InterpolateError::NotUnicode("BYTES".into())));
        for text in ["${", "${A", "${}", "${1A}", "${A B}", "${:-x}"] {
            assert_eq!(complete(text), Err(InterpolateError::Malformed), "{text}");
        }
    }
}
