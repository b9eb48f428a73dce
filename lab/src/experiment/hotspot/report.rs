//! The experiment's tables (`series`, `summary`), its figures (`server`, `link`), and the table for
//! the terminal.

use crate::experiment::hotspot::scenario::{Outcome, What};
use crate::experiment::plot::{Axis, Curve, Drawing, Figure, Role};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::Table;
use std::fmt::Write as _;

/// Header of `series.csv`.
pub const SERIES: &str = "hotspot;rise;horizon_s;second;ratio;under_way;moves";
/// Header of `summary.csv`.
pub const SUMMARY: &str =
    "hotspot;rise;horizon_s;noticed_s;begun_s;periods_to_begun;over_threshold_s;cool_s;moves";

/// What happens, happens in the first minutes; the tail is in the series.
const SHOWN: f64 = 600.0;

fn conditions(o: &Outcome) -> String {
    format!("{};{};{}", o.scenario.what.name(), o.scenario.rise(), o.scenario.horizon.as_secs())
}

/// Every second of every run.
pub fn series(outcomes: &[Outcome]) -> String {
    let mut text = format!("{SERIES}\n");
    for o in outcomes {
        for r in &o.rows {
            let of = conditions(o);
            let _ = writeln!(text, "{of};{};{:.4};{};{}", r.second, r.ratio, r.under_way, r.moves);
        }
    }
    text
}

/// A row for each run. `cool_s` is empty where it never got hot.
pub fn summary(outcomes: &[Outcome]) -> String {
    let mut text = format!("{SUMMARY}\n");
    for o in outcomes {
        let cool = o.cool.map_or(String::new(), |s| format!("{s:.0}"));
        let of = conditions(o);
        let noticed = o.noticed;
        let begun = o.begun;
        let periods = o.periods();
        let _ = writeln!(text, "{of};{noticed:.3};{begun:.3};{periods:.3};{};{cool};{}", o.over, o.moves);
    }
    text
}

/// The same for people.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<8} {:<7} {:>8} {:>9} {:>9} {:>17} {:>8} {:>10} {:>6}\n",
        "hotspot", "rise", "horizon", "noticed", "begun", "periods to begin", "over", "cool after", "moves"
    );
    for o in outcomes {
        let _ = writeln!(
            text,
            "{:<8} {:<7} {:>7}s {:>8.1}s {:>8.1}s {:>17.3} {:>7}s {:>10} {:>6}",
            o.scenario.what.name(),
            o.scenario.rise(),
            o.scenario.horizon.as_secs(),
            o.noticed,
            o.begun,
            o.periods(),
            o.over,
            o.cool.map_or("never hot".to_owned(), |s| format!("{s:.0}s")),
            o.moves
        );
    }
    text
}

/// Fills the run folder, the manifest apart.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &mut RunFolder, outcomes: &[Outcome], place: &str) -> anyhow::Result<()> {
    folder.table(Table::of_lines("series", 4, &series(outcomes)))?;
    folder.table(Table::of_lines("summary", 3, &summary(outcomes)))?;
    for what in [What::Server, What::Link] {
        let of: Vec<&Outcome> = outcomes.iter().filter(|o| o.scenario.what == what).collect();
        let threshold = of.first().map_or(0.0, |o| o.threshold * 100.0);
        let bound = Curve {
            name: "threshold".into(),
            role: Role::Bound,
            style: of.len(),
            points: vec![(0.0, threshold), (SHOWN, threshold)],
            half: Vec::new(),
        };
        let measured = of.iter().enumerate().map(|(n, o)| {
            let seconds = o.rows.iter().filter(|r| r.second as f64 <= SHOWN);
            let name = match o.scenario.horizon.as_secs() {
                0 => format!("{} rise", o.scenario.rise()),
                horizon => format!("{} rise, {horizon} s ahead", o.scenario.rise()),
            };
            let points = seconds.map(|r| (r.second as f64, r.ratio * 100.0)).collect();
            Curve { name, style: n, points, ..Curve::default() }
        });
        let (title, label) = match what {
            What::Server => ("A server gets hot, and is relieved", "CPU in use"),
            What::Link => ("A link gets hot, and is relieved", "link ratio"),
        };
        let figure = Figure {
            title: title.into(),
            place: place.to_owned(),
            x: Axis::to("time since it began to get hot", "s", SHOWN).counting(),
            y: Axis::to(label, "%", 110.0),
            curves: measured.chain([bound]).collect(),
        };
        folder.figure(what.name(), Drawing::Lines(figure))?;
    }
    Ok(())
}
