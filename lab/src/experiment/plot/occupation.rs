//! Grids side by side: a row for each server, a column for each second, the darker the fuller.

use super::chart::titled;
use super::{FONT, PlotError, said, sheet};
use plotters::chart::ChartBuilder;
use plotters::element::Rectangle;
use plotters::style::{Color, RGBColor};

/// Panels in a row at most.
const ACROSS: usize = 2;

/// How many VMs each server had, second by second, in each run.
#[derive(Debug, Clone, PartialEq)]
pub struct Occupation {
    /// Where it was measured.
    pub place: String,
    /// A run's name, and per second the VMs of each server.
    pub panels: Vec<(String, Vec<Vec<u32>>)>,
}

impl Occupation {
    /// The SVG's text.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(&self) -> Result<String, PlotError> {
        let rows = self.panels.len().div_ceil(ACROSS).max(1);
        let cells = || self.panels.iter().flat_map(|(_, seconds)| seconds);
        let servers = cells().map(Vec::len).max().unwrap_or(0).max(1);
        let most = cells().flatten().copied().max().unwrap_or(1).max(1);
        let title = format!("VMs per server; the darkest is {most}");
        sheet(&title, (1100, 60 + 400 * rows as u32), |root| {
            let rest = titled(root, &title, &self.place)?;
            let areas = rest.split_evenly((rows, ACROSS.min(self.panels.len().max(1))));
            for (area, (name, seconds)) in areas.iter().zip(&self.panels) {
                let width = seconds.len().max(1) as f64;
                let mut chart = ChartBuilder::on(area)
                    .caption(name, (FONT, 18))
                    .margin(12)
                    .x_label_area_size(40)
                    .y_label_area_size(50)
                    .build_cartesian_2d(0f64..width, 0.5f64..servers as f64 + 0.5)
                    .map_err(said)?;
                chart
                    .configure_mesh()
                    .disable_mesh()
                    .x_desc("time (s)")
                    .y_desc("server")
                    .label_style((FONT, 13))
                    .axis_desc_style((FONT, 15))
                    .y_labels(servers.min(16))
                    .y_label_formatter(&|v| format!("{v:.0}"))
                    .x_label_formatter(&|v| format!("{v:.0}"))
                    .draw()
                    .map_err(said)?;
                let shaded = seconds.iter().enumerate().flat_map(|(second, counts)| {
                    counts.iter().enumerate().filter(|(_, n)| **n > 0).map(move |(server, n)| {
                        let share = f64::from(*n) / f64::from(most);
                        let shade = |from: f64, to: f64| (from + (to - from) * share) as u8;
                        let color = RGBColor(shade(225.0, 20.0), shade(235.0, 60.0), shade(250.0, 140.0));
                        let (x, y) = (second as f64, server as f64 + 1.0);
                        Rectangle::new([(x, y - 0.45), (x + 1.0, y + 0.45)], color.filled())
                    })
                });
                chart.draw_series(shaded).map_err(said)?;
            }
            Ok(())
        })
    }
}
