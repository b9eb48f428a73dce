//! The run folder of figure 4.2 (`series.csv`, `figure.svg`, `occupation.svg`) and the table for
//! the terminal, each beside the published numbers.

use super::{SECONDS, Series};
use crate::experiment::manifest::Manifest;
use crate::experiment::plot;
use anyhow::Context;
use std::fmt::Write as _;
use std::path::Path;
use tandem_model::Allocation;

/// The published series (the raw data of figure 4.2 in Teixeira 2013), in percent at a second.
pub fn published(policy: Allocation, second: u64) -> f64 {
    match (policy, second) {
        (_, 0) => 0.0,
        (Allocation::WorstFit, 1..=16) => 33.0,
        (Allocation::WorstFit, 17..=32) => 66.0,
        (Allocation::WorstFit, _) => 100.0,
        (_, 1) => 33.0,
        (_, 2) => 66.0,
        _ => 100.0,
    }
}

/// Writes the run folder.
///
/// # Errors
/// When a file cannot be written.
pub fn write(out: &Path, best: &Series, worst: &Series, manifest: &Manifest) -> anyhow::Result<()> {
    let mut csv = "second;best_fit;worst_fit\n".to_owned();
    for (second, (b, w)) in best.ratio.iter().zip(&worst.ratio).enumerate() {
        let _ = writeln!(csv, "{second};{};{}", number(*b), number(*w));
    }
    let path = out.join("series.csv");
    std::fs::write(&path, &csv).with_context(|| format!("cannot write {}", path.display()))?;
    let points = |s: &Series| s.ratio.iter().enumerate().map(|(n, r)| (n as f64, *r)).collect::<Vec<_>>();
    let published_points = |p| (0..=SECONDS).map(|n| (n as f64, published(p, n))).collect::<Vec<_>>();
    plot::lines(
        &out.join("figure.svg"),
        "First server's link ratio (figure 4.2)",
        ("second (a VM request each)", SECONDS as f64),
        ("link ratio (%)", 110.0),
        &[
            plot::Line {
                name: "published, best fit",
                color: plot::PUBLISHED,
                dashed: true,
                points: published_points(Allocation::BestFit),
            },
            plot::Line {
                name: "published, worst fit",
                color: plot::PUBLISHED,
                dashed: true,
                points: published_points(Allocation::WorstFit),
            },
            plot::Line { name: "best fit", color: plot::COLORS[0], dashed: false, points: points(best) },
            plot::Line { name: "worst fit", color: plot::COLORS[1], dashed: false, points: points(worst) },
        ],
    )?;
    let servers = best.occupation.first().map_or(0, Vec::len);
    let most = best.occupation.iter().chain(&worst.occupation).flatten().copied().max().unwrap_or(1);
    let panels = [("best fit", &best.occupation[..]), ("worst fit", &worst.occupation[..])];
    plot::occupation(&out.join("occupation.svg"), &panels, servers, most)?;
    manifest.write(out)
}

fn number(n: f64) -> String {
    let text = format!("{n:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The table for the terminal: the seconds at which the published curves step, beside the published
/// numbers.
pub fn table(best: &Series, worst: &Series) -> String {
    let mut text = format!(
        "{:>8} {:>12} {:>10} {:>12} {:>10}\n",
        "second", "best fit", "published", "worst fit", "published"
    );
    for second in [0u64, 1, 2, 3, 16, 17, 32, 33, 48] {
        let at = |s: &Series| s.ratio.get(second as usize).map_or("-".to_owned(), |r| format!("{r:.1}%"));
        let _ = writeln!(
            text,
            "{second:>8} {:>12} {:>9}% {:>12} {:>9}%",
            at(best),
            published(Allocation::BestFit, second),
            at(worst),
            published(Allocation::WorstFit, second)
        );
    }
    let largest = |s: &Series, p| {
        let off = s.ratio.iter().enumerate().map(|(n, r)| deviation(*r, p, n as u64));
        off.fold(0.0, f64::max)
    };
    let _ = writeln!(
        text,
        "largest difference from the published curve, one second of lag allowed: best fit {:.1} points, worst fit {:.1} points",
        largest(best, Allocation::BestFit),
        largest(worst, Allocation::WorstFit)
    );
    text
}

/// How far a measured ratio is from the published one, in points; published percents are rounded
/// down, and a second of lag is allowed.
pub fn deviation(ratio: f64, policy: Allocation, second: u64) -> f64 {
    let now = (ratio - published(policy, second)).abs();
    let lagging = second.checked_sub(1).map_or(now, |before| (ratio - published(policy, before)).abs());
    now.min(lagging)
}
