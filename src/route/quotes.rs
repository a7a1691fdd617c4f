//! Quotes in filters and in the expressions of templates.

/// The letters that stand outside of them, and at which bytes. A quote that is not closed reaches to the end.
pub(super) fn outside(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quote, mut is_escaped) = (None, false);
    text.char_indices().filter(move |(_, letter)| {
        match (quote, *letter) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, letter @ ('"' | '\'')) => quote = Some(letter),
            (None, _) => return true,
        }
        false
    })
}
