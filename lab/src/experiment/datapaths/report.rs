//! What came out: a table for people, the table `table` for programs, the figures `latency` and
//! `installation`.

use super::LINK;
use crate::experiment::datapaths::measure::{COUNTS, Measured, RATES};
use crate::experiment::plot::{Bars, Drawing};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use std::fmt::Write as _;

/// One datapath's figures.
pub(super) struct Column {
    pub(super) name: String,
    /// Or why there are none.
    pub(super) measured: Result<Measured, String>,
    /// Points off the guaranteed share, or the controller's refusal; `None` where it was left out.
    pub(super) shares: Option<Result<f64, String>>,
}

/// One row of figures: what, the unit, and the figure of a datapath.
struct Figure {
    what: String,
    unit: &'static str,
    of: Box<dyn Fn(&Measured) -> String>,
}

fn figures() -> Vec<Figure> {
    let row = |what: &str, unit: &'static str, of: Box<dyn Fn(&Measured) -> String>| Figure {
        what: what.to_owned(),
        unit,
        of,
    };
    let lost = |n: usize| -> Box<dyn Fn(&Measured) -> String> {
        Box::new(move |m| format!("{} of {}", m.loss[n].0, m.loss[n].1))
    };
    let mut rows = vec![
        row("round trip, median", "us", Box::new(|m| format!("{:.0}", m.latency[0]))),
        row("round trip, 99th percentile", "us", Box::new(|m| format!("{:.0}", m.latency[1]))),
        row(&format!("lost at {} packets/s", RATES[0]), "packets", lost(0)),
        row("lost on the idle port", "packets", lost(1)),
        row("lost on the backlogged port", "packets", lost(2)),
    ];
    for (n, count) in COUNTS.into_iter().enumerate() {
        let of = move |m: &Measured| m.install.get(n).map_or_else(|| "?".into(), |us| format!("{us:.1}"));
        let what = format!("a rule, of {count} installed");
        rows.push(Figure { what, unit: "us", of: Box::new(of) });
    }
    for (n, count) in COUNTS.into_iter().enumerate() {
        let of = move |m: &Measured| m.hardware.get(n).map_or_else(|| "?".into(), usize::to_string);
        rows.push(Figure { what: format!("in hardware, of {count}"), unit: "rules", of: Box::new(of) });
    }
    rows
}

/// Of a class's share; a refusal is told in full below the table.
fn share(column: &Column) -> String {
    match &column.shares {
        Some(Ok(points)) => format!("{points:+.2}"),
        Some(Err(_)) => "refused".into(),
        None => "-".into(),
    }
}

fn answers(columns: &[Column]) -> Vec<&str> {
    let first = columns.iter().find_map(|c| c.measured.as_ref().ok());
    first.map(|m| m.answers.iter().map(|(rule, _)| rule.as_str()).collect()).unwrap_or_default()
}

/// For people.
pub(super) fn table(columns: &[Column]) -> String {
    let mut out = format!(
        "One switch of each kind on the same wires; 1400-byte frames, one port of {} backlogged; classes 70/30 at {LINK} Mbit/s\n\n",
        super::testbench::SLOW
    );
    let line = |out: &mut String, what: &str, unit: &str, cells: Vec<String>| {
        let _ = write!(out, "{what:<32} {unit:<8}");
        for cell in cells {
            let _ = write!(out, " {cell:>16}");
        }
        out.push('\n');
    };
    line(&mut out, "", "", columns.iter().map(|c| c.name.to_owned()).collect());
    let cell =
        |c: &Column, of: &dyn Fn(&Measured) -> String| c.measured.as_ref().map_or_else(|_| "-".into(), of);
    for figure in figures() {
        line(&mut out, &figure.what, figure.unit, columns.iter().map(|c| cell(c, &*figure.of)).collect());
    }
    line(&mut out, "70% class, off its share", "points", columns.iter().map(share).collect());
    out.push('\n');
    for (n, rule) in answers(columns).into_iter().enumerate() {
        let word = |m: &Measured| m.answers.get(n).map_or_else(String::new, |(_, a)| a.word().to_owned());
        line(&mut out, rule, "", columns.iter().map(|c| cell(c, &word)).collect());
    }
    out.push('\n');
    for column in columns {
        match &column.measured {
            Err(why) => {
                let _ = writeln!(out, "{}: {why}", column.name);
            }
            Ok(measured) => {
                for (rule, answer) in &measured.answers {
                    if !matches!(answer.reason(), "" | "software") && answer.word() != "hardware" {
                        let _ = writeln!(
                            out,
                            "{}, {rule}: {}",
                            column.name,
                            reason(answer.word(), answer.reason())
                        );
                    }
                }
            }
        }
        if let Some(Err(refusal)) = &column.shares {
            let _ = writeln!(out, "{}, classes: {refusal}", column.name);
        }
    }
    out
}

