//! Reading what a tool is told (`[traffic.TOOL]` of the site file): each key once, with its default
//! and what it may be; a key that nobody reads, and a value that cannot be, are faults with the
//! key's name.

use std::collections::BTreeSet;
use std::time::Duration;
use tandem_model::{ToolOption, ToolOptions};

/// An option that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}; {instead}")]
pub struct OptionFault {
    /// Its key below `[traffic.TOOL]`.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to write.
    pub instead: String,
}

/// The key by which a section makes its name another name of a tool.
pub(super) const TOOL: &str = "tool";

/// A tool's options while they are read.
pub(super) struct Reader<'a> {
    options: &'a ToolOptions,
    known: BTreeSet<&'static str>,
    fault: Option<OptionFault>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(options: &'a ToolOptions) -> Reader<'a> {
        Reader { options, known: BTreeSet::from([TOOL]), fault: None }
    }

    /// Notes a fault; the first one counts.
    pub(super) fn fault(&mut self, key: &str, problem: impl Into<String>, instead: impl Into<String>) {
        let fault = OptionFault { key: key.to_owned(), problem: problem.into(), instead: instead.into() };
        self.fault.get_or_insert(fault);
    }

    fn value(&mut self, key: &'static str) -> Option<&'a ToolOption> {
        self.known.insert(key);
        self.options.get(key)
    }

    /// A time from `min` to `max`, written with its unit.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        min: Duration,
        max: Duration,
    ) -> Duration {
        let Some(value) = self.value(key) else { return default };
        let duration = match value {
            ToolOption::Text(text) => tandem_model::spellings::time(text).ok(),
            _ => None,
        };
        match duration.filter(|d| (min..=max).contains(d)) {
            Some(duration) => duration,
            None => {
                let instead = format!("write a time from \"{min:?}\" to \"{max:?}\", such as \"500 ms\"");
                self.fault(key, format!("{value} is no time that it can be"), instead);
                default
            }
        }
    }

    /// A number from `min` to `max`.
    pub(super) fn number(&mut self, key: &'static str, default: f64, min: f64, max: f64) -> f64 {
        let Some(value) = self.value(key) else { return default };
        match value {
            ToolOption::Number(number) if (min..=max).contains(number) => *number,
            _ => {
                let problem = format!("{value} is not a number from {min} to {max}");
                self.fault(key, problem, format!("write a number from {min} to {max}"));
                default
            }
        }
    }

    /// One of a few words, the first of them where the key is left out.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let first = words.first().map(|(_, meaning)| *meaning);
        let Some(value) = self.value(key) else { return first };
        let found = match value {
            ToolOption::Text(text) => {
                words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning)
            }
            _ => None,
        };
        if found.is_none() {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.fault(key, format!("{value} is not known here"), format!("write {}", all.join(" or ")));
        }
        found.or(first)
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        match self.value(key)? {
            ToolOption::Text(text) => Some(text),
            value => {
                self.fault(key, format!("{value} is not a text"), "write it in quotes");
                None
            }
        }
    }

    /// The first fault, or `options`; a key that was not read is one.
    pub(super) fn finish<T>(mut self, options: T) -> Result<T, OptionFault> {
        if let Some(unknown) = self.options.keys().find(|key| !self.known.contains(key.as_str())) {
            let known: Vec<&str> = self.known.iter().copied().collect();
            self.fault(unknown, "unknown key", format!("known here: {}", known.join(", ")));
        }
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, ToolOption)]) -> Result<(Duration, f64, u8), OptionFault> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let mut reader = Reader::new(&options);
        let second = Duration::from_secs(1);
        let on = reader.duration("on", second, Duration::from_millis(1), second * 60);
        let shape = reader.number("shape", 1.5, 1.01, 10.0);
        let word = reader.word("distribution", &[("exponential", 0), ("pareto", 1)]).unwrap_or(9);
        reader.finish((on, shape, word))
    }

    #[test]
    fn what_is_left_out_has_its_default_and_what_cannot_be_is_said_by_its_key() {
        let text = |t: &str| ToolOption::Text(t.into());
        assert_eq!(read(&[]), Ok((Duration::from_secs(1), 1.5, 0)));
        let all =
            [("on", text("20 ms")), ("shape", ToolOption::Number(2.0)), ("distribution", text("pareto"))];
        assert_eq!(read(&all), Ok((Duration::from_millis(20), 2.0, 1)));
        for (key, value) in [
            ("on", text("20")),
            ("on", text("2 h")),
            ("on", ToolOption::Number(2.0)),
            ("shape", ToolOption::Number(1.0)),
            ("shape", text("2")),
            ("distribution", text("normal")),
            ("distribution", ToolOption::Flag(true)),
            ("off", text("1 s")),
        ] {
            let fault = read(&[(key, value.clone())]).expect_err("a fault");
            assert_eq!(fault.key, key, "{value}");
        }
        // A section's `tool` is read by whoever finds the tool.
        assert!(read(&[("tool", text("on-off"))]).is_ok());
    }
}
