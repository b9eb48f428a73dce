//! Figures as a paper wants them: lines that can be told apart without colour, whole numbers where
//! an axis counts, units, the world in the title, the published series on top.
//!
//! Each figure is a description ([`Drawing`]) that is drawn once, as SVG, and turned into PDF and
//! PNG ([`export`]). Repeated runs are put together on descriptions, not on pictures.

mod bars;
mod chart;
pub mod export;
mod legend;
mod occupation;
mod steps;
mod style;
mod ticks;

pub use bars::Bars;
pub use occupation::Occupation;
pub use steps::{Move, Step, Strip};
pub use style::{COLORS, PUBLISHED};

use plotters::prelude::{DrawingArea, IntoDrawingArea, RGBColor, SVGBackend, WHITE};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Letters of every figure: the family that [`export`] brings along.
const FONT: &str = "sans-serif";

/// Why a figure is not there.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// It could not be drawn.
    #[error("cannot draw the figure {title:?}: {why}")]
    Draw {
        /// Its title.
        title: String,
        /// Why.
        why: String,
    },
    /// The SVG could not be turned into another format.
    #[error("cannot turn the figure {path} into {format}: {why}")]
    Convert {
        /// The file without its ending.
        path: PathBuf,
        /// PDF or PNG.
        format: &'static str,
        /// Why.
        why: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}; is the disk full, and the folder yours?")]
    Write {
        /// The file's path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// What was measured.
    #[default]
    Measured,
    /// What the thesis (Teixeira 2013) printed; drawn on top of what was measured.
    Published,
    /// A bound that the measured is held against: a threshold, a guarantee.
    Bound,
}

/// A line of a figure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// What it shows.
    pub role: Role,
    /// Which of the colours and markers; measured and published of one kind share theirs.
    pub style: usize,
    /// Points, in order of x.
    pub points: Vec<(f64, f64)>,
    /// Half the width of each point's 95% interval; empty where each was measured once.
    pub half: Vec<f64>,
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows.
    pub label: String,
    /// In which unit; empty where it counts.
    pub unit: String,
    /// Its end.
    pub to: f64,
    /// True where there is nothing between whole numbers.
    pub counts: bool,
    /// Some where it goes by powers of two from this value on.
    pub log2_from: Option<f64>,
}

impl Axis {
    /// From 0 on.
    pub fn to(label: &str, unit: &str, to: f64) -> Axis {
        Axis { label: label.to_owned(), unit: unit.to_owned(), to, counts: false, log2_from: None }
    }

    /// What is counted.
    #[must_use]
    pub fn counting(self) -> Axis {
        Axis { counts: true, ..self }
    }

    /// By powers of two, from a value above 0 on.
    #[must_use]
    pub fn powers_of_two(self, from: f64) -> Axis {
        Axis { log2_from: Some(from), ..self }
    }

    fn title(&self) -> String {
        if self.unit.is_empty() { self.label.clone() } else { format!("{} ({})", self.label, self.unit) }
    }
}

/// Lines over an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What is shown.
    pub title: String,
    /// In which world and engine it was measured.
    pub place: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The lines.
    pub curves: Vec<Curve>,
}

/// A figure of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Drawing {
    /// Lines.
    Lines(Figure),
    /// Groups of bars.
    Bars(Bars),
    /// VMs per server over time.
    Occupation(Occupation),
    /// A strip of pictures, one for each step.
    Strip(Strip),
}

impl Drawing {
    /// The SVG's text.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(&self) -> Result<String, PlotError> {
        match self {
            Drawing::Lines(figure) => figure.svg(),
            Drawing::Bars(bars) => bars.svg(),
            Drawing::Occupation(occupation) => occupation.svg(),
            Drawing::Strip(strip) => strip.svg(),
        }
    }

    /// Writes it as SVG, PDF and PNG; `path` is without an ending, or with one that is replaced.
    ///
    /// # Errors
    /// When it cannot be drawn or written.
    pub fn write(&self, path: &Path) -> Result<(), PlotError> {
        export::write(path, &self.svg()?)
    }
}

/// Draws on a white sheet of `size` pixels.
fn sheet(
    title: &str,
    size: (u32, u32),
    draw: impl FnOnce(&Sheet<'_>) -> Result<(), String>,
) -> Result<String, PlotError> {
    let mut text = String::new();
    let fail = |why: String| PlotError::Draw { title: title.to_owned(), why };
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(|e| fail(e.to_string()))?;
        draw(&root).map_err(fail)?;
        root.present().map_err(|e| fail(e.to_string()))?;
    }
    Ok(text)
}

/// What is drawn on.
type Sheet<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn said(error: impl Display) -> String {
    error.to_string()
}

/// A line for [`lines`].
pub struct Line<'a> {
    /// Name in the legend.
    pub name: &'a str,
    /// Colour: one of [`COLORS`], or [`PUBLISHED`].
    pub color: RGBColor,
    /// True for a dashed line: the published ones, and bounds.
    pub dashed: bool,
    /// Points.
    pub points: Vec<(f64, f64)>,
}

/// Lines over a time, each axis by its title with the unit in parentheses and its end.
///
/// # Errors
/// When a file cannot be written.
pub fn lines(
    path: &Path,
    title: &str,
    x: (&str, f64),
    y: (&str, f64),
    series: &[Line<'_>],
) -> anyhow::Result<()> {
    let curves = series.iter().enumerate().map(|(n, line)| Curve {
        name: line.name.to_owned(),
        role: match line.dashed {
            true if line.color == PUBLISHED => Role::Published,
            true => Role::Bound,
            false => Role::Measured,
        },
        style: COLORS.iter().position(|c| *c == line.color).unwrap_or(n),
        points: line.points.clone(),
        half: Vec::new(),
    });
    let figure = Figure {
        title: title.to_owned(),
        place: String::new(),
        x: Axis::to(x.0, "", x.1),
        y: Axis::to(y.0, "", y.1),
        curves: curves.collect(),
    };
    Ok(Drawing::Lines(figure).write(path)?)
}

/// Groups of bars side by side; see [`Bars`].
///
/// # Errors
/// When a file cannot be written.
pub fn bars(
    path: &Path,
    title: &str,
    y: &str,
    groups: &[String],
    series: &[(&str, Vec<f64>)],
) -> anyhow::Result<()> {
    Ok(Drawing::Bars(Bars::of(title, "", y, groups, series)).write(path)?)
}
