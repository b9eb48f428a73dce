//! A table of a file that people write (the site, the testbed's inventory), read key by key. What
//! is not what it should be becomes a fault and the default stands in, so that one pass finds every
//! fault; what nobody read is an unknown key.

use super::PolicyName;
use super::faults::Collector;
use crate::spellings::{self, UnitError};
use crate::text::nearest;
use crate::{BitRate, Bytes, Dpid, ToolOption, ToolOptions};
use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Value<'a> = &'a Spanned<DeValue<'a>>;

/// A table of a site file while it is read; it knows which keys were asked for.
pub struct Section<'a> {
    /// `topology`, or empty for the whole file.
    name: String,
    /// Where it stands in the file.
    span: Range<usize>,
    entries: BTreeMap<String, (Range<usize>, Value<'a>)>,
    /// Every key that was asked for.
    known: Vec<&'static str>,
}

/// A problem with a value and what to write instead.
type Bad = (String, String);

impl<'a> Section<'a> {
    pub(super) fn new(name: &str, span: Range<usize>, table: &'a DeTable<'a>) -> Section<'a> {
        let entries = table.iter().map(|(k, v)| (k.get_ref().to_string(), (k.span(), v))).collect();
        Section { name: name.to_owned(), span, entries, known: Vec::new() }
    }

    /// A section that is not in the file: all defaults.
    pub(super) fn absent(name: &str) -> Section<'a> {
        Section { name: name.to_owned(), span: 0..0, entries: BTreeMap::new(), known: Vec::new() }
    }

    /// The place of a key's value, or of the section where the key is missing.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.entries.get(key).map_or(self.span.clone(), |(_, v)| v.span())
    }

    /// A key with its section's name before it.
    pub fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// True when the file has the key.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// A fault about one of this section's keys.
    pub fn fault(
        &self,
        c: &mut Collector<'_>,
        key: &str,
        problem: impl Into<String>,
        instead: impl Into<String>,
    ) {
        c.add(self.span_of(key), &self.path(key), problem, instead);
    }

    /// Reads a key by `read`; `None` when it is missing or wrong (then there is a fault).
    pub(super) fn get<T>(
        &mut self,
        c: &mut Collector<'_>,
        key: &'static str,
        read: impl FnOnce(&DeValue<'a>) -> Result<T, Bad>,
    ) -> Option<T> {
        self.known.push(key);
        let (_, value) = self.entries.get(key)?;
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err((problem, instead)) => {
                c.add(value.span(), &self.path(key), problem, instead);
                None
            }
        }
    }

    /// A text.
    pub fn text(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<String> {
        self.get(c, key, |v| text(v).map(str::to_owned))
    }

    /// A text with a meaning: an address, a prefix, a rate, a size.
    pub fn parsed<T: FromStr>(
        &mut self,
        c: &mut Collector<'_>,
        key: &'static str,
        wanted: &'static str,
    ) -> Option<T> {
        self.get(c, key, |v| {
            let bad = || (format!("{} is not {wanted}", kind(v)), format!("write {wanted}"));
            let text = v.as_str().ok_or_else(bad)?;
            text.parse().map_err(|_| (format!("{text:?} is not {wanted}"), format!("write {wanted}")))
        })
    }

    /// A bit rate with its unit, in any of the [`spellings`].
    pub fn rate(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<BitRate> {
        let wanted = ("a bit rate with its unit", "write a bit rate such as \"10 Mbit/s\" or \"10mbit\"");
        self.measured(c, key, wanted, |text| spellings::bits_per_second(text).map(BitRate))
    }

    /// A size with its unit, in any of the [`spellings`].
    pub fn bytes(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<Bytes> {
        let wanted = ("a size with its unit", "write a size such as \"512 MiB\" or \"20 GB\"");
        self.measured(c, key, wanted, |text| spellings::bytes(text).map(Bytes))
    }

    /// A time with its unit, in any of the [`spellings`].
    pub fn duration(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<Duration> {
        let wanted = ("a time with its unit", "write a time such as \"500 ms\" or \"85 min\"");
        self.measured(c, key, wanted, spellings::time)
    }

    /// A text with a number and a unit.
    fn measured<T>(
        &mut self,
        c: &mut Collector<'_>,
        key: &'static str,
        (wanted, instead): (&'static str, &'static str),
        read: impl FnOnce(&str) -> Result<T, UnitError>,
    ) -> Option<T> {
        self.get(c, key, |v| match v.as_str() {
            Some(text) => read(text).map_err(|e| (e.problem(), e.instead())),
            None => Err((format!("{} is not {wanted}", kind(v)), instead.to_owned())),
        })
    }

    /// A time with its unit, or the word `off`, which is `Some(None)`.
    pub fn duration_or_off(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<Option<Duration>> {
        let is_off = self.entries.get(key).is_some_and(|(_, v)| v.get_ref().as_str() == Some("off"));
        if is_off {
            self.known.push(key);
            return Some(None);
        }
        self.duration(c, key).map(Some)
    }

    /// A whole number in a range.
    pub fn count(
        &mut self,
        c: &mut Collector<'_>,
        key: &'static str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        self.get(c, key, |v| {
            let bad = |what: String| {
                (what, format!("write a whole number from {} to {}", range.start(), range.end()))
            };
            let DeValue::Integer(n) = v else {
                return Err(bad(format!("{} is not a whole number", kind(v))));
            };
            let number = i128::from_str_radix(&n.as_str().replace('_', ""), n.radix()).ok();
            let number = number.and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
            number.ok_or_else(|| bad(format!("{} is out of range", n.as_str())))
        })
    }

    /// A number from `min` to `max`.
    pub fn fraction(&mut self, c: &mut Collector<'_>, key: &'static str, min: f64, max: f64) -> Option<f64> {
        self.get(c, key, |v| {
            number(v).filter(|n| n.is_finite() && *n >= min && *n <= max).ok_or_else(|| {
                (
                    format!("this is not a number from {min} to {max}"),
                    format!("write a number from {min} to {max}"),
                )
            })
        })
    }

    /// A datapath id: a whole number, or a text of hexadecimal digits as tools of OpenFlow write
    /// it. None is 0, which Open vSwitch takes for "choose one".
    pub fn datapath_id(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<Dpid> {
        self.get(c, key, |v| {
            let number = match v {
                DeValue::Integer(n) => {
                    let digits = n.as_str().replace('_', "");
                    i128::from_str_radix(&digits, n.radix()).ok().and_then(|n| u64::try_from(n).ok())
                }
                DeValue::String(text) => {
                    let digits = text.strip_prefix("0x").or(Some(text.as_ref()).filter(|t| t.len() == 16));
                    let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                    digits.and_then(|d| u64::from_str_radix(d, 16).ok())
                }
                _ => None,
            };
            number.filter(|n| *n != 0).map(Dpid).ok_or_else(|| {
                let problem = "this is not a datapath id".to_owned();
                (problem, "write a number from 1 on, \"0x11\", or 16 hexadecimal digits".to_owned())
            })
        })
    }

    /// True or false.
    pub fn flag(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<bool> {
        self.get(c, key, |v| {
            v.as_bool().ok_or_else(|| {
                (format!("{} is neither true nor false", kind(v)), "write true or false".to_owned())
            })
        })
    }

    /// One of a few words.
    pub fn word<T: Copy>(
        &mut self,
        c: &mut Collector<'_>,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        self.get(c, key, |v| {
            let text = text(v)?;
            let all: Vec<String> = words.iter().map(|(w, _)| format!("{w:?}")).collect();
            let found = words.iter().find(|(w, _)| *w == text).map(|(_, t)| *t);
            found
                .ok_or_else(|| (format!("{text:?} is not known here"), format!("write {}", all.join(" or "))))
        })
    }

    /// The name of a policy: one of `known`, or any where none is.
    pub fn name(&mut self, c: &mut Collector<'_>, key: &'static str, known: &[String]) -> Option<PolicyName> {
        self.get(c, key, |v| {
            let text = text(v)?;
            if known.is_empty() || known.iter().any(|name| name == text) {
                return Ok(PolicyName(text.to_owned()));
            }
            let all: Vec<String> = known.iter().map(|w| format!("{w:?}")).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let guess = nearest(text, &known).map_or(String::new(), |k| format!("did you mean {k:?}? "));
            Err((format!("{text:?} is not known here"), format!("{guess}write {}", all.join(" or "))))
        })
    }

    /// A list of texts.
    pub fn texts(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<Vec<String>> {
        self.get(c, key, |v| {
            let bad = || ("this is not a list of texts".to_owned(), "write [\"...\", \"...\"]".to_owned());
            let list = v.as_array().ok_or_else(bad)?;
            list.iter().map(|v| v.get_ref().as_str().map(str::to_owned).ok_or_else(bad)).collect()
        })
    }

    /// A table below this one; absent where the file does not have it.
    pub fn section(&mut self, c: &mut Collector<'_>, key: &'static str) -> Section<'a> {
        self.known.push(key);
        let path = self.path(key);
        match self.entries.get(key).map(|(at, value)| (at, *value)) {
            None => Section::absent(&path),
            Some((at, value)) => match value.get_ref() {
                DeValue::Table(table) => Section::new(&path, at.clone(), table),
                other => {
                    let problem = format!("{} is not a section", kind(other));
                    c.add(value.span(), &path, problem, format!("write it as [{path}]"));
                    Section::absent(&path)
                }
            },
        }
    }

    /// The tables below this one that nobody has asked for, with their names: they are known from
    /// now on.
    pub fn tables(&mut self) -> Vec<(String, Section<'a>)> {
        let is_table = |v: &Value<'a>| matches!(v.get_ref(), DeValue::Table(_));
        let known = &self.known;
        let found = |key: &String, value: &Value<'a>| is_table(value) && !known.contains(&key.as_str());
        let names: Vec<String> =
            self.entries.iter().filter(|(k, (_, v))| found(k, v)).map(|(k, _)| k.clone()).collect();
        let mut tables = Vec::new();
        for name in names {
            let Some((at, value)) = self.entries.remove(&name) else { continue };
            if let DeValue::Table(table) = value.get_ref() {
                tables.push((name.clone(), Section::new(&self.path(&name), at, table)));
            }
        }
        tables
    }

    /// All keys with their values, as options of something that knows what they mean.
    pub fn options(self, c: &mut Collector<'_>) -> ToolOptions {
        let mut options = ToolOptions::new();
        for (key, (_, value)) in &self.entries {
            match option(value.get_ref()) {
                Ok(option) => drop(options.insert(key.clone(), option)),
                Err((problem, instead)) => c.add(value.span(), &self.path(key), problem, instead),
            }
        }
        options
    }

    /// A fault about this section as a whole.
    pub fn fault_here(&self, c: &mut Collector<'_>, problem: impl Into<String>, instead: impl Into<String>) {
        c.add(self.span.clone(), &self.name, problem, instead);
    }

    /// The tables of a `[[list]]` below this one.
    pub fn list(&mut self, c: &mut Collector<'_>, key: &'static str) -> Vec<Section<'a>> {
        self.known.push(key);
        let path = self.path(key);
        let Some((_, value)) = self.entries.get(key).map(|(at, value)| (at, *value)) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        let items = value.get_ref().as_array();
        for item in items.into_iter().flat_map(|a| a.iter()) {
            if let DeValue::Table(table) = item.get_ref() {
                sections.push(Section::new(&path, item.span(), table));
            }
        }
        if items.is_none_or(|a| a.len() != sections.len()) {
            let problem = format!("{path} is a list of sections");
            c.add(value.span(), &path, problem, format!("write each one under a line [[{path}]]"));
        }
        sections
    }

    /// Every key that nobody asked for is a fault.
    pub fn finish(self, c: &mut Collector<'_>) {
        for (key, (span, _)) in &self.entries {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let nearest = nearest(key, &self.known);
            let mut all = self.known.clone();
            all.sort_unstable();
            all.dedup();
            let instead = match nearest {
                Some(known) => format!("did you mean `{known}`? Known here: {}", all.join(", ")),
                None => format!("known here: {}", all.join(", ")),
            };
            c.add(span.clone(), &self.path(key), "unknown key", instead);
        }
    }
}

/// Bytes of an option that is a text: the longest path (PATH_MAX).
const OPTION: usize = 4096;

fn option(v: &DeValue<'_>) -> Result<ToolOption, Bad> {
    let bad = || (format!("{} is no option", kind(v)), "write a number, a text, true or false".to_owned());
    match v {
        DeValue::Boolean(flag) => Ok(ToolOption::Flag(*flag)),
        DeValue::String(text) if text.len() <= OPTION => Ok(ToolOption::Text(text.to_string())),
        DeValue::String(_) => {
            Err(("a text this long is no option".into(), format!("write at most {OPTION} bytes")))
        }
        _ => number(v).filter(|n| n.is_finite()).map(ToolOption::Number).ok_or_else(bad),
    }
}

fn number(v: &DeValue<'_>) -> Option<f64> {
    match v {
        DeValue::Float(f) => f.as_str().replace('_', "").parse::<f64>().ok(),
        DeValue::Integer(i) => {
            i64::from_str_radix(&i.as_str().replace('_', ""), i.radix()).ok().map(|i| i as f64)
        }
        _ => None,
    }
}

fn text<'v>(v: &'v DeValue<'_>) -> Result<&'v str, Bad> {
    v.as_str().ok_or_else(|| (format!("{} is not a text", kind(v)), "write it in quotes".to_owned()))
}

/// A value's type with its article: `a string`, `an integer`.
fn kind(v: &DeValue<'_>) -> String {
    let name = v.type_str();
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}
