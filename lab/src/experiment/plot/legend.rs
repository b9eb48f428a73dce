//! The legend, below the chart: each line with its stroke and its marker, as they are in the chart.

use super::style::Marker;
use super::{FONT, Sheet, said};
use plotters::element::{Circle, PathElement, Polygon, Text};
use plotters::style::{Color, IntoFont, RGBColor};

/// Height of a row, pixels.
pub(super) const ROW: i32 = 22;
/// Length of the piece of line in the legend.
const SAMPLE: i32 = 38;
/// Pixels that a letter takes, on average, at this size.
const LETTER: i32 = 8;
const SIZE: i32 = 14;

/// One line of the legend.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) color: RGBColor,
    /// None for what is a bar.
    pub(super) stroke: Option<&'static [f64]>,
    pub(super) width: u32,
    pub(super) marker: Option<Marker>,
    /// Markers that show what is below them.
    pub(super) hollow: bool,
}

/// Where each entry goes: its left edge and its row.
fn places(entries: &[Entry<'_>], width: i32) -> Vec<(i32, i32)> {
    let mut at = (0, 0);
    let mut places = Vec::new();
    for entry in entries {
        let needs = SAMPLE + 14 + LETTER * entry.name.chars().count() as i32 + 18;
        if at.0 > 0 && at.0 + needs > width {
            at = (0, at.1 + 1);
        }
        places.push(at);
        at.0 += needs;
    }
    places
}

/// How many rows a legend of that width has.
pub(super) fn rows(entries: &[Entry<'_>], width: i32) -> i32 {
    places(entries, width).last().map_or(0, |(_, row)| row + 1)
}

/// Draws it with its upper left corner at `corner`.
pub(super) fn draw(
    area: &Sheet<'_>,
    corner: (i32, i32),
    width: i32,
    entries: &[Entry<'_>],
) -> Result<(), String> {
    for (entry, (x, row)) in entries.iter().zip(places(entries, width)) {
        let (x, y) = (corner.0 + x, corner.1 + row * ROW + ROW / 2);
        match entry.stroke {
            Some(stroke) => dashes(area, &[(x, y), (x + SAMPLE, y)], stroke, entry.color, entry.width)?,
            None => {
                let bar = vec![(x, y - 6), (x + SAMPLE, y - 6), (x + SAMPLE, y + 6), (x, y + 6)];
                area.draw(&Polygon::new(bar, entry.color.filled())).map_err(said)?;
            }
        }
        if let Some(marker) = entry.marker {
            mark(area, (x + SAMPLE / 2, y), marker, entry.color, entry.hollow)?;
        }
        let at = (x + SAMPLE + 8, y - SIZE / 2);
        area.draw(&Text::new(entry.name.to_owned(), at, (FONT, SIZE).into_font())).map_err(said)?;
    }
    Ok(())
}

/// A line through points in pixels, with gaps; the pattern goes on round corners.
pub(super) fn dashes(
    area: &Sheet<'_>,
    points: &[(i32, i32)],
    stroke: &[f64],
    color: RGBColor,
    width: u32,
) -> Result<(), String> {
    let style = color.stroke_width(width);
    if stroke.is_empty() {
        return area.draw(&PathElement::new(points.to_vec(), style)).map_err(said);
    }
    for piece in pieces(points, stroke) {
        area.draw(&PathElement::new(piece, style)).map_err(said)?;
    }
    Ok(())
}

/// The drawn pieces of a dashed line. A pattern has lengths above 0 only.
fn pieces(points: &[(i32, i32)], stroke: &[f64]) -> Vec<Vec<(i32, i32)>> {
    let whole = |p: (f64, f64)| (p.0.round() as i32, p.1.round() as i32);
    let mut pieces = Vec::new();
    let mut piece: Vec<(i32, i32)> = points.first().copied().into_iter().collect();
    let mut n = 0;
    let mut left = stroke.first().copied().unwrap_or(1.0);
    for pair in points.windows(2) {
        let [from, to] = [pair[0], pair[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let share = done / length;
            let at = whole((from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share));
            // Even parts of the pattern are drawn.
            if n % 2 == 0 {
                piece.push(at);
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![at];
            }
            n = (n + 1) % stroke.len();
            left = stroke[n];
        }
        left -= length - done;
        if n % 2 == 0 {
            piece.push(pair[1]);
        }
    }
    if piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

/// A marker at a place in pixels.
pub(super) fn mark(
    area: &Sheet<'_>,
    (x, y): (i32, i32),
    marker: Marker,
    color: RGBColor,
    hollow: bool,
) -> Result<(), String> {
    let fill = |corners: &[(i32, i32)]| {
        // Those that show what is below are a little larger, and drawn as a closed line.
        let scale = |d: i32| if hollow { d * 3 / 2 } else { d };
        let mut corners: Vec<(i32, i32)> =
            corners.iter().map(|(dx, dy)| (x + scale(*dx), y + scale(*dy))).collect();
        if hollow {
            corners.extend(corners.first().copied());
            return area.draw(&PathElement::new(corners, color.stroke_width(1))).map_err(said);
        }
        area.draw(&Polygon::new(corners, color.filled())).map_err(said)
    };
    let line = |a: (i32, i32), b: (i32, i32)| {
        let ends = vec![(x + a.0, y + a.1), (x + b.0, y + b.1)];
        area.draw(&PathElement::new(ends, color.stroke_width(2))).map_err(said)
    };
    match marker {
        Marker::Circle if hollow => area.draw(&Circle::new((x, y), 6, color.stroke_width(1))).map_err(said),
        Marker::Circle => area.draw(&Circle::new((x, y), 4, color.filled())).map_err(said),
        Marker::Ring => area.draw(&Circle::new((x, y), 4, color.stroke_width(2))).map_err(said),
        Marker::Square => fill(&[(-4, -4), (4, -4), (4, 4), (-4, 4)]),
        Marker::Triangle => fill(&[(0, -5), (5, 4), (-5, 4)]),
        Marker::Diamond => fill(&[(0, -6), (5, 0), (0, 6), (-5, 0)]),
        Marker::Cross => line((-4, -4), (4, 4)).and_then(|()| line((-4, 4), (4, -4))),
        Marker::Plus => line((-5, 0), (5, 0)).and_then(|()| line((0, -5), (0, 5))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dashed_line_has_its_gaps_also_round_a_corner() {
        let pieces = pieces(&[(0, 0), (12, 0), (12, 20)], &[10.0, 5.0]);
        // 10 drawn; 5 of gap, 3 of them round the corner; 10 drawn; 5 of gap; 2 drawn.
        assert_eq!(pieces, [vec![(0, 0), (10, 0)], vec![(12, 3), (12, 13)], vec![(12, 18), (12, 20)]]);
    }

    #[test]
    fn entries_go_into_rows_that_are_not_wider_than_the_figure() {
        let entry = || Entry {
            name: "twelve chars",
            color: RGBColor(0, 0, 0),
            stroke: None,
            width: 1,
            marker: None,
            hollow: false,
        };
        let entries: Vec<Entry<'_>> = (0..5).map(|_| entry()).collect();
        assert_eq!(rows(&entries, 400), 3);
        assert_eq!(rows(&entries, 10), 5, "each has a row where none has room");
    }
}
