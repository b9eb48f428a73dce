//! A strict reader of what `/metrics` answers: the OpenMetrics text format, version 1.0.0, as far
//! as it is used here. What the specification forbids is an error, so that a test which reads an
//! answer has also checked it.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// One sample's labels.
pub type Labels = BTreeMap<String, String>;

/// All samples of an answer, by the name that is queried and the labels.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    /// By name and labels.
    pub samples: BTreeMap<String, BTreeMap<Labels, f64>>,
    /// Families: name, type.
    pub families: BTreeMap<String, String>,
}

struct Family {
    name: String,
    kind: String,
    unit: Option<String>,
    has_help: bool,
}

impl Exposition {
    /// Reads an answer.
    ///
    /// # Errors
    /// With the line that is not as it should be.
    pub fn read(text: &str) -> Result<Exposition> {
        let mut out = Exposition::default();
        let body = text.strip_suffix("# EOF\n").context("it does not end in `# EOF`")?;
        let mut family: Option<Family> = None;
        let mut units = BTreeSet::new();
        for (n, line) in body.lines().enumerate() {
            out.line(line, &mut family, &mut units).with_context(|| format!("line {}: {line}", n + 1))?;
        }
        Ok(out)
    }

    fn line(&mut self, line: &str, family: &mut Option<Family>, units: &mut BTreeSet<String>) -> Result<()> {
        if let Some(rest) = line.strip_prefix("# ") {
            let (keyword, rest) = rest.split_once(' ').context("a comment of no kind")?;
            let (name, value) = rest.split_once(' ').context("nothing after the name")?;
            ensure!(is_name(name), "{name:?} is no name");
            if family.as_ref().is_none_or(|f| f.name != name) {
                ensure!(
                    !self.families.contains_key(name),
                    "{name} comes twice: families must not interleave"
                );
                self.families.insert(name.to_owned(), "unknown".into());
                *family =
                    Some(Family { name: name.into(), kind: "unknown".into(), unit: None, has_help: false });
            }
            let Some(family) = family else { bail!("no family") };
            match keyword {
                "TYPE" => {
                    ensure!(["counter", "gauge", "info"].contains(&value), "type {value:?}");
                    ensure!(
                        value != "counter" || !name.ends_with("_total"),
                        "a counter's family has no _total"
                    );
                    family.kind = value.into();
                    self.families.insert(name.into(), value.into());
                }
                "UNIT" => {
                    ensure!(name.ends_with(&format!("_{value}")), "a family ends in its unit");
                    ensure!(units.insert(name.into()), "two units");
                    family.unit = Some(value.into());
                }
                "HELP" => {
                    ensure!(!family.has_help && !value.is_empty(), "help comes once, and says something");
                    family.has_help = true;
                }
                other => bail!("{other:?} is neither HELP, TYPE nor UNIT"),
            }
            return Ok(());
        }
        let family = family.as_ref().context("a sample before any family")?;
        ensure!(family.has_help && family.kind != "unknown", "a family without help or type");
        let (name, labels, value) = sample(line)?;
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        ensure!(name == format!("{}{suffix}", family.name), "a {} of another name", family.kind);
        let number: f64 = value.parse().with_context(|| format!("{value:?} is no number"))?;
        ensure!(number.is_finite(), "not finite");
        ensure!(family.kind != "counter" || number >= 0.0, "a counter below 0");
        ensure!(family.kind != "info" || number == 1.0, "an info is 1");
        let before = self.samples.entry(name.into()).or_default().insert(labels, number);
        ensure!(before.is_none(), "the same labels twice");
        Ok(())
    }

    /// The value with exactly those labels.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let wanted: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let of_name = self.samples.get(name).with_context(|| format!("there is no metric {name}"))?;
        of_name.get(&wanted).copied().with_context(|| format!("{name} has no {wanted:?}"))
    }

    /// How many samples there are in all.
    pub fn len(&self) -> usize {
        self.samples.values().map(BTreeMap::len).sum()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Name, labels and value of a line such as `a_total{b="c\"d"} 5`.
fn sample(line: &str) -> Result<(&str, Labels, &str)> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, rest) = line.split_at(end);
    ensure!(is_name(name), "{name:?} is no name");
    let mut labels = Labels::new();
    let Some(mut rest) = rest.strip_prefix('{') else {
        return Ok((name, labels, rest.strip_prefix(' ').context("no value")?));
    };
    while !rest.starts_with('}') {
        let (key, after) = rest.split_once("=\"").context("a label without a value")?;
        ensure!(is_name(key), "{key:?} is no label");
        let (mut value, mut chars, mut length) = (String::new(), after.chars(), 0);
        loop {
            let c = chars.next().context("a value without an end")?;
            length += c.len_utf8();
            match c {
                '"' => break,
                '\\' => {
                    let escaped = chars.next().context("nothing after a backslash")?;
                    length += escaped.len_utf8();
                    value.push(match escaped {
                        'n' => '\n',
                        '\\' | '"' => escaped,
                        other => bail!("\\{other} means nothing"),
                    });
                }
                c => value.push(c),
            }
        }
        ensure!(labels.insert(key.into(), value).is_none(), "label {key} twice");
        rest = after.get(length..).unwrap_or_default();
        match rest.strip_prefix(',') {
            Some(more) => {
                ensure!(!more.starts_with('}'), "a comma before the end");
                rest = more;
            }
            None => ensure!(rest.starts_with('}'), "no comma between labels"),
        }
    }
    let value = rest.strip_prefix("} ").context("no value")?;
    Ok((name, labels, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_bytes What is sent.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n\
                        a_bytes_total{port=\"x\\\"1\\n\",class=\"g\"} 5\na_bytes_total 7\n# EOF\n";

    #[test]
    fn what_is_allowed_is_read() {
        let read = Exposition::read(GOOD).expect("it is right");
        assert_eq!(read.value("a_bytes_total", &[("port", "x\"1\n"), ("class", "g")]).ok(), Some(5.0));
        assert_eq!(read.value("a_bytes_total", &[]).ok(), Some(7.0));
        assert!(read.value("a_bytes_total", &[("port", "x")]).is_err() && read.len() == 2);
    }

    #[test]
    fn what_is_not_is_refused() {
        for (from, to) in [
            ("# EOF\n", ""),
            ("a_bytes_total 7", "a_bytes 7"),
            ("a_bytes_total 7", "a_bytes_total{port=\"x\\\"1\\n\",class=\"g\"} 6"),
            ("} 5", "} -5"),
            ("} 5", ",} 5"),
            ("} 5", "} five"),
            ("\\n\"", "\\t\""),
            ("# UNIT a_bytes bytes", "# UNIT a_bytes seconds"),
            ("counter", "tally"),
            ("# HELP a_bytes What is sent.\n", ""),
            ("# EOF", "# HELP b B\n# TYPE b gauge\nb 1\n# HELP a_bytes Again.\n# EOF"),
        ] {
            let bad = GOOD.replacen(from, to, 1);
            assert_ne!(bad, GOOD);
            assert!(Exposition::read(&bad).is_err(), "{bad}");
        }
    }
}
