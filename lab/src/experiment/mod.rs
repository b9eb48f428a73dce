//! Experiments: each runs a world, writes a run folder and prints a short table beside the seed's numbers.
//!
//! A run folder holds `series.csv`, the figures as SVG, the statistics as CSV and `manifest.json`, which says what was run.

pub mod emulated;
pub mod fit;
pub mod manifest;
pub mod plot;
pub mod qos;
