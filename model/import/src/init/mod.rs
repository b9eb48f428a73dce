//! A new site file, question by question (`tandem init`).
//!
//! After each answer the file is written as it would be, with defaults for what was not asked yet,
//! and read by the site's own reader; what that finds is the answer's fault, for without it the
//! file was right. So an answer is refused in the same words as the line in the file would be.
//!
//! Asking is the same on a terminal and on a pipe: a line is an answer, an empty one takes the
//! default. An input that ends early is an error that names what is missing.

mod questions;

use questions::{Form, Question, questions};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Read, Write};
use tandem_model::shapes::SHAPES;
use tandem_model::site::Faults;
use tandem_model::text::escaped;

/// The longest answer, in bytes.
pub const LONGEST_ANSWER: u64 = 1000;

/// What asking needs from outside.
pub struct Init<'a> {
    /// The site's reader, which knows the policies that there are.
    pub check: &'a dyn Fn(&str) -> Result<(), Faults>,
    /// The allocation policies that there are.
    pub allocations: &'a [String],
}

/// Why there is no new site.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The input ended before the last question.
    #[error(
        "the answers end after {given}; missing: {missing}. Write a line for each (an empty one takes the default), \
         or take all defaults by --yes"
    )]
    Ended {
        /// How many there were.
        given: usize,
        /// What was not answered.
        missing: String,
    },
    /// Asking failed.
    #[error("cannot ask: {0}")]
    Io(#[from] io::Error),
    /// The defaults make no site; with policies that are not those of Tandem this can be.
    #[error("the defaults make no site: {0}")]
    Defaults(Faults),
}

/// What was answered, by table and key.
#[derive(Debug, Clone, Default)]
pub struct Answers(BTreeMap<(&'static str, &'static str), String>);

impl Answers {
    fn get(&self, table: &'static str, key: &'static str) -> Option<&str> {
        self.0.get(&(table, key)).map(String::as_str)
    }

    /// A count of the topology; 0 where it is none.
    fn count(&self, key: &'static str) -> u64 {
        self.get("topology", key).and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }

    fn shape(&self) -> &str {
        self.get("topology", "shape").unwrap_or_default()
    }

    /// The same with the defaults of what is missing.
    fn completed(&self) -> Answers {
        let mut all = self.clone();
        // The shape decides which questions there are.
        let shape = all.shape().to_owned();
        for q in questions(&shape) {
            if all.get(q.table, q.key).is_none() {
                let default = (q.default)(&all);
                all.0.insert((q.table, q.key), default);
            }
        }
        all
    }
}

impl Init<'_> {
    /// Asks everything; the text of the new file.
    ///
    /// # Errors
    /// When the input ends early, or cannot be read.
    pub fn ask(&self, input: &mut dyn BufRead, output: &mut dyn Write) -> Result<String, InitError> {
        writeln!(output, "A new site: an empty answer takes what stands in brackets.")?;
        let mut answers = Answers::default();
        let mut given = 0;
        loop {
            let shape = answers.shape().to_owned();
            let Some(q) = questions(&shape).find(|q| answers.get(q.table, q.key).is_none()) else { break };
            let default = (q.default)(&answers);
            write!(output, "\n{}\n{} [{default}]: ", self.about(q), path(q))?;
            output.flush()?;
            let Some(answer) = read_answer(input)? else {
                writeln!(output)?;
                let open = questions(&shape).filter(|q| answers.get(q.table, q.key).is_none());
                let missing: Vec<String> = open.map(path).collect();
                return Err(InitError::Ended { given, missing: missing.join(", ") });
            };
            given += 1;
            let answer = if answer.trim().is_empty() { default } else { answer.trim().to_owned() };
            let mut with = answers.clone();
            with.0.insert((q.table, q.key), answer);
            match self.problems(q, &with) {
                Ok(()) => answers = with,
                Err(problems) => {
                    for problem in problems {
                        writeln!(output, "  {problem}")?;
                    }
                }
            }
        }
        Ok(self.text(&answers))
    }

    /// The site of all defaults.
    ///
    /// # Errors
    /// When those make no site.
    pub fn defaults(&self) -> Result<String, InitError> {
        let text = self.text(&Answers::default().completed());
        (self.check)(&text).map_err(InitError::Defaults)?;
        Ok(text)
    }

    /// What an answer makes wrong.
    fn problems(&self, q: &Question, answers: &Answers) -> Result<(), Vec<String>> {
        let answer = answers.get(q.table, q.key).unwrap_or_default();
        // A number stands in the file as it is written, and nothing else may come with it.
        let is_word = answer.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
        if q.form == Form::Number && !is_word {
            return Err(vec![format!(
                "{:?} is not a number; write one, such as 4",
                escaped(answer).to_string()
            )]);
        }
        if q.form == Form::Classes {
            classes(answer).map_err(|problem| vec![problem])?;
        }
        if q.key == "shape" && !shapes().any(|shape| shape == answer) {
            let known: Vec<&str> = shapes().collect();
            let problem = format!("{:?} is not a shape that is asked for", escaped(answer).to_string());
            return Err(vec![format!("{problem}; write {}", known.join(", "))]);
        }
        (self.check)(&self.text(&answers.completed())).map_err(|faults| {
            let said = faults.faults.iter().map(|f| format!("{}; {}", f.problem, f.instead));
            said.collect()
        })
    }

    fn about(&self, q: &Question) -> String {
        let shapes: Vec<&str> = shapes().collect();
        q.about.replace("SHAPES", &shapes.join(", ")).replace("POLICIES", &self.allocations.join(", "))
    }

    /// The file. Where two links upwards leave a tree in pieces, every switch is linked to all above.
    fn text(&self, answers: &Answers) -> String {
        let text = self.text_with(answers, false);
        if answers.shape() != "three-tier" || (self.check)(&text).is_ok() {
            return text;
        }
        let meshed = self.text_with(answers, true);
        if (self.check)(&meshed).is_ok() { meshed } else { text }
    }

    /// The file, with an explanation of each key.
    fn text_with(&self, answers: &Answers, meshed: bool) -> String {
        let mut text = "# Written by `tandem init`; `tandem check` says whether it is right. What is not written has its\n\
                        # default; the book's page \"Sites\" has every key.\n"
            .to_owned();
        let mut table = "";
        for q in questions(answers.shape()) {
            let answer = answers.get(q.table, q.key).unwrap_or_default();
            if q.form == Form::Classes {
                // What cannot be read was not taken.
                for (name, share) in classes(answer).unwrap_or_default() {
                    let _ = write!(text, "\n[[class]]\nname = {}\nshare = {share}\n", quoted(&name));
                }
                continue;
            }
            if q.table != table {
                table = q.table;
                let _ = write!(text, "\n[{table}]\n");
            }
            let value = if q.form == Form::Text { quoted(answer) } else { answer.to_owned() };
            let _ = writeln!(text, "{} = {value}    # {}", q.key, self.about(q));
            if q.key == "gateways" {
                text.push_str(&links(answers, meshed));
            }
        }
        text
    }
}

