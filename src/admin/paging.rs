//! Long lists come a page at a time, everywhere in the same way: `limit`, `cursor`, and `next_cursor` in the answer.

use serde::Deserialize;

/// Items of a page where none is asked for …
pub(super) const LIMIT: usize = 100;
/// … and at most.
pub(super) const MAX_LIMIT: usize = 1000;

/// What stands behind the `?` of a list that may be one source's; an empty value is none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    pub(super) source: String,
    pub(super) limit: String,
    pub(super) cursor: String,
}

/// A parameter that is there; an empty value is none.
pub(super) fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// `limit=` as a number.
pub(super) fn limit(text: &str) -> Result<usize, String> {
    let limit = given(text).map_or(Ok(LIMIT), str::parse).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| format!("limit: not a number from 1 to {MAX_LIMIT}"))
}

/// `cursor=` as whatever `read` makes of it; `None` for the first page.
pub(super) fn cursor<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, String> {
    let read = |cursor| read(cursor).ok_or_else(|| "cursor: not the `next_cursor` of such a page".to_owned());
    given(text).map(read).transpose()
}

/// Cuts what was asked for with one item more down to a page; where the next one goes on, if there is more.
pub(super) fn cut<T>(items: &mut Vec<T>, limit: usize, cursor_of: impl FnOnce(&T) -> String) -> Option<String> {
    let is_more = items.len() > limit;
    items.truncate(limit);
    items.last().filter(|_| is_more).map(cursor_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_full_and_the_last_has_none_after_it() {
        let cut = |count: usize, limit| {
            let mut items: Vec<usize> = (0..count).collect();
            let next = cut(&mut items, limit, usize::to_string);
            (items.len(), next)
        };
        assert_eq!(cut(0, 3), (0, None));
        assert_eq!(cut(3, 3), (3, None));
        assert_eq!(cut(4, 3), (3, Some("2".to_owned())));
    }

    #[test]
    fn what_is_no_number_or_no_cursor_says_which_it_is() {
        assert_eq!((limit(""), limit("1000")), (Ok(LIMIT), Ok(MAX_LIMIT)));
        for wrong in ["0", "1001", "-1", "x"] {
            assert!(limit(wrong).is_err_and(|error| error.starts_with("limit:")), "{wrong}");
        }
        let read = |text: &str| text.parse::<u8>().ok();
        assert_eq!((cursor("", read), cursor("7", read)), (Ok(None), Ok(Some(7))));
        assert!(cursor("x", read).is_err_and(|error| error.starts_with("cursor:")));
    }
}