fn reason(word: &str, reason: &str) -> String {
    if reason.starts_with(word) { reason.to_owned() } else { format!("{word}: {reason}") }
}

/// A field of a CSV file with semicolons.
fn field(text: &str) -> String {
    text.replace(';', ",").replace('\n', " ")
}

/// Row by row, so that a program need not know how many datapaths there are.
fn csv(columns: &[Column]) -> String {
    let mut out = String::from("datapath;what;unit;value;detail\n");
    for column in columns {
        let mut put = |what: &str, unit: &str, value: &str, detail: &str| {
            let _ =
                writeln!(out, "{};{};{unit};{};{}", column.name, field(what), field(value), field(detail));
        };
        match &column.measured {
            Ok(measured) => {
                for figure in figures() {
                    put(&figure.what, figure.unit, &(figure.of)(measured), "");
                }
                for (rule, answer) in &measured.answers {
                    put(rule, "rule", answer.word(), answer.reason());
                }
            }
            Err(why) => put("all", "", "missing", why),
        }
        if let Some(shares) = &column.shares {
            let detail = shares.as_ref().err().map_or("", String::as_str);
            put("70% class, off its share", "points", &share(column), detail);
        }
    }
    out
}

/// Fills the run folder, the manifest apart.
pub(super) fn write(folder: &mut RunFolder, columns: &[Column]) -> anyhow::Result<()> {
    folder.table(Table::of_lines("table", 3, &csv(columns)))?;
    let measured: Vec<(&str, &Measured)> =
        columns.iter().filter_map(|c| Some((c.name.as_str(), c.measured.as_ref().ok()?))).collect();
    if measured.is_empty() {
        return Ok(());
    }
    let place = "emulated world";
    let latency: Vec<(&str, Vec<f64>)> = measured.iter().map(|(n, m)| (*n, m.latency.to_vec())).collect();
    let groups = ["median".to_owned(), "99th percentile".to_owned()];
    let title = "Round trip through one switch, idle";
    let bars = Bars::of(title, place, "time (us, logarithmic)", &groups, &latency);
    folder.figure("latency", Drawing::Bars(bars))?;
    let install: Vec<(&str, Vec<f64>)> = measured.iter().map(|(n, m)| (*n, m.install.clone())).collect();
    let title = "Installation of a rule, FLOW_MOD to barrier";
    let groups = COUNTS.map(|n| format!("of {n}"));
    let bars = Bars::of(title, place, "time for each rule (us, logarithmic)", &groups, &install);
    folder.figure("installation", Drawing::Bars(bars))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::datapaths::rules::Answer;
    use crate::experiment::table::CsvStyle;

    fn columns() -> Vec<Column> {
        let place = "software: TCP ports; fragments".to_owned();
        let measured = Measured {
            latency: [41.0, 99.4],
            loss: [(0, 3000), (1, 3000), (7500, 10_500)],
            install: vec![120.0, 20.0, 10.0, 9.5],
            hardware: vec![1, 24, 24, 24],
            answers: vec![("a queue".into(), Answer::Accepted(Some(place)))],
        };
        vec![
            Column { name: "Open vSwitch".into(), measured: Err("not here".into()), shares: None },
            Column {
                name: "modelled card".into(),
                measured: Ok(measured),
                shares: Some(Err("no queues".into())),
            },
        ]
    }

    #[test]
    fn what_is_missing_and_what_is_refused_says_so() {
        let text = table(&columns());
        for wanted in [
            "Open vSwitch: not here",
            "modelled card, classes: no queues",
            "modelled card, a queue: software: TCP ports; fragments",
            "1 of 3000",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
    }

    #[test]
    fn a_csv_row_has_five_fields_whatever_is_said() {
        let text = csv(&columns());
        assert!(text.lines().all(|l| l.matches(';').count() == 4), "{text}");
        assert!(text.contains("modelled card;a rule, of 1000 installed;us;9.5;\n"), "{text}");
        assert!(
            text.contains("modelled card;a queue;rule;software;software: TCP ports, fragments\n"),
            "{text}"
        );
    }

    #[test]
    fn figures_are_drawn_with_their_names() {
        let temp = crate::temp_dir::TempDir::new("report-test").expect("a folder");
        let mut folder = RunFolder::make(temp.path(), CsvStyle::Comma).expect("a run folder");
        write(&mut folder, &columns()).expect("written");
        let svg = std::fs::read_to_string(temp.path().join("figures/installation.svg")).expect("there");
        assert!(svg.contains("modelled card") && svg.contains("of 24"), "{svg}");
    }
}
