//! A table of a file that people write (the site, the testbed's inventory), read key by key. What
//! is not what it should be becomes a fault and the default stands in, so that one pass finds every
//! fault; what nobody read is an unknown key.

use super::PolicyName;
use super::faults::Collector;
use crate::units::{scaled, split_number};
use crate::{BitRate, Bytes};
use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Value<'a> = &'a Spanned<DeValue<'a>>;

/// See the module.
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

    /// A bit rate with its unit.
    pub fn rate(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<BitRate> {
        self.parsed(c, key, "a bit rate with its unit, such as \"10 Mbit/s\"")
    }

    /// A size with its unit.
    pub fn bytes(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<Bytes> {
        self.parsed(c, key, "a size with its unit, such as \"512 MiB\" or \"20 GB\"")
    }

    /// A time with its unit.
    pub fn duration(&mut self, c: &mut Collector<'_>, key: &'static str) -> Option<Duration> {
        self.get(c, key, |v| {
            let instead = "write a number and us, ms, s, min, h or d, such as \"500 ms\" or \"85 min\"";
            let bad = |what: String| (format!("{what} is not a time with its unit"), instead.to_owned());
            let text = v.as_str().ok_or_else(|| bad(kind(v)))?;
            duration(text).ok_or_else(|| bad(format!("{text:?}")))
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
            let number = match v {
                DeValue::Float(f) => f.as_str().replace('_', "").parse::<f64>().ok(),
                DeValue::Integer(i) => {
                    i64::from_str_radix(&i.as_str().replace('_', ""), i.radix()).ok().map(|i| i as f64)
                }
                _ => None,
            };
            number.filter(|n| n.is_finite() && *n >= min && *n <= max).ok_or_else(|| {
                (
                    format!("this is not a number from {min} to {max}"),
                    format!("write a number from {min} to {max}"),
                )
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

fn text<'v>(v: &'v DeValue<'_>) -> Result<&'v str, Bad> {
    v.as_str().ok_or_else(|| (format!("{} is not a text", kind(v)), "write it in quotes".to_owned()))
}

/// A value's type with its article: `a string`, `an integer`.
fn kind(v: &DeValue<'_>) -> String {
    let name = v.type_str();
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// A number and a unit; `None` when it is neither, or longer than 100 years.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let nanos: u64 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    let total = scaled(number, nanos)?;
    (total <= 100 * 366 * 86_400_000_000_000).then(|| Duration::from_nanos(total))
}

/// Characters of a key that are compared: whatever is longer is no slip of the hand.
const COMPARED: usize = 64;

/// The known key that was probably meant: the one at the smallest edit distance (Levenshtein 1966),
/// if that is small.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let key: String = key.chars().take(COMPARED).collect();
    let nearest = known.iter().map(|k| (strsim::levenshtein(&key, k), *k)).min();
    nearest.filter(|(d, k)| *d <= 1 + k.len() / 3).map(|(_, k)| k)
}
