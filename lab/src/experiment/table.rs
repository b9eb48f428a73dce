//! Tables of a run folder: named columns, written as CSV with commas, or as the thesis (Teixeira
//! 2013) wrote them, with semicolons.

use clap::ValueEnum;
use std::fmt::Write as _;

/// How CSV files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CsvStyle {
    /// Commas, and names of columns in the first line (RFC 4180).
    #[default]
    Comma,
    /// Semicolons, as the thesis' exporter has them.
    Thesis,
}

impl CsvStyle {
    fn separator(self) -> char {
        match self {
            CsvStyle::Comma => ',',
            CsvStyle::Thesis => ';',
        }
    }
}

/// Rows under named columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The file's name, without its ending.
    pub name: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// So many of the first columns say what was measured; the others are what came out.
    pub keys: usize,
    /// As many fields each as there are columns.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    pub fn new(name: &str, keys: usize, columns: &[&str]) -> Table {
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        Table { name: name.to_owned(), columns, keys, rows: Vec::new() }
    }

    /// Of lines whose fields have semicolons between them, the first line the columns' names.
    pub fn of_lines(name: &str, keys: usize, text: &str) -> Table {
        let mut lines = text.lines().map(|l| l.split(';').map(str::to_owned).collect::<Vec<_>>());
        let columns = lines.next().unwrap_or_default();
        let width = columns.len();
        let fit = |mut row: Vec<String>| {
            row.resize(width, String::new());
            row
        };
        Table { name: name.to_owned(), columns, keys, rows: lines.map(fit).collect() }
    }

    /// Adds a row; fields that are missing are empty, and those that are too many are left out.
    pub fn row(&mut self, fields: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = fields.into_iter().collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// The file's text.
    pub fn csv(&self, style: CsvStyle) -> String {
        let mut text = String::new();
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            for (n, field) in row.iter().enumerate() {
                if n > 0 {
                    text.push(style.separator());
                }
                text.push_str(&quoted(field, style));
            }
            text.push('\n');
        }
        text
    }

    /// The same for people: columns that are as wide as they must be, numbers to the right.
    pub fn text(&self) -> String {
        let rows = || std::iter::once(&self.columns).chain(&self.rows);
        let width = |n: usize| rows().filter_map(|r| r.get(n)).map(|f| f.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let number = |n: usize| {
            let fields = || self.rows.iter().filter_map(|r| r.get(n)).filter(|f| !f.is_empty());
            fields().next().is_some() && fields().all(|f| f.trim_end_matches('%').parse::<f64>().is_ok())
        };
        let right: Vec<bool> = (0..self.columns.len()).map(number).collect();
        let mut text = String::new();
        for row in rows() {
            let mut line = String::new();
            for ((field, width), right) in row.iter().zip(&widths).zip(&right) {
                let _ = if *right {
                    write!(line, "{field:>width$}  ")
                } else {
                    write!(line, "{field:<width$}  ")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A field that a reader takes for one field: RFC 4180 section 2 with commas. The thesis' form
/// knows no quotation marks, so a semicolon becomes a comma there.
fn quoted(field: &str, style: CsvStyle) -> String {
    match style {
        CsvStyle::Thesis => field.replace(';', ",").replace(['\n', '\r'], " "),
        CsvStyle::Comma if field.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", field.replace('"', "\"\""))
        }
        CsvStyle::Comma => field.to_owned(),
    }
}

/// A number with at most `digits` after the point, and none that say nothing.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads RFC 4180, for the test alone.
    fn read(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field, mut inside) = (Vec::new(), Vec::new(), String::new(), false);
        let mut letters = text.chars().peekable();
        while let Some(c) = letters.next() {
            match c {
                '"' if inside && letters.peek() == Some(&'"') => field.extend(letters.next()),
                '"' => inside = !inside,
                ',' if !inside => row.push(std::mem::take(&mut field)),
                '\n' if !inside => {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                c => field.push(c),
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn what_is_written_with_commas_is_read_as_it_was(
            rows in proptest::collection::vec(proptest::collection::vec("[a;,\"\n\r 0-9]{0,6}", 3), 0..5)
        ) {
            let mut table = Table::new("t", 1, &["a", "b", "c"]);
            rows.iter().for_each(|row| table.row(row.clone()));
            let heard = read(&table.csv(CsvStyle::Comma));
            prop_assert_eq!(&heard[1..], &rows[..]);
            let thesis = table.csv(CsvStyle::Thesis);
            prop_assert!(thesis.lines().all(|l| l.matches(';').count() == 2), "{}", thesis);
        }
    }

    #[test]
    fn lines_become_a_table_and_people_get_columns() {
        let table = Table::of_lines("t", 1, "policy;ratio\nbest-fit;33.33\nworst-fit;5\n");
        assert_eq!(table.csv(CsvStyle::Thesis), "policy;ratio\nbest-fit;33.33\nworst-fit;5\n");
        assert_eq!(table.text(), "policy     ratio\nbest-fit   33.33\nworst-fit      5\n");
        assert_eq!(
            (number(33.0, 2), number(33.333, 2), number(0.1, 0)),
            ("33".into(), "33.33".into(), "0".into())
        );
    }
}
