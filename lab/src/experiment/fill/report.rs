//! The run folder of a filled data centre (`series`, `figure`, `occupation`) and the table for the
//! terminal, each beside the published numbers where there are any.

use super::{SECONDS, Series};
use crate::experiment::manifest::Manifest;
use crate::experiment::plot::{Axis, Curve, Drawing, Figure, Occupation, Role};
use crate::experiment::run_folder::RunFolder;
use crate::experiment::table::{Table, number};
use std::fmt::Write as _;

/// The published series (the raw data of figure 4.2 in Teixeira 2013), in percent at a second; of
/// best fit and worst fit only.
pub fn published(policy: &str, second: u64) -> Option<f64> {
    let percent = match (policy, second) {
        ("best-fit" | "worst-fit", 0) => 0.0,
        ("worst-fit", 1..=16) => 33.0,
        ("worst-fit", 17..=32) => 66.0,
        ("best-fit", 1) => 33.0,
        ("best-fit", 2) => 66.0,
        ("best-fit" | "worst-fit", _) => 100.0,
        _ => return None,
    };
    Some(percent)
}

/// Fills the run folder, the manifest apart.
pub(super) fn write(
    folder: &mut RunFolder,
    runs: &[(String, Series)],
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let columns: Vec<&str> = std::iter::once("second").chain(runs.iter().map(|(p, _)| p.as_str())).collect();
    let mut table = Table::new("series", 1, &columns);
    let last = runs.iter().map(|(_, s)| s.ratio.len()).max().unwrap_or(0);
    for second in 0..last {
        let ratio = |s: &Series| s.ratio.get(second).map_or(String::new(), |r| number(*r, 2));
        table.row(std::iter::once(second.to_string()).chain(runs.iter().map(|(_, s)| ratio(s))));
    }
    folder.table(table)?;
    let mut curves = Vec::new();
    for (n, (policy, series)) in runs.iter().enumerate() {
        let points = series.ratio.iter().enumerate().map(|(n, r)| (n as f64, *r)).collect();
        let name = policy.clone();
        curves.push(Curve { name, role: Role::Measured, style: n, points, half: Vec::new() });
        let points: Vec<(f64, f64)> =
            (0..=SECONDS).filter_map(|s| Some((s as f64, published(policy, s)?))).collect();
        if !points.is_empty() {
            let name = format!("{policy}, published");
            curves.push(Curve { name, role: Role::Published, style: n, points, half: Vec::new() });
        }
    }
    let end = last.saturating_sub(1).max(1) as f64;
    let figure = Figure {
        title: "First server's link ratio, a VM request a second (figure 4.2)".into(),
        place: manifest.place(),
        x: Axis::to("time", "s", end).counting(),
        y: Axis::to("link ratio", "%", 110.0),
        curves,
    };
    folder.figure("figure", Drawing::Lines(figure))?;
    let panels = runs.iter().map(|(p, s)| (p.clone(), s.occupation.clone())).collect();
    folder.figure("occupation", Drawing::Occupation(Occupation { place: manifest.place(), panels }))
}

/// The table for the terminal: the seconds at which the published curves step, beside the published
/// numbers.
pub fn table(runs: &[(String, Series)]) -> String {
    let known = |policy: &str| published(policy, 0).is_some();
    let mut text = format!("{:>8}", "second");
    for (policy, _) in runs {
        let _ = write!(text, " {policy:>14}");
        if known(policy) {
            let _ = write!(text, " {:>10}", "published");
        }
    }
    text.push('\n');
    let last = runs.iter().map(|(_, s)| s.ratio.len()).max().unwrap_or(0) as u64;
    for second in [0u64, 1, 2, 3, 16, 17, 32, 33, 48].into_iter().filter(|s| *s < last) {
        let _ = write!(text, "{second:>8}");
        for (policy, series) in runs {
            let at = series.ratio.get(second as usize).map_or("-".to_owned(), |r| format!("{r:.1}%"));
            let _ = write!(text, " {at:>14}");
            if let Some(published) = published(policy, second) {
                let _ = write!(text, " {published:>9}%");
            }
        }
        text.push('\n');
    }
    let largest = |policy: &str, series: &Series| {
        let off = series.ratio.iter().enumerate().filter_map(|(n, r)| deviation(*r, policy, n as u64));
        off.fold(0.0, f64::max)
    };
    let off: Vec<String> = runs
        .iter()
        .filter(|(policy, _)| known(policy))
        .map(|(policy, series)| format!("{policy} {:.1} points", largest(policy, series)))
        .collect();
    if !off.is_empty() {
        let _ = writeln!(
            text,
            "largest difference from the published curve, one second of lag allowed: {}",
            off.join(", ")
        );
    }
    text
}

/// How far a measured ratio is from the published one, in points, where there is one; published
/// percents are rounded down, and a second of lag is allowed.
pub fn deviation(ratio: f64, policy: &str, second: u64) -> Option<f64> {
    let off = |second: u64| published(policy, second).map(|p| (ratio - p).abs());
    let before = second.checked_sub(1).and_then(off).unwrap_or(f64::INFINITY);
    off(second).map(|now| now.min(before))
}