/// How many links upwards each switch of a three-tier tree has: two where there are two above, or
/// as many as there are.
fn links(answers: &Answers, meshed: bool) -> String {
    if answers.shape() != "three-tier" {
        return String::new();
    }
    let [core, aggregation, edge, gateways] =
        ["core", "aggregation", "edge", "gateways"].map(|k| answers.count(k));
    let each = |below: u64, above: u64, usual: u64| match meshed {
        true => above,
        false => usual.min(above).max(above.div_ceil(below.max(1))),
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "core_gateway_links = {}    # gateways that each core switch is linked to",
        each(core, gateways, 1)
    );
    if aggregation > 0 {
        let _ = writeln!(
            text,
            "aggregation_core_links = {}    # core switches that each aggregation switch is linked to",
            each(aggregation, core, 2)
        );
    }
    let above = if aggregation > 0 { aggregation } else { core };
    let _ = writeln!(
        text,
        "edge_aggregation_links = {}    # switches above that each edge switch is linked to",
        each(edge, above, 2)
    );
    text
}

/// The shapes that this build has, of those that are asked for by counts.
fn shapes() -> impl Iterator<Item = &'static str> {
    questions::SHAPES.iter().copied().filter(|name| SHAPES.iter().any(|shape| shape.name == *name))
}

fn path(q: &Question) -> String {
    match q.table {
        "" | "class" => q.key.to_owned(),
        table => format!("{table}.{}", q.key),
    }
}

/// `NAME=SHARE ...`; `-` is none.
fn classes(answer: &str) -> Result<Vec<(String, String)>, String> {
    if answer == "-" || answer.is_empty() {
        return Ok(Vec::new());
    }
    let words = answer.split([' ', ',', ';']).filter(|w| !w.is_empty());
    words
        .map(|word| {
            let pair =
                word.split_once('=').filter(|(_, share)| share.parse::<f64>().is_ok_and(f64::is_finite));
            let (name, share) = pair.ok_or_else(|| {
                let word = escaped(word);
                format!("\"{word}\" is not a class with its share; write NAME=PERCENT, such as gold=70")
            })?;
            // As TOML has it: digits on both sides of a point.
            let share = share.parse::<f64>().unwrap_or_default();
            Ok((name.to_owned(), format!("{share:?}")))
        })
        .collect()
}

/// A text as TOML has it (toml.io/en/v1.0.0, basic strings).
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A line; `None` at the end of the input. What is longer than an answer can be is cut, which the
/// site's reader refuses.
fn read_answer(input: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = (&mut *input).take(LONGEST_ANSWER).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\n") && read as u64 == LONGEST_ANSWER {
        // The rest of that line is no answer to the next question.
        loop {
            let available = input.fill_buf()?;
            if available.is_empty() {
                break;
            }
            let end = available.iter().position(|b| *b == b'\n');
            let used = end.map_or(available.len(), |end| end + 1);
            input.consume(used);
            if end.is_some() {
                break;
            }
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests;
