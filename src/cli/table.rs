//! Aligned columns for people, safe on a terminal whatever stands in a cell.

use super::screen::{Screen, Tone};
use crate::logging::visible;
use std::fmt;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Widest cell, in columns of a terminal; what is wider is cut, and ends with `…`.
const MAX_CELL: usize = 60;

/// A heading, and rows below it.
pub(super) struct Table {
    screen: Screen,
    rows: Vec<Row>,
}

#[derive(Default)]
struct Row {
    cells: Vec<String>,
    /// Of cells that have one.
    tones: Vec<(usize, Tone)>,
}

impl Table {
    pub(super) fn new<const N: usize>(screen: Screen, heading: [&str; N]) -> Self {
        Self { screen, rows: vec![Row::heading(heading)] }
    }

    /// Cells may hold what strangers chose.
    pub(super) fn row<const N: usize>(&mut self, cells: [&str; N]) -> &mut Self {
        self.rows.push(Row::new(cells));
        self
    }

    /// What the last row's cell in this column means.
    pub(super) fn tone(&mut self, column: usize, tone: Tone) -> &mut Self {
        if let Some(row) = self.rows.last_mut() {
            row.tones.push((column, tone));
        }
        self
    }

    /// Rows without the heading.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }
}

/// Rows that are written as they come: a column is as wide as what it had until then.
pub(super) struct Rolling {
    screen: Screen,
    widths: Vec<usize>,
}

impl Rolling {
    /// The heading is the first line; `widths` are what is to be expected.
    pub(super) fn new<const N: usize>(screen: Screen, heading: [&str; N], widths: [usize; N]) -> (Self, String) {
        let mut this = Self { screen, widths: widths.into() };
        let line = this.line(&Row::heading(heading));
        (this, line)
    }

    /// A row as a line, with the tone of one of its cells.
    pub(super) fn row<const N: usize>(&mut self, cells: [&str; N], tone: (usize, Tone)) -> String {
        self.line(&Row { tones: vec![tone], ..Row::new(cells) })
    }

    fn line(&mut self, row: &Row) -> String {
        for (width, cell) in self.widths.iter_mut().zip(&row.cells) {
            *width = cell.width().max(*width);
        }
        row.line(&self.widths, self.screen)
    }
}

impl Row {
    fn new<const N: usize>(cells: [&str; N]) -> Self {
        Self { cells: cells.map(cell).into(), tones: Vec::new() }
    }

    fn heading<const N: usize>(cells: [&str; N]) -> Self {
        Self { tones: (0..N).map(|column| (column, Tone::Heading)).collect(), ..Self::new(cells) }
    }

    /// Nothing stands behind the last cell.
    fn line(&self, widths: &[usize], screen: Screen) -> String {
        let mut line = String::new();
        for (column, (cell, width)) in self.cells.iter().zip(widths).enumerate() {
            let tone = self.tones.iter().find(|(toned, _)| *toned == column).map_or(Tone::Plain, |(_, tone)| *tone);
            line.push_str(&screen.paint(tone, cell));
            if column + 1 < self.cells.len() {
                line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + 2));
            }
        }
        line.push('\n');
        line
    }
}

/// Never empty, so that every row has as many words as there are columns.
fn cell(text: &str) -> String {
    let text = visible(text);
    if text.is_empty() {
        return "-".to_owned();
    }
    if text.width() <= MAX_CELL {
        return text;
    }
    let mut width = 0;
    let fitting = text.chars().take_while(|letter| {
        width += letter.width().unwrap_or(0);
        width < MAX_CELL
    });
    fitting.chain(['…']).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, |heading| heading.cells.len());
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows.iter().try_for_each(|row| f.write_str(&row.line(&widths, self.screen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Screen = Screen { colours: false, bars: false };

    #[test]
    fn columns_are_aligned_and_nothing_in_them_steers_the_terminal() {
        let mut table = Table::new(TEXT, ["ID", "METADATA"]);
        table.row(["a-long-id", "x\u{1b}[2J\n\u{202e}y"]);
        table.row(["b", ""]);
        table.row(["c", &"é".repeat(100)]);
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["ID         METADATA", "a-long-id  x\\u{1b}[2J\\u{a}\\u{202e}y", "b          -"]);
        assert_eq!((lines.len(), lines[3].chars().count(), lines[3].ends_with("é…")), (4, 11 + MAX_CELL, true));
    }

    #[test]
    fn wide_characters_take_their_room() {
        let mut table = Table::new(TEXT, ["NAME", "N"]);
        table.row(["東京", "1"]).row(["a", "2"]).row([&"京".repeat(50), "3"]);
        let places: Vec<usize> = table.to_string().lines().map(|line| line.width()).collect();
        assert!(places.iter().all(|place| *place == places[0]), "{table}");
        assert!(places[0] <= MAX_CELL + 3, "{table}");
    }

    #[test]
    fn a_colour_is_around_a_cell_and_moves_nothing() {
        let colours = Screen { colours: true, ..TEXT };
        let shown = |screen| {
            let mut table = Table::new(screen, ["STATE", "N"]);
            table.row(["up", "1"]).tone(0, Tone::Good).row(["unknown", "2"]);
            table.to_string()
        };
        let painted = shown(colours);
        assert!(painted.contains("\u{1b}[32mup\u{1b}[0m       1\n"), "{painted:?}");
        let plain = ["1", "32", "0"].iter().fold(painted, |text, code| text.replace(&format!("\u{1b}[{code}m"), ""));
        assert_eq!(plain, shown(TEXT));
    }

    #[test]
    fn rows_that_come_one_by_one_stay_aligned() {
        let (mut rolling, heading) = Rolling::new(TEXT, ["TYPE", "ID"], [6, 2]);
        assert_eq!(heading, "TYPE    ID\n");
        let mut row = |kind: &str| rolling.row([kind, "1"], (0, Tone::Plain));
        assert_eq!([row("a"), row("abcdefgh"), row("b")], ["a       1\n", "abcdefgh  1\n", "b         1\n"]);
    }
}
