//! What is wrong with a site file: every fault with its place, what is wrong, and what to write
//! instead.

use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key it is about, e.g. `topology.edge`; empty for a fault of the syntax.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub instead: String,
    /// The line's text.
    #[serde(skip)]
    text: String,
    /// How many characters to underline.
    #[serde(skip)]
    width: usize,
}

/// All faults of a site file, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Faults {
    /// The file's name.
    pub file: String,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            let Fault { line, column, key, problem, instead, text, width } = fault;
            let of = if key.is_empty() { String::new() } else { format!("{key}: ") };
            let gutter = line.to_string().len();
            writeln!(f, "{}:{line}:{column}: {of}{problem}", self.file)?;
            writeln!(f, "{:gutter$} | {text}", line)?;
            let pad: String = text
                .chars()
                .take(column.saturating_sub(1))
                .map(|c| if c == '\t' { c } else { ' ' })
                .collect();
            writeln!(f, "{:gutter$} | {pad}{}", "", "^".repeat((*width).max(1)))?;
            writeln!(f, "{:gutter$} = {instead}", "")?;
        }
        let count = self.faults.len();
        write!(f, "{count} fault{} in {}", if count == 1 { "" } else { "s" }, self.file)
    }
}

/// Collects faults over one text.
#[derive(Debug)]
pub struct Collector<'a> {
    text: &'a str,
    /// Where each line starts.
    lines: Vec<usize>,
    faults: Vec<(usize, Fault)>,
    /// Place, key and problem of each, so that none is told twice.
    told: BTreeSet<(usize, String, String)>,
}

impl<'a> Collector<'a> {
    /// Collects faults of this text.
    pub fn new(text: &'a str) -> Collector<'a> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Collector { text, lines, faults: Vec::new(), told: BTreeSet::new() }
    }

    /// Adds a fault at a byte range of the text.
    pub fn add(
        &mut self,
        span: Range<usize>,
        key: &str,
        problem: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let line = self.lines.partition_point(|at| *at <= start);
        let line_start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let line_text = self.text[line_start..].lines().next().unwrap_or("");
        let column = self.text[line_start..start].chars().count() + 1;
        let rest = line_text.chars().count().saturating_sub(column - 1);
        let mut end = span.end.clamp(start, self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let width = self.text[start..end].chars().count().min(rest).max(1);
        let fault = Fault {
            line,
            column,
            key: key.to_owned(),
            problem: problem.into(),
            instead: instead.into(),
            text: line_text.trim_end().to_owned(),
            width,
        };
        if self.told.insert((start, fault.key.clone(), fault.problem.clone())) {
            self.faults.push((start, fault));
        }
    }

    /// How many faults there are so far.
    pub fn len(&self) -> usize {
        self.faults.len()
    }

    /// True while there is none.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// All of them, in the order of their places.
    pub fn finish(mut self, file: &str) -> Faults {
        self.faults.sort_by_key(|(at, _)| *at);
        Faults { file: file.to_owned(), faults: self.faults.into_iter().map(|(_, f)| f).collect() }
    }
}
