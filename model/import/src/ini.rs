//! The lines of the thesis' two ini files, and the site.toml that is written of them.
//!
//! Every key of site.toml that is written here remembers from where it is, so that what only the
//! site's own reader finds is said on the line that the person wrote.

use crate::{ImportError, Imported, Leftover, Source, write};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use tandem_model::site::{Collector, Faults, read};
use tandem_model::text::nearest;

/// The sections of a format, each with its keys. A key that ends in `#` stands for that word with a
/// number behind it.
pub(crate) type Known = &'static [(&'static str, &'static [&'static str])];

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Value<'a> {
    pub span: Range<usize>,
    pub text: &'a str,
}

/// An ini file.
pub(crate) struct Ini<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub c: Collector<'a>,
    entries: BTreeMap<(&'static str, String), Value<'a>>,
    sections: Vec<(&'static str, Range<usize>)>,
}

impl<'a> Ini<'a> {
    /// Reads the lines: `[Section]`, `key = value` or `key: value`, comments behind `#` and `;`.
    pub(crate) fn read(source: Source<'a>, known: Known) -> Ini<'a> {
        let c = Collector::new(source.text);
        let mut ini =
            Ini { file: source.file, text: source.text, c, entries: BTreeMap::new(), sections: Vec::new() };
        let mut section = None;
        let mut start = 0;
        for line in source.text.split_inclusive('\n') {
            let at = start;
            start += line.len();
            let content = line.trim();
            let offset = at + (line.len() - line.trim_start().len());
            let span = offset..offset + content.len();
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = content.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
                section = known.iter().find(|(s, _)| *s == name.trim());
                match section {
                    Some((known, _)) => ini.sections.push((known, span)),
                    None => ini.c.add(span, name, "unknown section", section_hint(name, known)),
                }
                continue;
            }
            let Some((key, value)) = content.split_once(['=', ':']) else {
                let instead = "write `key = value`, or `#` before a comment";
                ini.c.add(span, "", "neither a section nor a key with its value", instead);
                continue;
            };
            let Some((section, keys)) = section else {
                if ini.sections.is_empty() {
                    let first = known.first().map_or("", |(s, _)| s);
                    let instead = format!("write it under a section, such as [{first}]");
                    ini.c.add(span, "", "a key before any section", instead);
                }
                continue;
            };
            let name = key.trim().to_lowercase();
            let key_span = offset..offset + key.trim_end().len();
            let path = format!("{section}.{name}");
            if !keys.iter().any(|known| is_key(known, &name)) {
                let guess = nearest(&name, keys).map_or(String::new(), |k| format!("did you mean `{k}`? "));
                let all = keys.join(", ").replace('#', "1");
                ini.c.add(key_span, &path, "unknown key", format!("{guess}Known here: {all}"));
                continue;
            }
            let value_at = offset + key.len() + 1 + (value.len() - value.trim_start().len());
            let value = value.trim();
            let comment = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
            let value = value[..comment.unwrap_or(value.len())].trim_end();
            let span = if value.is_empty() { key_span } else { value_at..value_at + value.len() };
            let entry = Value { span: span.clone(), text: value };
            if ini.entries.insert((section, name), entry).is_some() {
                ini.c.add(span, &path, "written twice", "keep one of them");
            }
        }
        ini
    }

    /// The value of a key.
    pub(crate) fn get(&self, section: &'static str, key: &str) -> Option<Value<'a>> {
        self.entries.get(&(section, key.to_owned())).cloned()
    }

    /// The keys of a section with a number behind `prefix`, by their numbers.
    pub(crate) fn numbered(&self, section: &'static str, prefix: &str) -> BTreeMap<u32, Value<'a>> {
        let of_section = self.entries.iter().filter(|((s, _), _)| *s == section);
        of_section
            .filter_map(|((_, key), value)| Some((key.strip_prefix(prefix)?.parse().ok()?, value.clone())))
            .collect()
    }

    /// The place of a section, or of the file's beginning.
    pub(crate) fn place(&self, section: &str) -> Range<usize> {
        self.sections.iter().find(|(s, _)| *s == section).map_or(0..0, |(_, span)| span.clone())
    }

    /// The line of a place, from 1.
    pub(crate) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text.get(..span.start).map_or(0, |before| before.matches('\n').count())
    }
}

fn is_key(known: &str, name: &str) -> bool {
    match known.strip_suffix('#') {
        Some(word) => {
            name.strip_prefix(word).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        }
        None => known == name,
    }
}

fn section_hint(name: &str, known: Known) -> String {
    let known: Vec<&'static str> = known.iter().map(|(s, _)| *s).collect();
    let guess = nearest(name, &known).map_or(String::new(), |k| format!("did you mean [{k}]? "));
    format!("{guess}Known: {}", known.join(", "))
}

/// From where a key of site.toml is: which file, where in it, under which name.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub file: usize,
    pub span: Range<usize>,
    pub key: String,
}

/// A site.toml that is being written.
#[derive(Default)]
pub(crate) struct Draft {
    /// Tables in their order: name, keys.
    tables: Vec<(String, Vec<Line>)>,
    pub leftovers: Vec<Leftover>,
    pub decisions: Vec<String>,
}

struct Line {
    key: &'static str,
    value: String,
    origin: Option<Origin>,
}

impl Draft {
    /// Writes a key; one that is there already is kept, and false is said.
    pub(crate) fn set(
        &mut self,
        table: &str,
        key: &'static str,
        value: impl Into<String>,
        origin: Option<Origin>,
    ) -> bool {
        let at = match self.tables.iter().position(|(name, _)| name == table) {
            Some(at) => at,
            None => {
                self.tables.push((table.to_owned(), Vec::new()));
                self.tables.len() - 1
            }
        };
        let Some((_, lines)) = self.tables.get_mut(at) else { return false };
        if lines.iter().any(|l| l.key == key) {
            return false;
        }
        lines.push(Line { key, value: value.into(), origin });
        true
    }

    /// The value of a key.
    pub(crate) fn get(&self, table: &str, key: &str) -> Option<&str> {
        let (_, lines) = self.tables.iter().find(|(name, _)| name == table)?;
        lines.iter().find(|l| l.key == key).map(|l| l.value.as_str())
    }

    /// Begins a table of a list (`[[class]]`), of which there may be several.
    pub(crate) fn push(&mut self, list: &str, keys: Vec<(&'static str, String, Option<Origin>)>) {
        let lines = keys.into_iter().map(|(key, value, origin)| Line { key, value, origin }).collect();
        self.tables.push((format!("[{list}]"), lines));
    }

    /// The site, held to its reader; faults are those of the files that it is from.
    pub(crate) fn finish(self, origin: &str, inis: &mut [Ini<'_>]) -> Result<Imported, ImportError> {
        let mut text = String::new();
        write::head(&mut text, origin, &self.leftovers, &self.decisions);
        text.push_str("name = \"thesis\"\n");
        let mut origins: BTreeMap<usize, &Origin> = BTreeMap::new();
        for (table, lines) in &self.tables {
            let _ = write!(text, "\n[{table}]\n");
            for line in lines {
                if let Some(origin) = &line.origin {
                    origins.insert(1 + text.matches('\n').count(), origin);
                }
                let _ = writeln!(text, "{} = {}", line.key, line.value);
            }
        }
        if let Err(faults) = read(&text, "the translation") {
            for fault in faults.faults {
                let origin = origins.get(&fault.line);
                let file = origin.map_or(0, |o| o.file);
                let Some(ini) = inis.get_mut(file) else { continue };
                let whole = ini.sections.first().map_or(0..0, |(_, span)| span.clone());
                let (span, key) = origin.map_or((whole, ""), |o| (o.span.clone(), o.key.as_str()));
                ini.c.add(span, key, fault.problem, fault.instead);
            }
        }
        match faults_of(inis) {
            Some(faults) => Err(faults),
            None => Ok(Imported { site: text, leftovers: self.leftovers, decisions: self.decisions }),
        }
    }
}

/// The faults of all files, if there are any.
pub(crate) fn faults_of(inis: &mut [Ini<'_>]) -> Option<ImportError> {
    let mut all: Vec<Faults> = Vec::new();
    for ini in inis {
        let c = std::mem::replace(&mut ini.c, Collector::new(ini.text));
        if !c.is_empty() {
            all.push(c.finish(ini.file));
        }
    }
    (!all.is_empty()).then_some(ImportError::Faults(all))
}
