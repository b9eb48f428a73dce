//! Figures as SVG.

use anyhow::anyhow;
use plotters::prelude::*;
use std::path::Path;

/// A line of a figure.
pub struct Line<'a> {
    /// Name in the legend.
    pub name: &'a str,
    /// Colour.
    pub color: RGBColor,
    /// True for a dashed line (the published ones).
    pub dashed: bool,
    /// Points.
    pub points: Vec<(f64, f64)>,
}

/// The colours of measured lines.
pub const COLORS: [RGBColor; 2] = [RGBColor(200, 70, 30), RGBColor(30, 90, 180)];
/// The grey of published lines.
pub const PUBLISHED: RGBColor = RGBColor(150, 150, 150);

/// Lines over time.
///
/// # Errors
/// When the file cannot be written.
pub fn lines(
    path: &Path,
    title: &str,
    x: (&str, f64),
    y: (&str, f64),
    series: &[Line<'_>],
) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, (900, 520)).into_drawing_area();
    let fail = |e: &dyn std::fmt::Display| anyhow!("cannot draw {}: {e}", path.display());
    root.fill(&WHITE).map_err(|e| fail(&e))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 22))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0f64..x.1, 0f64..y.1)
        .map_err(|e| fail(&e))?;
    chart
        .configure_mesh()
        .x_desc(x.0)
        .y_desc(y.0)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .light_line_style(WHITE)
        .draw()
        .map_err(|e| fail(&e))?;
    for line in series {
        let color = line.color;
        let style = color.stroke_width(if line.dashed { 1 } else { 2 });
        let points = line.points.iter().copied();
        let drawn = if line.dashed {
            chart.draw_series(DashedLineSeries::new(points, 6, 4, style)).map_err(|e| fail(&e))?
        } else {
            chart.draw_series(LineSeries::new(points, style)).map_err(|e| fail(&e))?
        };
        drawn
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.9))
        .label_font(("sans-serif", 15))
        .draw()
        .map_err(|e| fail(&e))?;
    root.present().map_err(|e| fail(&e))
}

/// Groups of bars side by side, a bar of each series in each group, on a logarithmic scale with the
/// value above each bar.
///
/// # Errors
/// When the file cannot be written.
pub fn bars(
    path: &Path,
    title: &str,
    y: &str,
    groups: &[String],
    series: &[(&str, Vec<f64>)],
) -> anyhow::Result<()> {
    const FILL: [RGBColor; 4] = [PUBLISHED, COLORS[1], COLORS[0], BLACK];
    let root = SVGBackend::new(path, (900, 520)).into_drawing_area();
    let fail = |e: &dyn std::fmt::Display| anyhow!("cannot draw {}: {e}", path.display());
    root.fill(&WHITE).map_err(|e| fail(&e))?;
    let values = || series.iter().flat_map(|(_, v)| v).copied().filter(|v| v.is_finite() && *v > 0.0);
    // Room above for the legend.
    let least = values().fold(1.0, f64::min) / 2.0;
    let most = values().fold(1.0, f64::max) * 15.0;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 22))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(0f64..groups.len() as f64, (least..most).log_scale())
        .map_err(|e| fail(&e))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_desc(y)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .light_line_style(WHITE)
        .draw()
        .map_err(|e| fail(&e))?;
    let width = 0.8 / series.len().max(1) as f64;
    for (n, (name, values)) in series.iter().enumerate() {
        let color = FILL[n % FILL.len()];
        let bar = |(group, value): (usize, &f64)| {
            let from = group as f64 + 0.1 + n as f64 * width;
            (from, *value)
        };
        let there: Vec<(f64, f64)> =
            values.iter().enumerate().map(bar).filter(|(_, v)| v.is_finite() && *v > 0.0).collect();
        chart
            .draw_series(
                there
                    .iter()
                    .map(|(x, v)| Rectangle::new([(*x, least), (x + width * 0.9, *v)], color.filled())),
            )
            .map_err(|e| fail(&e))?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled()));
        let shown = |v: f64| if v < 100.0 { format!("{v:.1}") } else { format!("{v:.0}") };
        chart
            .draw_series(there.iter().map(|(x, v)| Text::new(shown(*v), (*x, *v * 1.25), ("sans-serif", 14))))
            .map_err(|e| fail(&e))?;
    }
    // Under the axis: the scale is logarithmic, so the labels' place is the drawing's, not the
    // chart's.
    let (area, (left, bottom)) =
        (chart.plotting_area().dim_in_pixel(), chart.plotting_area().get_base_pixel());
    for (n, group) in groups.iter().enumerate() {
        let x = left + ((n as f64 + 0.35) / groups.len() as f64 * f64::from(area.0)) as i32;
        let at = (x, bottom + area.1 as i32 + 10);
        root.draw(&Text::new(group.clone(), at, ("sans-serif", 16))).map_err(|e| fail(&e))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.9))
        .label_font(("sans-serif", 15))
        .draw()
        .map_err(|e| fail(&e))?;
    root.present().map_err(|e| fail(&e))
}

/// Two grids side by side: a row per server, a column per second, the darker the fuller.
///
/// # Errors
/// When the file cannot be written.
pub fn occupation(
    path: &Path,
    panels: &[(&str, &[Vec<u32>])],
    servers: usize,
    most: u32,
) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, (1100, 460)).into_drawing_area();
    let fail = |e: &dyn std::fmt::Display| anyhow!("cannot draw {}: {e}", path.display());
    root.fill(&WHITE).map_err(|e| fail(&e))?;
    let areas = root.split_evenly((1, panels.len().max(1)));
    for (area, (title, seconds)) in areas.iter().zip(panels) {
        let width = seconds.len().max(1) as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(format!("VMs per server, {title}"), ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(50)
            .build_cartesian_2d(0f64..width, 0.5f64..servers as f64 + 0.5)
            .map_err(|e| fail(&e))?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc("second")
            .y_desc("server")
            .y_labels(servers.min(16))
            .y_label_formatter(&|v| format!("{v:.0}"))
            .x_label_formatter(&|v| format!("{v:.0}"))
            .draw()
            .map_err(|e| fail(&e))?;
        let cells = seconds.iter().enumerate().flat_map(|(second, counts)| {
            counts.iter().enumerate().filter(|(_, n)| **n > 0).map(move |(server, n)| {
                let share = f64::from(*n) / f64::from(most.max(1));
                let shade = |from: f64, to: f64| (from + (to - from) * share) as u8;
                let color = RGBColor(shade(225.0, 20.0), shade(235.0, 60.0), shade(250.0, 140.0));
                let x = second as f64;
                let y = server as f64 + 1.0;
                Rectangle::new([(x, y - 0.45), (x + 1.0, y + 0.45)], color.filled())
            })
        });
        chart.draw_series(cells).map_err(|e| fail(&e))?;
    }
    root.present().map_err(|e| fail(&e))
}
