//! Plain text tables: columns as wide as their widest cell.

use tandem_model::text::escaped_to;

/// Characters of a cell at most: paths and reasons are long, but not longer.
const CELL: usize = 300;

/// Lays out rows under a header; numbers are the caller's to format. Names and reasons may come
/// from others, so every cell is escaped.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let escape = |row: &Vec<String>| row.iter().map(|c| escaped_to(c, CELL).to_string()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(escape).collect();
    let columns = header.len();
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (n, cell) in row.iter().take(columns).enumerate() {
            line.push_str(cell);
            if n + 1 < columns {
                line.push_str(&" ".repeat(widths[n] - cell.chars().count() + 2));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_moves_no_cursor_and_begins_no_line() {
        let rows = [vec!["a\x1b[2J\nb".to_owned(), "x".repeat(1000)]];
        let text = table(&["name", "why"], &rows);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\x1b') && text.len() < 800, "{text}");
    }
}
