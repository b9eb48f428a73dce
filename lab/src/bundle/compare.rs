//! Two run folders of the same experiment: which files are the same to the byte, and how far the
//! numbers of the others are apart, column by column.

use super::BundleError;
use crate::experiment::manifest::Manifest;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Raw readings of machines, which differ from run to run by what they are.
const RAW: [&str; 2] = ["counters.csv", "clock-offsets.csv"];

/// A column of a table, before and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The table's file.
    pub file: String,
    /// The column.
    pub name: String,
    /// The largest difference of a value.
    pub deviation: f64,
    /// The same in percent of the largest value before.
    pub percent: f64,
}

/// What came of comparing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// Files that are the same to the byte.
    pub same: usize,
    /// Those that are not.
    pub different: Vec<String>,
    /// Those that only one of the folders has.
    pub missing: Vec<String>,
    /// Columns of numbers in tables that are not the same to the byte.
    pub columns: Vec<Column>,
    /// Tables of which a name, a word or the number of rows differs.
    pub otherwise: Vec<String>,
}

impl Comparison {
    /// True when every file is there and the same.
    pub fn identical(&self) -> bool {
        self.different.is_empty() && self.missing.is_empty()
    }

    /// True when every column is within so many percent, and nothing else differs.
    pub fn within(&self, percent: f64) -> bool {
        self.otherwise.is_empty() && self.columns.iter().all(|c| c.percent <= percent)
    }

    /// For people.
    pub fn text(&self, percent: f64) -> String {
        let mut text =
            format!("{} files are the same to the byte, {} are not", self.same, self.different.len());
        let _ = writeln!(text, ", {} are in one of both only", self.missing.len());
        for path in self.different.iter().take(20) {
            let _ = writeln!(text, "  differs: {path}");
        }
        for path in self.missing.iter().take(20) {
            let _ = writeln!(text, "  in one only: {path}");
        }
        for path in &self.otherwise {
            let _ = writeln!(text, "  other rows, columns or words: {path}");
        }
        for c in &self.columns {
            let verdict = if c.percent <= percent { "within" } else { "BEYOND" };
            let _ = writeln!(
                text,
                "  {}, {}: differs by {:.4} at most ({:.1}%), {verdict} {percent}%",
                c.file, c.name, c.deviation, c.percent
            );
        }
        text
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Result<BTreeSet<String>, BundleError> {
    let mut files = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let fail = |source| BundleError::Io { doing: "read", path: next.clone(), source };
        for entry in std::fs::read_dir(&next).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            match entry.file_type().map_err(fail)? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => {
                    let path = entry.path();
                    files.insert(path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned());
                }
                _ => {}
            }
        }
    }
    Ok(files)
}

/// Compares two run folders, their manifests apart: those name versions and machines.
///
/// # Errors
/// When a file cannot be read.
pub fn folders(before: &Path, again: &Path) -> Result<Comparison, BundleError> {
    let ours = |path: &&String| Path::new(path).file_name().is_some_and(|n| n != Manifest::FILE);
    let (old, new) = (files(before)?, files(again)?);
    let missing = old.symmetric_difference(&new).filter(ours).cloned().collect();
    let mut comparison = Comparison { missing, ..Comparison::default() };
    for path in old.intersection(&new).filter(ours) {
        let read = |folder: &Path| {
            let path = folder.join(path);
            std::fs::read(&path).map_err(|source| BundleError::Io { doing: "read", path, source })
        };
        let (a, b) = (read(before)?, read(again)?);
        if a == b {
            comparison.same += 1;
            continue;
        }
        comparison.different.push(path.clone());
        let in_csv = Path::new(path).parent().is_some_and(|p| p.ends_with("csv"));
        let raw = RAW.iter().any(|name| path.ends_with(name));
        if in_csv && !raw {
            match tables(&String::from_utf8_lossy(&a), &String::from_utf8_lossy(&b)) {
                Some(columns) => {
                    comparison.columns.extend(columns.into_iter().map(|(name, deviation, percent)| Column {
                        file: path.clone(),
                        name,
                        deviation,
                        percent,
                    }))
                }
                None => comparison.otherwise.push(path.clone()),
            }
        }
    }
    Ok(comparison)
}

