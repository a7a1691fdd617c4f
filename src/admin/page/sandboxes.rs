//! The sandboxes, sorted, searched and cut into pages here, so that a browser never has more than a page of them.

use super::model::{Cell, Model, Row};
use super::words;
use crate::logging::visible;
use crate::sandboxes::{Data, State, Usage, View, ViewedSandbox};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Sandboxes of a page.
pub(super) const PAGE: usize = 50;
/// A sample that is older than this, compared with the newest of all, is not what a sandbox uses now. In seconds.
const STALE: i64 = 60;
/// Longest text that is searched for, in bytes.
const LONGEST_SEARCH: usize = 256;

/// What stands behind the `?` of the page; what is not understood counts as not there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    sort: String,
    dir: String,
    q: String,
    page: String,
}

/// What can be sorted by: word in the URL, heading, and how the column looks.
const COLUMNS: [(&str, &str, &str); 7] = [
    ("id", "Sandbox", ""),
    ("state", "State", ""),
    ("template", "Template", ""),
    ("age", "Age", "number"),
    ("cpu", "CPU", ""),
    ("memory", "Memory", ""),
    ("metadata", "Metadata", "wide"),
];

/// A heading of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Heading {
    label: &'static str,
    class: &'static str,
    /// Sorts by it, the other way round if that is so already.
    href: String,
    /// For `aria-sort`; empty where the rows are not in its order.
    sorted: &'static str,
}

/// What of the table is not its rows.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Around {
    headings: Vec<Heading>,
    sort: String,
    dir: &'static str,
    q: String,
    previous: Option<String>,
    next: Option<String>,
}

/// A page of them.
pub(super) struct Chosen<'v> {
    shown: Vec<&'v ViewedSandbox>,
    /// How many there are on all pages.
    found: usize,
    /// Which page it is, from 0.
    number: usize,
    /// Unix seconds of the newest sample of all.
    newest: i64,
    is_search: bool,
}

impl Wanted {
    fn column(&self) -> &'static str {
        COLUMNS.iter().map(|(name, ..)| *name).find(|name| *name == self.sort).unwrap_or("age")
    }

    fn descends(&self) -> bool {
        self.dir == "desc"
    }

    fn search(&self) -> String {
        let mut text: &str = self.q.trim();
        while text.len() > LONGEST_SEARCH {
            text = text.char_indices().next_back().map_or("", |(end, _)| text.get(..end).unwrap_or_default());
        }
        text.to_lowercase()
    }

    /// From 0.
    fn number(&self) -> usize {
        self.page.parse::<usize>().unwrap_or(1).saturating_sub(1)
    }

    fn href(&self, sort: &str, descends: bool, page: usize) -> String {
        let dir = if descends { "desc" } else { "asc" };
        format!("?sort={sort}&dir={dir}&q={}&page={}#sandboxes", encode(&self.search()), page + 1)
    }

    /// Those of the wanted page.
    pub(super) fn choose<'v>(&self, view: &'v View) -> Chosen<'v> {
        let search = self.search();
        let newest = newest(view);
        let column = self.column();
        let found = view.sandboxes.iter().filter(|one| is_found(one, &search));
        let mut found: Vec<(f64, String, &ViewedSandbox)> = found
            .map(|one| {
                let (number, text) = key(one, column, newest);
                (number, text, one)
            })
            .collect();
        found.sort_by(|(a_number, a_text, a), (b_number, b_text, b)| {
            let order = a_number.total_cmp(b_number).then_with(|| a_text.cmp(b_text));
            let order = if self.descends() { order.reverse() } else { order };
            order.then_with(|| a.id.cmp(&b.id)).then_with(|| a.source.cmp(&b.source))
        });
        let pages = found.len().div_ceil(PAGE).max(1);
        let number = self.number().min(pages - 1);
        let shown = found.iter().skip(number * PAGE).take(PAGE).map(|(_, _, one)| *one).collect();
        Chosen { shown, found: found.len(), number, newest, is_search: !search.is_empty() }
    }

    /// The rest.
    pub(super) fn around(&self, &Chosen { found, number, .. }: &Chosen<'_>) -> Around {
        let (column, descends) = (self.column(), self.descends());
        let headings = COLUMNS.into_iter().map(|(name, label, class)| {
            let is_sorted = name == column;
            let sorted = if descends { "descending" } else { "ascending" };
            let href = self.href(name, is_sorted && !descends, 0);
            Heading { label, class, href, sorted: if is_sorted { sorted } else { "" } }
        });
        Around {
            headings: headings.collect(),
            sort: column.to_owned(),
            dir: if descends { "desc" } else { "asc" },
            q: visible(self.q.trim()).chars().take(LONGEST_SEARCH).collect(),
            previous: number.checked_sub(1).map(|page| self.href(column, descends, page)),
            next: ((number + 1) * PAGE < found).then(|| self.href(column, descends, number + 1)),
        }
    }
}

