//! Lines over an axis.

use super::legend::{self, Entry};
use super::ticks::Scale;
use super::{Curve, FONT, Figure, PUBLISHED, PlotError, Role, Sheet, said, sheet, style};
use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Polygon, Text};
use plotters::style::{Color, IntoFont, RGBColor, WHITE};

/// Width and height in pixels, the legend apart.
const SIZE: (u32, u32) = (900, 500);
const MARGIN: u32 = 14;
/// Markers of a line at most: more would hide it.
const MARKERS: usize = 25;
/// Up to so many points have error bars, more have a band.
const ERROR_BARS: usize = 24;

impl Curve {
    fn color(&self) -> RGBColor {
        match self.role {
            Role::Measured => style::color(self.style),
            Role::Bound => style::color(self.style),
            Role::Published => PUBLISHED,
        }
    }

    fn entry(&self) -> Entry<'_> {
        let measured = self.role == Role::Measured;
        Entry {
            name: &self.name,
            color: self.color(),
            stroke: Some(if measured { style::stroke(self.style) } else { style::THIN_DASH }),
            width: if measured { 2 } else { 1 },
            marker: (self.role != Role::Bound).then(|| style::marker(self.style)),
            hollow: self.role == Role::Published,
        }
    }
}

impl Figure {
    /// The SVG's text.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(&self) -> Result<String, PlotError> {
        let entries: Vec<Entry<'_>> = self.curves.iter().map(Curve::entry).collect();
        let width = (SIZE.0 - 2 * MARGIN) as i32 - 60;
        let legend = legend::rows(&entries, width) * legend::ROW;
        let size = (SIZE.0, SIZE.1 + legend as u32 + 8);
        sheet(&self.title, size, |root| {
            let (above, below) = root.split_vertically(SIZE.1 as i32);
            self.chart(&above)?;
            legend::draw(&below, (MARGIN as i32 + 60, 0), width, &entries)
        })
    }

    fn chart(&self, area: &Sheet<'_>) -> Result<(), String> {
        let (x, y) = (Scale::of(&self.x), Scale::of(&self.y));
        let area = titled(area, &self.title, &self.place)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
            .margin_top(2)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(x.clone(), y.clone())
            .map_err(said)?;
        chart
            .configure_mesh()
            .x_desc(self.x.title())
            .y_desc(self.y.title())
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 16))
            .bold_line_style(style::GRID)
            .light_line_style(WHITE)
            .draw()
            .map_err(said)?;
        // Places of the drawing, in which strokes and markers have their size.
        let to = |(a, b): (f64, f64)| {
            let (px, py) = chart.backend_coord(&(x.place(a), y.place(b).clamp(y.from, y.to)));
            let base = area.get_base_pixel();
            (px - base.0, py - base.1)
        };
        let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
        for curve in &self.curves {
            self.interval(&area, curve, &to)?;
        }
        // The published ones last: they are on top of what was measured.
        let order = |r: Role| self.curves.iter().filter(move |c| c.role == r);
        for curve in order(Role::Bound).chain(order(Role::Measured)).chain(order(Role::Published)) {
            let entry = curve.entry();
            let points: Vec<(i32, i32)> = curve.points.iter().filter(finite).map(|p| to(*p)).collect();
            legend::dashes(&area, &points, entry.stroke.unwrap_or_default(), entry.color, entry.width)?;
            let every = points.len() / MARKERS + 1;
            for point in points.iter().step_by(every) {
                if let Some(marker) = entry.marker {
                    legend::mark(&area, *point, marker, entry.color, entry.hollow)?;
                }
            }
        }
        Ok(())
    }

    /// A curve's 95% intervals.
    fn interval(
        &self,
        area: &Sheet<'_>,
        curve: &Curve,
        to: &impl Fn((f64, f64)) -> (i32, i32),
    ) -> Result<(), String> {
        if curve.half.iter().all(|h| *h <= 0.0) {
            return Ok(());
        }
        let ends: Vec<((i32, i32), (i32, i32))> = curve
            .points
            .iter()
            .zip(&curve.half)
            .filter(|((x, y), half)| x.is_finite() && y.is_finite() && half.is_finite())
            .map(|((x, y), half)| (to((*x, y - half)), to((*x, y + half))))
            .collect();
        let color = curve.color();
        if ends.len() > ERROR_BARS {
            let low = ends.iter().map(|(low, _)| *low);
            let band: Vec<(i32, i32)> = low.chain(ends.iter().rev().map(|(_, high)| *high)).collect();
            return area.draw(&Polygon::new(band, style::pale(color, 0.2).filled())).map_err(said);
        }
        for (low, high) in ends {
            for line in [
                vec![low, high],
                vec![(low.0 - 4, low.1), (low.0 + 4, low.1)],
                vec![(high.0 - 4, high.1), (high.0 + 4, high.1)],
            ] {
                area.draw(&PathElement::new(line, color.stroke_width(1))).map_err(said)?;
            }
        }
        Ok(())
    }
}