/// A table's fields, of either style.
fn fields(text: &str) -> Vec<Vec<String>> {
    let header = text.lines().next().unwrap_or_default();
    let separator = if header.contains(';') && !header.contains(',') { ';' } else { ',' };
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match c {
            '"' if separator == ',' && quoted && letters.peek() == Some(&'"') => {
                field.extend(letters.next());
            }
            '"' if separator == ',' => quoted = !quoted,
            c if c == separator && !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            c => field.push(c),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

/// Each column of numbers that differs, by how much at most, and in percent of the largest value;
/// none where the tables differ in anything else.
fn tables(before: &str, again: &str) -> Option<Vec<(String, f64, f64)>> {
    let (a, b) = (fields(before), fields(again));
    let header = a.first()?;
    if b.first()? != header || a.len() != b.len() {
        return None;
    }
    let mut columns = Vec::new();
    for (n, name) in header.iter().enumerate() {
        let (mut deviation, mut largest) = (0.0f64, 0.0f64);
        for (x, y) in a.iter().zip(&b).skip(1) {
            let (x, y) = (x.get(n)?, y.get(n)?);
            if x == y {
                largest = largest.max(x.parse::<f64>().map_or(0.0, f64::abs));
                continue;
            }
            let (x, y) = (x.parse::<f64>().ok()?, y.parse::<f64>().ok()?);
            deviation = deviation.max((x - y).abs());
            largest = largest.max(x.abs());
        }
        if deviation > 0.0 {
            columns.push((name.clone(), deviation, 100.0 * deviation / largest.max(f64::MIN_POSITIVE)));
        }
    }
    Some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir::TempDir;

    #[test]
    fn columns_that_differ_are_named_with_how_far() {
        let columns =
            tables("second,best,why\n1,50,\"a,b\"\n2,100,c\n", "second,best,why\n1,45,\"a,b\"\n2,101,c\n");
        assert_eq!(columns, Some(vec![("best".to_owned(), 5.0, 5.0)]));
        assert_eq!(tables("k;v\nx;1\n", "k;v\nx;3\n"), Some(vec![("v".to_owned(), 2.0, 200.0)]));
        assert_eq!(tables("k,v\nx,1\n", "k,v\ny,1\n"), None, "another word");
        assert_eq!(tables("k,v\nx,1\n", "k,v\nx,1\nx,2\n"), None, "another row");
        assert_eq!(tables("k,v\nx,1\n", "k,w\nx,1\n"), None, "another column");
    }

    #[test]
    fn a_folder_is_held_against_another_file_by_file() {
        let temp = TempDir::new("compare").expect("a folder");
        let put = |path: &str, text: &str| {
            let path = temp.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        for side in ["a", "b"] {
            put(&format!("{side}/manifest.json"), side);
            put(&format!("{side}/run-1/manifest.json"), side);
            put(&format!("{side}/csv/same.csv"), "x\n1\n");
        }
        put("a/csv/series.csv", "x,y\n1,100\n");
        put("b/csv/series.csv", "x,y\n1,92\n");
        put("a/csv/counters.csv", "n\n1\n");
        put("b/csv/counters.csv", "n\n900\n");
        put("b/figures/new.svg", "");
        let found = folders(&temp.path().join("a"), &temp.path().join("b")).expect("two folders");
        assert_eq!((found.same, found.different.len()), (1, 2));
        assert_eq!(found.missing, ["figures/new.svg"]);
        assert_eq!(found.columns.len(), 1);
        assert!(found.within(8.0) && !found.within(7.9) && !found.identical());
        assert!(found.text(5.0).contains("series.csv, y: differs by 8.0000 at most (8.0%), BEYOND 5%"));
    }
}