impl Chosen<'_> {
    /// The rows, and how many there are.
    pub(super) fn tell(&self, model: &mut Model, now: Timestamp, longest: usize) {
        let from = self.number * PAGE;
        let text = match (self.found, self.is_search) {
            (0, false) => "none live".to_owned(),
            (0, true) => "none found".to_owned(),
            (found, _) => format!("{}–{} of {}", from + 1, from + self.shown.len(), words::count(found as f64)),
        };
        model.figure("sandboxes.shown", Cell::own(text));
        model.tables.insert("sandboxes", self.shown.iter().map(|one| row(one, self.newest, now, longest)).collect());
    }
}

fn newest(view: &View) -> i64 {
    view.sandboxes.iter().filter_map(|one| one.usage).map(|usage| usage.time).max().unwrap_or_default()
}

/// What it uses now.
fn used(one: &ViewedSandbox, newest: i64) -> Option<Usage> {
    one.usage.filter(|usage| usage.time >= newest - STALE)
}

fn is_found(one: &ViewedSandbox, search: &str) -> bool {
    let has = |text: &str| text.to_lowercase().contains(search);
    search.is_empty()
        || has(&one.id)
        || has(&one.source)
        || has(word(one.state).0)
        || one.template_id.as_deref().is_some_and(has)
        || one.metadata.as_ref().is_some_and(|metadata| has(&metadata.text()))
}

fn born(one: &ViewedSandbox) -> Option<Timestamp> {
    one.created_at.or(one.started_at)
}

/// What a sandbox is sorted by: a number, or a text.
fn key(one: &ViewedSandbox, column: &str, newest: i64) -> (f64, String) {
    let memory = |usage: Usage| usage.mem_used as f64 / usage.mem_total.max(1) as f64;
    let used = used(one, newest);
    match column {
        "id" => (0.0, one.id.clone()),
        "state" => (0.0, word(one.state).0.to_owned()),
        "template" => (0.0, one.template_id.clone().unwrap_or_default()),
        "cpu" => (used.map_or(-1.0, |usage| usage.cpu_used_pct), String::new()),
        "memory" => (used.map_or(-1.0, memory), String::new()),
        "metadata" => (0.0, metadata(one)),
        // The youngest first; those whose age nobody told last.
        _ => (born(one).map_or(0.0, |at| -at.as_duration().as_secs_f64()), String::new()),
    }
}

fn metadata(one: &ViewedSandbox) -> String {
    one.metadata.as_ref().map(Data::text).unwrap_or_default()
}

fn word(state: State) -> (&'static str, &'static str) {
    match state {
        State::Running => ("running", "good"),
        State::Paused => ("paused", "quiet"),
        State::Missing => ("missing", "bad"),
    }
}

