//! Colours, strokes and markers: each of them alone tells two lines apart.

use plotters::prelude::RGBColor;

/// The colours of measured lines, which people with any colour vision tell apart (Okabe and Ito,
/// "Color Universal Design", 2008); the yellow is left out, as it does not show on white.
pub const COLORS: [RGBColor; 7] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];
/// The grey of published lines.
pub const PUBLISHED: RGBColor = RGBColor(110, 110, 110);

/// Lines of the grid.
pub(super) const GRID: RGBColor = RGBColor(224, 224, 224);
/// What stands under a title.
pub(super) const SUBTITLE: RGBColor = RGBColor(90, 90, 90);

/// A colour as it looks on white paper at a part of its strength. Not by transparency, the parts of
/// which are written into a PDF in another order each time.
pub(super) fn pale(color: RGBColor, part: f64) -> RGBColor {
    let on_white = |c: u8| (255.0 - (255.0 - f64::from(c)) * part) as u8;
    RGBColor(on_white(color.0), on_white(color.1), on_white(color.2))
}

/// Strokes: lengths of line and gap in pixels. The first is drawn through.
const STROKES: [&[f64]; 5] = [&[], &[9.0, 4.0], &[3.0, 3.0], &[10.0, 3.0, 2.0, 3.0], &[14.0, 4.0]];
/// The stroke of published lines and bounds.
pub(super) const THIN_DASH: &[f64] = &[5.0, 4.0];

/// What a point is marked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Cross,
    Diamond,
    Ring,
    Plus,
}

const MARKERS: [Marker; 7] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Cross,
    Marker::Ring,
    Marker::Plus,
];

pub(super) fn color(n: usize) -> RGBColor {
    COLORS[n % COLORS.len()]
}

pub(super) fn stroke(n: usize) -> &'static [f64] {
    STROKES[n % STROKES.len()]
}

pub(super) fn marker(n: usize) -> Marker {
    MARKERS[n % MARKERS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_of_the_first_lines_share_a_colour_or_a_marker() {
        for a in 0..COLORS.len() {
            for b in 0..a {
                assert!(color(a) != color(b) && marker(a) != marker(b), "{a}, {b}");
            }
        }
        assert!(!COLORS.contains(&PUBLISHED));
    }
}
