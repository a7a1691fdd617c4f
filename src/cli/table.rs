//! Aligned columns for people, safe on a terminal whatever stands in a cell.

use crate::logging::visible;
use std::fmt;

/// Longest cell, in characters; what is longer is cut, and ends with `…`.
const MAX_CELL: usize = 60;

/// A heading, and rows below it.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).into()] }
    }

    /// Cells may hold what strangers chose.
    pub(super) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(cell).into());
    }

    /// Rows without the heading.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }
}

/// Never empty, so that every row has as many words as there are columns.
fn cell(text: &str) -> String {
    let text = visible(text);
    match text.char_indices().nth(MAX_CELL) {
        _ if text.is_empty() => "-".to_owned(),
        None => text,
        Some(_) => text.chars().take(MAX_CELL - 1).chain(['…']).collect(),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_in_them_steers_the_terminal() {
        let mut table = Table::new(["ID", "METADATA"]);
        table.row(["a-long-id", "x\u{1b}[2J\n\u{202e}y"]);
        table.row(["b", ""]);
        table.row(["c", &"é".repeat(100)]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["ID         METADATA", "a-long-id  x\\u{1b}[2J\\u{a}\\u{202e}y", "b          -"]);
        assert_eq!((lines.len(), lines[3].chars().count(), lines[3].ends_with("é…")), (4, 11 + MAX_CELL, true));
    }
}
