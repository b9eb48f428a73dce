//! What a run shows: how full each switch was at each moment, and what that comes to by level.

use super::Variant;
use std::time::Duration;
use tandem_model::{Role, Site};

/// Moments of a run at which switches are looked at: an experiment's figure has no use for more.
pub const MOMENTS: u32 = 170;

/// A switch that sends less than this part of what it could is idle: discovery's own frames are no
/// traffic of a VM.
pub const IDLE: f64 = 0.001;

/// The levels, from the gateway down.
pub const LEVELS: [Role; 3] = [Role::Core, Role::Aggregation, Role::Edge];

/// A moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Since the first request could come.
    pub at: Duration,
    /// VMs that run.
    pub vms: u32,
    /// Requests that were refused so far.
    pub rejected: u32,
    /// Per switch, in the site's order: what it sends over what it could, as the controller has
    /// measured it.
    pub ratio: Vec<f64>,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Which one.
    pub variant: Variant,
    /// By how much time was shorter.
    pub scale: u32,
    /// How long VMs live: after that there are as many as there will be.
    pub holding: Duration,
    /// Names and levels of the switches.
    pub switches: Vec<(String, Role)>,
    /// Every moment.
    pub rows: Vec<Row>,
}

/// How full the switches of a level are at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Level {
    /// The fullest one.
    pub peak: f64,
    /// On average.
    pub mean: f64,
    /// The fullest one less the emptiest one.
    pub spread: f64,
    /// How many are idle.
    pub idle: f64,
}

impl Run {
    /// A run that has not begun.
    pub fn new(variant: Variant, site: &Site, scale: u32, holding: Duration) -> Run {
        let switches = site.topology.switches.iter().map(|s| (s.name.clone(), s.role)).collect();
        Run { variant, scale, holding, switches, rows: Vec::new() }
    }

    /// How long it was.
    pub fn length(&self) -> Duration {
        self.rows.last().map_or(Duration::ZERO, |row| row.at)
    }

    /// A moment in the paper's minutes.
    pub fn minute(&self, row: &Row) -> f64 {
        row.at.as_secs_f64() * f64::from(self.scale) / 60.0
    }

    /// A level at a moment.
    pub fn level(&self, row: &Row, level: Role) -> Level {
        let of_level = self.switches.iter().zip(&row.ratio).filter(|((_, role), _)| *role == level);
        let ratios: Vec<f64> = of_level.map(|(_, ratio)| *ratio).collect();
        let peak = ratios.iter().copied().fold(0.0, f64::max);
        let least = ratios.iter().copied().fold(f64::MAX, f64::min).min(peak);
        Level {
            peak,
            mean: ratios.iter().sum::<f64>() / ratios.len().max(1) as f64,
            spread: peak - least,
            idle: ratios.iter().filter(|ratio| **ratio < IDLE).count() as f64,
        }
    }

    /// The moments at which VMs leave as they come; the last one where the run is shorter.
    pub fn steady(&self) -> impl Iterator<Item = &Row> {
        let from = self.holding.min(self.length());
        self.rows.iter().filter(move |row| row.at >= from)
    }

    /// A level while VMs leave as they come: the highest peak, and the averages of the rest.
    pub fn steady_level(&self, level: Role) -> Level {
        let all: Vec<Level> = self.steady().map(|row| self.level(row, level)).collect();
        let mean = |of: fn(&Level) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Level {
            peak: all.iter().map(|l| l.peak).fold(0.0, f64::max),
            mean: mean(|l| l.mean),
            spread: mean(|l| l.spread),
            idle: mean(|l| l.idle),
        }
    }

    /// VMs while VMs leave as they come, on average.
    pub fn steady_vms(&self) -> f64 {
        self.steady().map(|row| f64::from(row.vms)).sum::<f64>() / self.steady().count().max(1) as f64
    }

    /// Idle switches of all levels while VMs leave as they come, on average.
    pub fn steady_idle(&self) -> f64 {
        LEVELS.iter().map(|level| self.steady_level(*level).idle).sum()
    }
}