fn row(one: &ViewedSandbox, newest: i64, now: Timestamp, longest: usize) -> Row {
    let (state, class) = word(one.state);
    let age = born(one)
        .map_or_else(|| Cell::number("–"), |at| Cell::number(words::age(words::since(at, now))).title(words::time(at)));
    let used = used(one, newest);
    let bar = |part: f64, text: String| Cell {
        bar: format!("{:.0}", part.clamp(0.0, 100.0)),
        class: if part >= 90.0 { "used warn" } else { "used" },
        ..Cell::own(text)
    };
    let none = || Cell::own("–").class("quiet");
    let cpu = used.map_or_else(none, |usage| bar(usage.cpu_used_pct, format!("{:.0} %", usage.cpu_used_pct)));
    let memory = used.filter(|usage| usage.mem_total > 0).map_or_else(none, |usage| {
        let part = 100.0 * usage.mem_used as f64 / usage.mem_total as f64;
        bar(part, words::bytes(usage.mem_used as f64))
    });
    Row::new(
        format!("{}/{}", one.source, one.id),
        [
            Cell::foreign(&one.id, longest),
            Cell::own(state).class(class),
            Cell::foreign(one.template_id.as_deref().unwrap_or("–"), longest),
            age,
            cpu,
            memory,
            Cell::foreign(&metadata(one), longest).class("wide"),
        ],
    )
}

/// For a query's value (RFC 3986): whatever is not unreserved becomes `%XX`.
fn encode(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn view(count: usize) -> View {
        let sandboxes = (0..count).map(|number| {
            serde_json::from_value(json!({
                "id": format!("s{number:05}"), "state": if number % 3 == 0 { "paused" } else { "running" },
                "template_id": format!("t{}", number % 5), "created_at": format!("2026-08-01T{:02}:00:00Z", number % 24),
                "source": "acme", "metadata": {"user": format!("U{}", number % 7)},
                "usage": {"unix_seconds": 1000 - number as i64 % 2 * 100, "cpu_used_pct": number % 11, "mem_used": 1,
                    "mem_total": 2, "disk_used": 0, "disk_total": 0},
            }))
            .unwrap()
        });
        View { sandboxes: sandboxes.collect(), ..View::default() }
    }

    fn wanted(sort: &str, dir: &str, q: &str, page: &str) -> Wanted {
        let [sort, dir, q, page] = [sort, dir, q, page].map(str::to_owned);
        Wanted { sort, dir, q, page }
    }

    #[test]
    fn every_sandbox_is_on_one_page_in_every_order() {
        let view = view(1_000);
        for (column, ..) in COLUMNS {
            for dir in ["asc", "desc"] {
                let mut seen = std::collections::BTreeSet::new();
                for page in 1..=20 {
                    let Chosen { shown, found, number, .. } = wanted(column, dir, "", &page.to_string()).choose(&view);
                    assert_eq!((shown.len(), found, number), (PAGE, 1_000, page - 1));
                    seen.extend(shown.iter().map(|one| one.id.clone()));
                }
                assert_eq!(seen.len(), 1_000, "{column} {dir}");
            }
        }
        let Chosen { shown, .. } = wanted("cpu", "desc", "", "").choose(&view);
        assert!(shown.iter().all(|one| one.usage.unwrap().time == 1000), "stale samples are none");
        assert_eq!(wanted("", "", "", "9999").choose(&view).number, 19, "a page behind the last is the last");
    }

    #[test]
    fn a_search_looks_at_all_that_is_shown() {
        let view = view(100);
        for (search, found) in
            [("s00042", 1), ("PAUSED", 34), ("t3", 20), ("\"u6\"", 14), ("acme", 100), ("nothing", 0)]
        {
            assert_eq!(wanted("", "", search, "").choose(&view).found, found, "{search}");
        }
        let wanted = wanted("cpu", "desc", "a&b=\"ü", "");
        let around = wanted.around(&wanted.choose(&view));
        assert_eq!(around.headings[0].href, "?sort=id&dir=asc&q=a%26b%3D%22%C3%BC&page=1#sandboxes");
        assert_eq!((around.headings[4].sorted, around.next, around.previous), ("descending", None, None));
    }
}