/// Writes the title and where it was measured above the chart; what is left of the sheet.
pub(super) fn titled<'a>(area: &Sheet<'a>, title: &str, place: &str) -> Result<Sheet<'a>, String> {
    let (above, rest) = area.split_vertically(if place.is_empty() { 36 } else { 58 });
    let left = MARGIN as i32 + 64;
    above.draw(&Text::new(title.to_owned(), (left, 10), (FONT, 20).into_font())).map_err(said)?;
    if !place.is_empty() {
        let style = (FONT, 14).into_font().color(&style::SUBTITLE);
        above.draw(&Text::new(place.to_owned(), (left, 36), style)).map_err(said)?;
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Drawing};
    use super::*;

    fn figure() -> Figure {
        let curve = |name: &str, role, style| Curve {
            name: name.to_owned(),
            role,
            style,
            points: (0..5).map(|n| (f64::from(n), f64::from(n * n))).collect(),
            half: Vec::new(),
        };
        Figure {
            title: "A & <B>".into(),
            place: "simulated world".into(),
            x: Axis::to("time", "s", 4.0),
            y: Axis::to("VMs", "", 20.0).counting(),
            curves: vec![
                curve("published", Role::Published, 0),
                curve("ours", Role::Measured, 0),
                curve("threshold", Role::Bound, 1),
            ],
        }
    }

    #[test]
    fn a_figure_says_what_where_and_in_which_unit_and_the_published_line_is_drawn_last() {
        let svg = figure().svg().expect("drawn");
        for said in ["A &amp; &lt;B&gt;", "simulated world", "time (s)", "VMs", "published", "threshold"] {
            assert!(svg.contains(said), "{said} in {svg}");
        }
        // The legend is drawn after the chart, so that each colour is there again: of the chart's
        // lines, the last that begins is the published one.
        let legend = svg.rfind("#6E6E6E").expect("the legend's published line");
        let chart = &svg[..svg.find(">\npublished").expect("its name").min(legend)];
        let last = |color: &str| chart.rfind(color).unwrap_or_else(|| panic!("{color} in {chart}"));
        assert!(last("#6E6E6E") > last("#D55E00"), "{chart}");
    }

    #[test]
    fn intervals_are_bars_at_few_points_and_a_band_at_many() {
        let mut few = figure();
        few.curves[1].half = vec![1.0; 5];
        let plain = figure().svg().expect("drawn").matches("<polyline").count();
        assert_eq!(few.svg().expect("drawn").matches("<polyline").count(), plain + 15);
        let mut many = figure();
        many.curves[1].points = (0..60).map(|n| (f64::from(n) / 15.0, 1.0)).collect();
        many.curves[1].half = vec![0.5; 60];
        assert!(many.svg().expect("drawn").contains("#F6DECC"));
    }

    #[test]
    fn a_figure_with_bands_is_the_same_bytes_each_time() {
        let mut figure = figure();
        for curve in &mut figure.curves {
            curve.points = (0..60).map(|n| (f64::from(n) / 15.0, 1.0)).collect();
            curve.half = vec![0.5; 60];
        }
        let svg = figure.svg().expect("drawn");
        let first = super::super::export::formats(&svg).expect("converted");
        assert!((0..6).all(|_| super::super::export::formats(&svg).expect("converted") == first));
    }

    #[test]
    fn what_is_no_number_is_not_drawn_and_nothing_panics() {
        let mut odd = figure();
        odd.curves[1].points = vec![(0.0, f64::NAN), (f64::INFINITY, 1.0), (1.0, 1e300), (2.0, -5.0)];
        odd.curves[1].half = vec![f64::NAN, 1.0, 1e300, 0.0];
        odd.y.to = f64::NAN;
        assert!(Drawing::Lines(odd).svg().is_ok());
    }
}
