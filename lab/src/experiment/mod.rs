//! Experiments: each runs a world, writes a run folder and prints a short table beside the
//! published numbers.
//!
//! A run folder holds `series.csv`, the figures as SVG, the statistics as CSV and `manifest.json`,
//! which says what was run; where packets are real also the raw counters, and on a testbed how far
//! the machines' clocks were apart.

pub mod calibrate;
pub mod datapaths;
pub mod fit;
pub mod hardware_qos;
pub mod hotspot;
pub mod joint_placement;
pub mod keep_policy;
pub mod live;
pub mod manifest;
pub mod plot;
pub mod qos;
pub mod records;
