//! A strip of pictures, one for each step of a plan: VMs on servers, and the move as an arrow.

use super::chart::titled;
use super::{FONT, PlotError, Sheet, said, sheet, style};
use plotters::element::{PathElement, Polygon, Rectangle, Text};
use plotters::style::{BLACK, Color, IntoFont};

/// Size of one picture, pixels.
const PICTURE: (i32, i32) = (150, 190);
/// A VM's box.
const VM: (i32, i32) = (34, 16);
/// Pictures in a row at most.
const ACROSS: usize = 7;

/// A VM that moves in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which VM, by its number.
    pub vm: u64,
    /// From which server, counted from 0.
    pub from: usize,
    /// To which.
    pub to: usize,
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it says above.
    pub caption: String,
    /// The VMs of each server, before the step's move.
    pub servers: Vec<Vec<u64>>,
    /// What moves, if anything does.
    pub moved: Option<Move>,
}

/// Pictures in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strip {
    /// What is shown.
    pub title: String,
    /// Where it was measured.
    pub place: String,
    /// A name and its steps, a row or more each.
    pub rows: Vec<(String, Vec<Step>)>,
}

impl Strip {
    /// The SVG's text.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(&self) -> Result<String, PlotError> {
        let across = self.rows.iter().map(|(_, s)| s.len()).max().unwrap_or(1).clamp(1, ACROSS);
        let lines: usize = self.rows.iter().map(|(_, s)| s.len().div_ceil(across)).sum();
        let width = across as i32 * PICTURE.0 + 40;
        let height = 70 + self.rows.len() as i32 * 28 + lines as i32 * PICTURE.1;
        sheet(&self.title, (width.max(520) as u32, height as u32), |root| {
            let area = titled(root, &self.title, &self.place)?;
            let mut y = 0;
            for (name, steps) in &self.rows {
                area.draw(&Text::new(name.clone(), (20, y + 6), (FONT, 16).into_font())).map_err(said)?;
                y += 28;
                for line in steps.chunks(across) {
                    for (n, step) in line.iter().enumerate() {
                        step.draw(&area, (20 + n as i32 * PICTURE.0, y))?;
                    }
                    y += PICTURE.1;
                }
            }
            Ok(())
        })
    }
}

impl Step {
    fn draw(&self, area: &Sheet<'_>, (left, top): (i32, i32)) -> Result<(), String> {
        let text = |words: String, at: (i32, i32), size: i32| {
            area.draw(&Text::new(words, at, (FONT, size).into_font())).map_err(said)
        };
        text(self.caption.clone(), (left + 4, top), 13)?;
        let width = (PICTURE.0 - 12) / self.servers.len().max(1) as i32;
        let floor = top + PICTURE.1 - 40;
        let middle = |server: usize| left + server as i32 * width + width / 2;
        // The lowest box is the first VM's.
        let place =
            |server: usize, n: usize| (middle(server) - VM.0 / 2, floor - 4 - (n as i32 + 1) * (VM.1 + 2));
        for (server, vms) in self.servers.iter().enumerate() {
            let shelf =
                [(middle(server) - width / 2 + 2, floor), (middle(server) + width / 2 - 2, floor + 3)];
            area.draw(&Rectangle::new(shelf, BLACK.filled())).map_err(said)?;
            text(format!("srv{}", server + 1), (middle(server) - 14, floor + 8), 12)?;
            for (n, vm) in vms.iter().enumerate() {
                let corner = place(server, n);
                let leaves = self.moved.is_some_and(|m| m.vm == *vm);
                let color = style::color(if leaves { 0 } else { 1 });
                let frame = [corner, (corner.0 + VM.0, corner.1 + VM.1)];
                area.draw(&Rectangle::new(
                    frame,
                    style::pale(color, if leaves { 0.9 } else { 0.35 }).filled(),
                ))
                .map_err(said)?;
                text(format!("vm{vm}"), (corner.0 + 4, corner.1 + 2), 11)?;
            }
        }
        let Some(moved) = self.moved else { return Ok(()) };
        let index = self.servers.get(moved.from).and_then(|v| v.iter().position(|vm| *vm == moved.vm));
        let start = place(moved.from, index.unwrap_or(0));
        let end = place(moved.to, self.servers.get(moved.to).map_or(0, Vec::len));
        // Up from the VM, across above all of them, down to where it goes.
        let highest = (0..self.servers.len())
            .map(|s| place(s, self.servers.get(s).map_or(0, Vec::len)).1)
            .min()
            .unwrap_or(top)
            .max(top + 20);
        let path = vec![
            (start.0 + VM.0 / 2, start.1),
            (start.0 + VM.0 / 2, highest - 2),
            (end.0 + VM.0 / 2, highest - 2),
            (end.0 + VM.0 / 2, end.1 + VM.1 - 6),
        ];
        let color = style::color(0);
        area.draw(&PathElement::new(path, color.stroke_width(2))).map_err(said)?;
        let tip = (end.0 + VM.0 / 2, end.1 + VM.1);
        let head = vec![tip, (tip.0 - 4, tip.1 - 7), (tip.0 + 4, tip.1 - 7)];
        area.draw(&Polygon::new(head, color.filled())).map_err(said)
    }
}
