//! Groups of bars side by side, a bar of each series in each group, on a logarithmic scale with the
//! value above each bar.

use super::chart::titled;
use super::legend::{self, Entry};
use super::{FONT, PlotError, Sheet, said, sheet, style};
use plotters::chart::ChartBuilder;
use plotters::coord::combinators::IntoLogRange;
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::{BLACK, Color, IntoFont, WHITE};

const SIZE: (u32, u32) = (900, 500);

/// Bars.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars {
    /// What is shown.
    pub title: String,
    /// In which world and engine it was measured.
    pub place: String,
    /// What the bars' height is, with its unit.
    pub y: String,
    /// The groups' names.
    pub groups: Vec<String>,
    /// A series' name and its value in each group; what is no number, or not above 0, has no bar.
    pub series: Vec<(String, Vec<f64>)>,
    /// Half the width of each value's 95% interval, in the same order; empty where each was
    /// measured once.
    pub half: Vec<Vec<f64>>,
}

impl Bars {
    /// Of values that were measured once.
    pub fn of(title: &str, place: &str, y: &str, groups: &[String], series: &[(&str, Vec<f64>)]) -> Bars {
        Bars {
            title: title.to_owned(),
            place: place.to_owned(),
            y: y.to_owned(),
            groups: groups.to_vec(),
            series: series.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect(),
            half: Vec::new(),
        }
    }

    /// The SVG's text.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(&self) -> Result<String, PlotError> {
        let entries: Vec<Entry<'_>> = self
            .series
            .iter()
            .enumerate()
            .map(|(n, (name, _))| Entry {
                name,
                color: style::color(n),
                stroke: None,
                width: 1,
                marker: None,
                hollow: false,
            })
            .collect();
        let width = SIZE.0 as i32 - 100;
        let rows = legend::rows(&entries, width);
        sheet(&self.title, (SIZE.0, SIZE.1 + (rows * legend::ROW) as u32 + 8), |root| {
            let (above, below) = root.split_vertically(SIZE.1 as i32);
            self.chart(&above)?;
            legend::draw(&below, (84, 0), width, &entries)
        })
    }

    fn chart(&self, area: &Sheet<'_>) -> Result<(), String> {
        let shown = |v: &f64| v.is_finite() && *v > 0.0;
        let values = || self.series.iter().flat_map(|(_, v)| v).copied().filter(shown);
        let least = values().fold(1.0, f64::min) / 2.0;
        let most = values().fold(1.0, f64::max) * 4.0;
        let area = titled(area, &self.title, &self.place)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(14)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0f64..self.groups.len().max(1) as f64, (least..most).log_scale())
            .map_err(said)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_desc(&self.y)
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 16))
            .light_line_style(WHITE)
            .draw()
            .map_err(said)?;
        let width = 0.8 / self.series.len().max(1) as f64;
        for (n, (_, values)) in self.series.iter().enumerate() {
            let color = style::color(n);
            let left = |group: usize| group as f64 + 0.1 + n as f64 * width;
            let there: Vec<(usize, f64)> =
                values.iter().copied().enumerate().filter(|(_, v)| shown(v)).collect();
            chart
                .draw_series(there.iter().map(|(g, v)| {
                    Rectangle::new([(left(*g), least), (left(*g) + width * 0.9, *v)], color.filled())
                }))
                .map_err(said)?;
            let text = |v: f64| if v < 100.0 { format!("{v:.1}") } else { format!("{v:.0}") };
            chart
                .draw_series(
                    there
                        .iter()
                        .map(|(g, v)| Text::new(text(*v), (left(*g), *v * 1.25), (FONT, 14).into_font())),
                )
                .map_err(said)?;
            let halves = self.half.get(n).map(Vec::as_slice).unwrap_or_default();
            let intervals = there.iter().filter_map(|(g, v)| {
                let half = halves.get(*g).copied().filter(|h| shown(h))?;
                let middle = left(*g) + width * 0.45;
                let low = (v - half).max(least);
                Some(PathElement::new(vec![(middle, low), (middle, v + half)], BLACK.stroke_width(2)))
            });
            chart.draw_series(intervals).map_err(said)?;
        }
        // Under the axis: the scale is logarithmic, so the labels' place is the drawing's, not the
        // chart's.
        let plotting = chart.plotting_area();
        let (size, corner, base) =
            (plotting.dim_in_pixel(), plotting.get_base_pixel(), area.get_base_pixel());
        for (n, group) in self.groups.iter().enumerate() {
            let share = (n as f64 + 0.35) / self.groups.len() as f64;
            let x = corner.0 - base.0 + (share * f64::from(size.0)) as i32;
            let at = (x, corner.1 - base.1 + size.1 as i32 + 10);
            area.draw(&Text::new(group.clone(), at, (FONT, 15).into_font())).map_err(said)?;
        }
        Ok(())
    }
}
