//! Lists that a daemon gives a page at a time.

use super::admin::Daemon;
use super::outcome::Failure;
use crate::client::encode;
use serde::de::DeserializeOwned;

/// Most items of one page.
const PAGE: usize = 1000;

/// A path with those parameters that have a value.
pub(super) fn path(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode((*value)?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

/// The first `limit` items of what a path has, page by page; `take` parts a page into items and cursor.
pub(super) async fn read<P: DeserializeOwned, T>(
    daemon: &Daemon,
    of: &str,
    parameters: &[(&str, Option<&str>)],
    limit: usize,
    take: impl Fn(P) -> (Vec<T>, Option<String>),
) -> Result<Vec<T>, Failure> {
    let (mut items, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let wanted = (limit - items.len()).min(PAGE).to_string();
        let paged = [("limit", Some(wanted.as_str())), ("cursor", cursor.as_deref())];
        let (more, next) = take(daemon.get(&path(of, &[parameters, &paged].concat())).await?);
        items.extend(more);
        // A page may be empty and not be the last.
        if next.is_none() || items.len() >= limit {
            return Ok(items);
        }
        cursor = next;
    }
}
