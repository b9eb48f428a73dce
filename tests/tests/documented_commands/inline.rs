//! Commands in the text, between backticks: that their verbs and options exist.
//!
//! Such a command is shortened for the reader (`tandem vm adopt`), so what it lacks is not looked
//! at: `--help` behind the words makes a program take what it is given and stop before it misses
//! something.

use super::page::Page;
use super::programs::{self, PARSE_ONLY};
use std::process::{Command, Stdio};

/// What is wrong with the pages' code spans.
pub(crate) fn faults(pages: &[Page]) -> anyhow::Result<Vec<String>> {
    let programs = programs::that_only_parse()?;
    let mut faults = Vec::new();
    for (place, span) in pages.iter().flat_map(|page| &page.spans) {
        // A command behind a comma or semicolon in one span is looked at by itself.
        for command in span.split(';') {
            let words = split(command);
            let Some((first, rest)) = words.split_first() else { continue };
            let Some((_, program)) = programs.iter().find(|(name, _)| name == first) else {
                continue;
            };
            let output = Command::new(program)
                .args(rest)
                .arg("--help")
                .env(PARSE_ONLY, "1")
                .stdin(Stdio::null())
                .output()?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let why = said.lines().next().unwrap_or_default();
                faults.push(format!("{place}: `{command}`: {why}"));
            }
        }
    }
    Ok(faults)
}

/// The words of a command; quotes hold a word together.
fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in command.split(['"', '\'']).enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            let plain = part.split_whitespace().filter(|word| *word != "...");
            words.extend(plain.map(str::to_owned));
        }
    }
    words
}

#[test]
fn quotes_hold_a_word_together() {
    assert_eq!(
        split("tandem vm request --net \"1 Mbit/s\" ..."),
        ["tandem", "vm", "request", "--net", "1 Mbit/s"]
    );
}
